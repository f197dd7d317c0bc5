"""The Trio client while brokers fail: nothing lost, nothing twice, nothing skipped, nobody hangs.

The producer numbers its records per partition and is told each offset; the reader checks the log against
that. The consumer commits as it goes; what it reads must follow on what it read, or on its last commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

import raftlog
from raftlog import Client, Consumer, TopicPartition
from raftlog.testing import EmbeddedCluster, embedded_cluster

TOPIC = "orders"
PARTITIONS = 2
IN_FLIGHT = 20
PATIENCE_S = 60.0
"""More than any of this takes; a test that takes longer hangs."""

Fault = Callable[[EmbeddedCluster], Awaitable[None]]


async def kill_the_leader(cluster: EmbeddedCluster) -> None:
    cluster.faults.kill_leader(TOPIC)
    await trio.sleep(1.0)
    cluster.faults.restart()


async def kill_the_coordinator(cluster: EmbeddedCluster) -> None:
    """Of every group: the leader of the metadata."""
    coordinator = next(leader for b in cluster.brokers if (leader := b.inside.metadata.leader) is not None)
    cluster.faults.kill(coordinator)
    await trio.sleep(1.0)
    cluster.faults.restart()


async def isolate_the_leader(cluster: EmbeddedCluster) -> None:
    cluster.faults.isolate_leader(TOPIC)
    await trio.sleep(2.5)
    cluster.faults.heal()


async def pause_the_leader(cluster: EmbeddedCluster) -> None:
    cluster.faults.pause_leader(TOPIC)
    await trio.sleep(2.5)
    cluster.faults.heal()


async def slow_disk_of_the_leader(cluster: EmbeddedCluster) -> None:
    cluster.faults.slow_disk(cluster.leader(TOPIC), 0.3)
    await trio.sleep(1.5)
    cluster.faults.heal()


async def stop_each_in_turn(cluster: EmbeddedCluster) -> None:
    for broker in cluster.brokers:
        await trio.to_thread.run_sync(cluster.faults.stop, broker)
        cluster.faults.restart(broker)
        await cluster.ready()


FAULTS = [
    kill_the_leader,
    kill_the_coordinator,
    isolate_the_leader,
    pause_the_leader,
    slow_disk_of_the_leader,
    stop_each_in_turn,
]


class Log:
    """What a producer was told, against what is there."""

    def __init__(self) -> None:
        self.acked: dict[tuple[int, int], bytes] = {}  # by partition and offset
        self.sent: dict[int, int] = defaultdict(int)

    async def keep_producing(self, client: Client, stop: trio.Event) -> None:
        async with client.producer() as producer, trio.open_nursery() as nursery:
            for partition in range(PARTITIONS):
                nursery.start_soon(self._produce, producer, partition, stop)

    async def _produce(self, producer: raftlog.Producer, partition: int, stop: trio.Event) -> None:
        room = trio.Semaphore(IN_FLIGHT)

        async def wait(delivery: raftlog.Delivery, value: bytes) -> None:
            told = await delivery
            key = (partition, told.offset)
            assert key not in self.acked, f"offset {key} was told for {self.acked[key]!r} and {value!r}"
            self.acked[key] = value
            room.release()

        async with trio.open_nursery() as nursery:
            while not stop.is_set():
                await room.acquire()
                value = b"%d" % self.sent[partition]
                self.sent[partition] += 1
                delivery = await producer.send_soon(TOPIC, value, partition=partition)
                nursery.start_soon(wait, delivery, value)
                await trio.sleep(0.005)

    async def check(self, client: Client) -> None:
        """Every record is there, once, in order, at the offset that was told."""
        total = sum(self.sent.values())
        assert len(self.acked) == total, "every delivery was acknowledged"
        found: dict[int, list[bytes]] = defaultdict(list)
        async with client.consumer(TOPIC, auto_offset_reset="earliest") as consumer:
            ends = await client.admin.end_offsets(TOPIC)
            assert sum(ends.values()) == total, f"{total} were sent, the log holds {ends}"
            for _ in range(total):
                record = await anext(consumer)
                assert self.acked[record.partition, record.offset] == record.value
                found[record.partition].append(record.value)
        for partition, values in found.items():
            assert values == [b"%d" % number for number in range(self.sent[partition])]


class Reader:
    """A group's only member, which commits what it has read."""

    def __init__(self) -> None:
        self.next: dict[TopicPartition, int] = {}
        self.may_go_on_at: dict[TopicPartition, set[int]] = defaultdict(lambda: {0})
        self.repeated = 0

    async def keep_reading(self, client: Client) -> None:
        async with client.consumer(
            TOPIC,
            group="readers",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=6000,
            heartbeat_interval_ms=300,
        ) as consumer:
            async for batch in consumer.batches(50, max_wait_ms=100):
                for record in batch:
                    self.take(TopicPartition(record.topic, record.partition), record.offset)
                await self.commit(consumer, {TopicPartition(r.topic, r.partition) for r in batch})

    def take(self, key: TopicPartition, offset: int) -> None:
        expected = self.next.get(key, 0)
        if offset != expected:
            allowed = self.may_go_on_at[key]
            assert offset in allowed, f"{key}: read {offset}, after {expected - 1} and commits of {allowed}"
            self.repeated += 1
        self.next[key] = offset + 1

    async def commit(self, consumer: Consumer, keys: set[TopicPartition]) -> None:
        tried = {key: self.next[key] for key in keys}
        for key, offset in tried.items():
            self.may_go_on_at[key].add(offset)  # it may take effect even when it fails
        try:
            await consumer.commit(tried)
        except raftlog.ClientError:
            return
        for key, offset in tried.items():
            self.may_go_on_at[key] = {offset}

    async def until_at(self, ends: dict[TopicPartition, int]) -> None:
        while self.next != {key: end for key, end in ends.items() if end}:  # noqa: ASYNC110
            await trio.sleep(0.02)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_nothing_is_lost_repeated_or_skipped(fault: Fault) -> None:
    log, reader, stop = Log(), Reader(), trio.Event()
    with trio.fail_after(PATIENCE_S):
        async with embedded_cluster(3) as cluster, cluster.client(request_timeout_ms=5000) as client:
            cluster.create_topic(TOPIC, PARTITIONS)
            async with trio.open_nursery() as reading:
                reading.start_soon(reader.keep_reading, client)
                async with trio.open_nursery() as producing:
                    producing.start_soon(log.keep_producing, client, stop)
                    await trio.sleep(0.3)
                    await fault(cluster)
                    await trio.sleep(0.3)
                    stop.set()
                await cluster.ready()
                await log.check(client)
                await reader.until_at(await client.admin.end_offsets(TOPIC))
                reading.cancel_scope.cancel()


