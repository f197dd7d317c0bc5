"""Three brokers of which some die or are restarted: nothing acknowledged is lost, nothing is written twice,
and nobody hangs, with the client as it is by default. On raftlog's own brokers only: the faults are
`raftlog.testing`'s. Those that stand still or are cut off are in `tests/testing/test_testing_failover.py`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import pytest
import trio

import raftlog
from raftlog import Client, TopicPartition
from raftlog.testing import EmbeddedCluster
from tests import secured

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("RAFTLOG_TEST_BOOTSTRAP" in os.environ, reason="faults are for brokers of our own"),
]

Fault = Callable[[EmbeddedCluster], Awaitable[None]]


async def kill_the_leader(cluster: EmbeddedCluster) -> None:
    broker = await trio.to_thread.run_sync(lambda: cluster.faults.kill_leader("t"))
    await trio.sleep(2)
    await trio.to_thread.run_sync(lambda: cluster.faults.restart(broker))


async def pause_the_leader(cluster: EmbeddedCluster) -> None:
    broker = await trio.to_thread.run_sync(lambda: cluster.faults.pause_leader("t"))
    await trio.sleep(3)
    await trio.to_thread.run_sync(lambda: cluster.faults.resume(broker))


async def isolate_the_leader(cluster: EmbeddedCluster) -> None:
    await trio.to_thread.run_sync(lambda: cluster.faults.isolate_leader("t"))
    await trio.sleep(3)
    await trio.to_thread.run_sync(cluster.faults.heal)


async def restart_all_one_by_one(cluster: EmbeddedCluster) -> None:
    for broker in (1, 2, 3):
        await trio.to_thread.run_sync(lambda broker=broker: cluster.faults.restart(broker))  # type: ignore[misc]
        await trio.sleep(1)


class Load:
    """Producers that number their records, and a consumer in a group; and what they were told."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.acknowledged: dict[tuple[int, int], TopicPartition] = {}
        self.unknown: set[tuple[int, int]] = set()
        self.seen: list[tuple[int, int]] = []
        self.slowest = 0.0

    async def produce(self, producer: raftlog.Producer, number: int, stop: trio.Event) -> None:
        index = 0
        while not stop.is_set():
            started = trio.current_time()
            try:
                sent = await producer.send("t", b"%d %d" % (number, index), key=b"%d" % number)
                self.acknowledged[number, index] = TopicPartition(sent.topic, sent.partition)
            except raftlog.DeliveryError as error:
                if error.may_be_written:
                    self.unknown.add((number, index))
            self.slowest = max(self.slowest, trio.current_time() - started)
            index += 1
            await trio.sleep(0.005)

    async def consume(self, done: trio.Event) -> None:
        async with self.client.consumer("t", group="g", auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                number, index = record.value.split()
                self.seen.append((int(number), int(index)))
                if done.is_set() and set(self.acknowledged) <= set(self.seen):
                    return


@pytest.mark.parametrize("fault", [kill_the_leader, restart_all_one_by_one])
async def test_nothing_is_lost_or_written_twice(fault: Fault) -> None:
    async with secured.embedded(3) as cluster:
        with trio.fail_after(90):
            async with secured.open_client(cluster.bootstrap) as client:
                await client.admin.create_topic("t", partitions=2, replication_factor=3)
                load = Load(client)
                stop, done = trio.Event(), trio.Event()
                async with trio.open_nursery() as consuming:
                    consuming.start_soon(load.consume, done)
                    async with client.producer() as producer, trio.open_nursery() as producing:
                        for number in range(3):
                            producing.start_soon(load.produce, producer, number, stop)
                        await trio.sleep(1)
                        await fault(cluster)
                        await trio.sleep(2)
                        stop.set()
                    done.set()
                    async with client.producer() as producer:  # so that the consumer looks once more
                        for partition in (0, 1):
                            await producer.send("t", b"-1 -1", partition=partition)
                ends = await client.admin.end_offsets("t")
                log = await everything(client, ends)
    assert not load.unknown, "the producer was patient enough"
    assert len(log) == len(set(log)), "written twice"
    assert set(load.acknowledged) == set(log)
    for number in range(3):
        mine = [index for producer, index in log if producer == number]
        assert mine == sorted(mine), "out of order"
    assert set(log) <= set(load.seen), "the group has skipped some"
    assert load.slowest < 20


async def everything(client: Client, ends: dict[TopicPartition, int]) -> list[tuple[int, int]]:
    """All that is in the log, but for what only wakes the consumer."""
    records = []
    async with client.consumer("t", auto_offset_reset="earliest") as consumer:
        async for record in consumer:
            number, index = record.value.split()
            if number != b"-1":
                records.append((int(number), int(index)))
            if consumer.positions() == ends:
                return records
    raise AssertionError
