"""The client when brokers misbehave: retries, time-outs, new leaders; nothing lost, nothing twice.

The clock is Trio's autojump clock: time passes when nothing else can happen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import raftlog
from raftlog import Client, Consumer, Record, TopicPartition
from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode
from tests.memory.client_fakes import FakeCluster, Fault

KEY = TopicPartition("t", 0)


@asynccontextmanager
async def world(size: int = 1, **options: Any) -> AsyncIterator[tuple[FakeCluster, Client]]:
    """A fake cluster and a client of it."""
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery, size)
        servers = ",".join(f"b{b}:9092" for b in sorted(cluster.brokers))
        try:
            async with raftlog.open_client(servers, open_socket=cluster.open_socket, **options) as client:
                yield cluster, client
        finally:
            nursery.cancel_scope.cancel()


async def take(consumer: Consumer, count: int) -> list[Record]:
    records = []
    with trio.fail_after(1000):
        async for record in consumer:
            records.append(record)
            if len(records) == count:
                break
    return records


FAULTS = [
    Fault.CUT_BEFORE,
    Fault.CUT_AFTER,
    Fault.SILENCE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.CORRUPT_MESSAGE,
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_retried_and_writes_once(
    autojump_clock: MockClock, fault: Fault | ErrorCode
) -> None:
    async with world() as (cluster, client), client.producer() as producer:
        cluster.script[ApiKey.PRODUCE] += [fault, fault]
        assert (await producer.send("t", b"one")).offset == 0
        assert (await producer.send("t", b"two")).offset == 1
        assert cluster.logs[KEY].values == [b"one", b"two"]
        assert producer.statistics().retries >= 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_order_survives_faults_in_the_middle(
    autojump_clock: MockClock, fault: Fault | ErrorCode
) -> None:
    async with world() as (cluster, client), client.producer(batch_size=200) as producer:
        gate = cluster.gates[ApiKey.PRODUCE] = trio.Event()
        deliveries = [await producer.send_soon("t", b"%03d" % i) for i in range(200)]
        await trio.testing.wait_all_tasks_blocked()
        cluster.script[ApiKey.PRODUCE] += [fault]
        gate.set()
        del cluster.gates[ApiKey.PRODUCE]
        assert [(await delivery).offset for delivery in deliveries] == list(range(200))
        assert cluster.logs[KEY].values == [b"%03d" % i for i in range(200)]


async def test_a_broker_that_does_not_compare_is_sent_nothing_to_compare(autojump_clock: MockClock) -> None:
    """It would pass over the field that it does not know, and append."""
    async with world() as (cluster, client), client.producer() as producer:
        with pytest.raises(raftlog.NotSupported, match="does not compare offsets") as caught:
            await producer.send("t", b"one", partition=0, expected_offset=0)
        assert not caught.value.may_be_written and isinstance(caught.value, raftlog.DeliveryError)
        assert not cluster.requests(ApiKey.PRODUCE)
        assert (await producer.send("t", b"two", partition=0)).offset == 0


async def test_a_new_leader_is_found(autojump_clock: MockClock) -> None:
    async with world(2) as (cluster, client), client.producer() as producer:
        assert (await producer.send("t", b"one", partition=0)).offset == 0
        cluster.move("t", 0, 2)
        assert (await producer.send("t", b"two", partition=0)).offset == 1
        assert cluster.requests(ApiKey.PRODUCE)[-1].broker == 2


async def test_a_dead_leader_is_replaced(autojump_clock: MockClock) -> None:
    async with world(2) as (cluster, client), client.producer() as producer:
        await producer.send("t", b"one", partition=0)
        cluster.kill(1)
        delivery = await producer.send_soon("t", b"two", partition=0)
        await trio.sleep(5)
        assert not delivery.done
        cluster.move("t", 0, 2)
        before = trio.current_time()
        assert (await delivery).offset == 1
        assert trio.current_time() - before < 3


async def test_a_leader_that_says_nothing_is_left_when_there_is_another(autojump_clock: MockClock) -> None:
    async with world(2) as (cluster, client), client.producer() as producer:
        await producer.send("t", b"one", partition=0)
        cluster.script[ApiKey.PRODUCE].append(Fault.SILENCE)
        delivery = await producer.send_soon("t", b"two", partition=0)
        await trio.sleep(1)
        cluster.move("t", 0, 2)
        before = trio.current_time()
        assert (await delivery).offset == 1
        assert trio.current_time() - before < 10, "long before the request's time-out"


async def test_nobody_answers_and_the_delivery_times_out(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client), client.producer(delivery_timeout_ms=5000) as producer:
        await producer.send("t", b"one")
        cluster.script[ApiKey.PRODUCE] += [Fault.SILENCE] * 9
        before = trio.current_time()
        with pytest.raises(raftlog.DeliveryError) as caught:
            await producer.send("t", b"two")
        assert caught.value.may_be_written
        assert trio.current_time() - before == pytest.approx(5, abs=0.1)


async def test_no_broker_at_all(autojump_clock: MockClock) -> None:
    async with world(default_api_timeout_ms=10_000) as (cluster, client):
        cluster.kill(1)
        async with client.producer(max_block_ms=5000) as producer:
            for wait in (5, 5):
                before = trio.current_time()
                with pytest.raises(raftlog.RequestTimedOut):
                    await producer.send("t", b"x")
                assert trio.current_time() - before == pytest.approx(wait, abs=0.1)
        before = trio.current_time()
        with pytest.raises(raftlog.RequestTimedOut) as caught:
            await client.admin.list_topics()
        assert isinstance(caught.value.__cause__, raftlog.Disconnected)
        assert trio.current_time() - before == pytest.approx(10, abs=0.1)


async def test_a_broker_that_accepts_and_says_nothing(autojump_clock: MockClock) -> None:
    async with world(default_api_timeout_ms=10_000) as (cluster, client):
        cluster.script[ApiKey.API_VERSIONS] += [Fault.SILENCE] * 99
        before = trio.current_time()
        with pytest.raises(raftlog.RequestTimedOut):
            await client.admin.describe_cluster()
        assert trio.current_time() - before == pytest.approx(10, abs=0.1)


async def test_one_silent_broker_does_not_hide_the_others(autojump_clock: MockClock) -> None:
    async with world(3) as (cluster, client):
        cluster.script[ApiKey.METADATA] += [Fault.SILENCE]
        before = trio.current_time()
        assert await client.admin.list_topics() == ["t"]
        assert trio.current_time() - before < 3


async def test_an_old_broker_is_spoken_to_in_its_versions(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client):
        cluster.versions |= {ApiKey.API_VERSIONS: 0, ApiKey.PRODUCE: 3, ApiKey.FETCH: 4, ApiKey.METADATA: 1}
        cluster.versions |= {ApiKey.LIST_OFFSETS: 1}
        async with client.producer() as producer:
            assert (await producer.send("t", b"x")).offset == 0
        async with client.consumer("t", auto_offset_reset="earliest") as consumer:
            assert [record.value for record in await take(consumer, 1)] == [b"x"]


async def test_a_broker_without_an_api_says_so_and_does_not_hang(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client):
        del cluster.versions[ApiKey.INIT_PRODUCER_ID]
        with pytest.raises(raftlog.UnsupportedVersion, match="INIT_PRODUCER_ID"):
            async with client.producer() as producer:
                await producer.send("t", b"x")
        async with client.producer(enable_idempotence=False) as producer:
            await producer.send("t", b"x")


async def test_garbage_breaks_the_connection_and_not_the_client(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client):
        await client.admin.describe_cluster()
        await client.admin.list_topics()
        (connection,) = client._cluster.connections.open()
        await cluster.say(1, b"\0\0\0\x04nope")
        await trio.sleep(1)
        assert connection.closed is not None
        assert "not the protocol" in str(connection.closed)
        assert await client.admin.list_topics() == ["t"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_consuming_goes_on_after_a_fault(autojump_clock: MockClock, fault: Fault | ErrorCode) -> None:
    async with world() as (cluster, client):
        async with client.producer(batch_size=100) as producer:
            for i in range(50):
                await producer.send_soon("t", b"%d" % i)
        cluster.script[ApiKey.FETCH] += [fault, fault]
        cluster.script[ApiKey.LIST_OFFSETS] += [fault, fault]
        async with client.consumer("t", auto_offset_reset="earliest") as consumer:
            assert [int(record.value) for record in await take(consumer, 50)] == list(range(50))


async def test_consuming_follows_the_leader(autojump_clock: MockClock) -> None:
    async with (
        world(2) as (cluster, client),
        client.producer() as producer,
        client.consumer(partitions=[KEY], auto_offset_reset="earliest") as consumer,
    ):
        await producer.send("t", b"one", partition=0)
        await take(consumer, 1)
        cluster.move("t", 0, 2)
        await producer.send("t", b"two", partition=0)
        (record,) = await take(consumer, 1)
        assert (record.offset, record.value) == (1, b"two")


async def test_consuming_leaves_a_leader_that_says_nothing(autojump_clock: MockClock) -> None:
    async with (
        world(2) as (cluster, client),
        client.producer() as producer,
        client.consumer(partitions=[KEY], auto_offset_reset="earliest") as consumer,
    ):
        await producer.send("t", b"one", partition=0)
        await take(consumer, 1)
        cluster.script[ApiKey.FETCH].append(Fault.SILENCE)
        await trio.sleep(1)
        cluster.move("t", 0, 2)
        await producer.send("t", b"two", partition=0)
        before = trio.current_time()
        assert len(await take(consumer, 1)) == 1
        assert trio.current_time() - before < 10, "long before the request's time-out"


@pytest.mark.parametrize(
    "api", [ApiKey.HEARTBEAT, ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP, ApiKey.OFFSET_COMMIT]
)
async def test_a_coordinator_that_says_nothing_is_left_for_the_next(
    autojump_clock: MockClock, api: ApiKey
) -> None:
    async with world(2) as (cluster, client), client.producer() as producer:
        await producer.send("t", b"x", partition=0)
        cluster.script[api] += [Fault.SILENCE]
        async with client.consumer("t", group="g", auto_offset_reset="earliest") as consumer:
            with trio.move_on_after(4):
                await anext(consumer)
            cluster.coordinator = 2
            with trio.move_on_after(60):
                await anext(consumer)
            with trio.fail_after(20):
                await consumer.commit()
            assert cluster.committed == {("t", 0): 1, ("t", 1): 0}
            await trio.sleep(20)
            assert cluster.requests(ApiKey.HEARTBEAT)[-1].broker == 2


async def test_records_that_expire_under_the_reader(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client), client.producer(batch_size=1) as producer:
        for i in range(6):
            await producer.send("t", b"%d" % i)
        log = cluster.logs[KEY]
        async with client.consumer(partitions=[KEY], auto_offset_reset="earliest") as consumer:
            assert [record.offset for record in await take(consumer, 2)] == [0, 1]
            await trio.sleep(0.1)
            gate = cluster.gates[ApiKey.FETCH] = trio.Event()
            for i in range(6, 10):
                await producer.send("t", b"%d" % i)
            log.start = 8
            gate.set()
            # What was fetched is handed out: all up to 6, which answered the fetch that was waiting.
            assert [record.offset for record in await take(consumer, 7)] == [2, 3, 4, 5, 6, 8, 9]
            assert consumer.positions() == {KEY: 10}


async def test_the_log_is_shorter_than_the_position(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client), client.producer(batch_size=1) as producer:
        for i in range(6):
            await producer.send("t", b"%d" % i)
        async with client.consumer(partitions=[KEY], auto_offset_reset="latest") as consumer:
            consumer.seek_to_beginning()
            await take(consumer, 6)
            log = cluster.logs[KEY] = type(cluster.logs[KEY])(leader=1, epoch=1)
            await producer.send("t", b"again")
            with trio.move_on_after(5):
                await anext(consumer)
            assert consumer.positions() == {KEY: log.end}
            await producer.send("t", b"more")
            assert [record.value for record in await take(consumer, 1)] == [b"more"]


async def test_a_seek_overtakes_a_fetch_that_is_under_way(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client), client.producer(batch_size=1) as producer:
        for i in range(5):
            await producer.send("t", b"%d" % i)
        async with client.consumer(partitions=[KEY], auto_offset_reset="earliest") as consumer:
            gate = cluster.gates[ApiKey.FETCH] = trio.Event()
            with trio.move_on_after(1):
                await anext(consumer)
            consumer.seek("t", 0, 3)
            gate.set()
            assert [record.offset for record in await take(consumer, 2)] == [3, 4]


async def test_authorization_errors_reach_the_user(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client):
        cluster.script[ApiKey.FETCH] += [ErrorCode.TOPIC_AUTHORIZATION_FAILED]
        async with client.consumer("t", auto_offset_reset="earliest") as consumer:
            with pytest.raises(raftlog.NotAuthorized), trio.fail_after(100):
                await anext(consumer)
        cluster.topics["secret"] = b"s" * 16
        cluster.script[ApiKey.METADATA] += [ErrorCode.TOPIC_AUTHORIZATION_FAILED] * 9
        async with client.producer() as producer:
            with pytest.raises(raftlog.NotAuthorized):
                await producer.send("secret", b"x")


GROUP_FAULTS = [
    Fault.CUT_BEFORE,
    Fault.CUT_AFTER,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.REBALANCE_IN_PROGRESS,
    ErrorCode.ILLEGAL_GENERATION,
    ErrorCode.UNKNOWN_MEMBER_ID,
]


@pytest.mark.parametrize("api", [ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP, ApiKey.HEARTBEAT])
@pytest.mark.parametrize("fault", GROUP_FAULTS)
async def test_a_member_finds_its_way_back(
    autojump_clock: MockClock, api: ApiKey, fault: Fault | ErrorCode
) -> None:
    async with world() as (cluster, client), client.producer() as producer:
        cluster.script[api] += [fault, fault]
        async with client.consumer("t", group="g", auto_offset_reset="earliest") as consumer:
            for i in range(4):
                await producer.send("t", b"%d" % i)
                (record,) = await take(consumer, 1)
                assert int(record.value) <= i
                with trio.move_on_after(5):
                    await anext(consumer)  # heartbeats go on while the user waits
            with trio.fail_after(100):
                while consumer.positions() != {KEY: 4}:
                    await consumer.poll(max_wait_ms=100)
        assert cluster.committed == {("t", 0): 4}


@pytest.mark.parametrize("fault", [f for f in GROUP_FAULTS if isinstance(f, Fault)] + GROUP_FAULTS[2:6])
async def test_a_commit_is_retried(autojump_clock: MockClock, fault: Fault | ErrorCode) -> None:
    async with world() as (cluster, client), client.producer() as producer:
        await producer.send("t", b"x")
        options: Any = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
        async with client.consumer("t", group="g", **options) as consumer:
            await take(consumer, 1)
            cluster.script[ApiKey.OFFSET_COMMIT] += [fault, fault]
            await consumer.commit()
            assert cluster.committed == {("t", 0): 1}


async def test_the_coordinator_moves(autojump_clock: MockClock) -> None:
    async with world(2) as (cluster, client):
        async with client.consumer("t", group="g", auto_offset_reset="earliest") as consumer:
            with trio.move_on_after(1):
                await anext(consumer)
            assert len(consumer.assignment) == 2
            cluster.coordinator = 2
            with trio.move_on_after(20):
                await anext(consumer)
            assert [seen.broker for seen in cluster.requests(ApiKey.HEARTBEAT)][-1] == 2
            await consumer.commit()
        assert cluster.member is None, "it said goodbye to the new one"


async def test_a_fatal_group_error_ends_the_consumer(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client):
        cluster.script[ApiKey.JOIN_GROUP] += [ErrorCode.GROUP_AUTHORIZATION_FAILED]
        with pytest.raises(raftlog.NotAuthorized):
            async with client.consumer("t", group="g") as consumer:
                await anext(consumer)


async def test_heartbeats_go_on_while_a_record_is_in_hand(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client), client.producer() as producer:
        await producer.send("t", b"x")
        async with client.consumer("t", group="g", auto_offset_reset="earliest") as consumer:
            await take(consumer, 1)
            await trio.sleep(60)
            beats = [seen.at for seen in cluster.requests(ApiKey.HEARTBEAT)]
            assert len(beats) >= 18


async def test_creating_a_topic_retries_what_may_pass(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client):
        cluster.script[ApiKey.CREATE_TOPICS] += [ErrorCode.NOT_CONTROLLER, Fault.CUT_BEFORE]
        await client.admin.create_topic("new", partitions=2)
        assert ("new", 1) in cluster.logs
        with pytest.raises(raftlog.TopicExists):
            await client.admin.create_topic("new")


async def test_connecting_backs_off(autojump_clock: MockClock) -> None:
    attempts: list[float] = []

    async with world(default_api_timeout_ms=20_000) as (cluster, client):
        cluster.kill(1)
        inner = client._cluster.connections._open_socket

        async def counting(host: str, port: int) -> Any:
            attempts.append(trio.current_time())
            return await inner(host, port)

        client._cluster.connections._open_socket = counting
        with pytest.raises(raftlog.RequestTimedOut):
            await client.admin.list_topics()
    assert 15 < len(attempts) < 60
    assert max(b - a for a, b in pairwise(attempts)) < 2