@asynccontextmanager
async def silent_broker() -> AsyncIterator[tuple[EmbeddedCluster, Client]]:
    """A broker that was met and then says nothing any more."""
    async with embedded_cluster(1) as cluster:
        cluster.create_topic(TOPIC)
        await warm_up(cluster)
        async with cluster.client(request_timeout_ms=800, default_api_timeout_ms=1500) as client:
            yield cluster, client


async def warm_up(cluster: EmbeddedCluster) -> None:
    """The first use of anything imports it, which is not what the time-outs are about."""
    async with cluster.client() as client, client.producer() as producer:
        await producer.send(TOPIC, b"warm")
        async with client.consumer(TOPIC, group="warm", auto_offset_reset="earliest") as consumer:
            await anext(consumer)


async def fails_in_time(name: str, call: Callable[[], Awaitable[object]]) -> None:
    started = trio.current_time()
    with trio.fail_after(10), pytest.raises(raftlog.ClientError):
        await call()
    assert trio.current_time() - started < 4, name


async def test_a_broker_that_does_not_answer_hangs_no_call_beyond_its_time_out() -> None:
    async with silent_broker() as (cluster, client):
        async with (
            client.producer(delivery_timeout_ms=1500, max_block_ms=1500) as producer,
            client.consumer(TOPIC, group="readers", auto_offset_reset="earliest") as consumer,
        ):
            await producer.send(TOPIC, b"one apple")
            while (await anext(consumer)).value != b"one apple":
                pass
            key = TopicPartition(TOPIC, 0)
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "send": lambda: producer.send(TOPIC, b"another"),
                "send elsewhere": lambda: producer.send("elsewhere", b"another"),
                "commit": lambda: consumer.commit({key: 1}),
                "committed": lambda: consumer.committed(key),
                "end_offsets": lambda: consumer.end_offsets(key),
                "create_topic": lambda: client.admin.create_topic("new"),
                "list_topics": lambda: client.admin.list_topics(),
                "describe_group": lambda: client.admin.describe_group("readers"),
                "describe_configs": lambda: client.admin.describe_configs(topic=TOPIC),
            }
            cluster.faults.pause(1)
            async with trio.open_nursery() as nursery:
                for name, call in calls.items():
                    nursery.start_soon(fails_in_time, name, call)
            started = trio.current_time()
            assert await consumer.poll(max_wait_ms=300) == []
            assert trio.current_time() - started < 1
            started = trio.current_time()
        assert trio.current_time() - started < 8, "leaving must not wait for a broker that is silent"
        cluster.faults.heal()
        assert TOPIC in await client.admin.list_topics()


async def test_the_checks_can_fail() -> None:
    log = Log()
    async with embedded_cluster(1) as cluster, cluster.client() as client:
        cluster.create_topic(TOPIC, PARTITIONS)
        async with client.producer() as producer:
            for value in (b"0", b"1", b"1"):  # the last one is a duplicate
                told = await producer.send(TOPIC, value, partition=0)
                log.acked[0, told.offset] = value
        log.sent[0] = 3
        with pytest.raises(AssertionError):
            await log.check(client)
        log.sent[0] = 2
        del log.acked[0, 2]
        with pytest.raises(AssertionError, match="the log holds"):
            await log.check(client)
    reader = Reader()
    reader.take(TopicPartition(TOPIC, 0), 0)
    with pytest.raises(AssertionError, match="read 2"):
        reader.take(TopicPartition(TOPIC, 0), 2)
