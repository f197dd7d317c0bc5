"""A consumer whose deserializer raises, or whose records are damaged: nothing is lost or committed unread.

What lies before the bad record is handed out first; the position stays on it; after a seek the rest comes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import raftlog
from raftlog import Consumer, DeserializationError, TopicPartition
from raftlog.client.nursery import background
from raftlog.protocol.api import ApiKey
from raftlog.records.record import NewRecord, encode_batch
from tests.memory.client_fakes import FakeCluster
from tests.memory.test_client_cancellation import STEPS_MAX, cancelled_at

KEY = TopicPartition("t", 0)
BAD = b"bad"


def number(data: bytes) -> int:
    """A deserializer that takes bytes only, and not the bad ones."""
    assert type(data) is bytes
    return int(data)


@asynccontextmanager
async def reading(
    *batches: list[bytes | None], **options: Any
) -> AsyncIterator[tuple[FakeCluster, Consumer]]:
    """A consumer, a member of a group, of partition 0 with these batches."""
    async with background() as nursery:
        cluster = FakeCluster(nursery)
        for values in batches:
            cluster.logs[KEY].append(encode_batch([NewRecord(7, b"k", value) for value in values]))
        options = {"value_deserializer": number, "auto_offset_reset": "earliest", **options}
        async with (
            raftlog.open_client("b1:9092", open_socket=cluster.open_socket) as client,
            client.consumer("t", group="g", **options) as consumer,
        ):
            yield cluster, consumer


async def one_by_one(consumer: Consumer) -> list[Any]:
    return [(await anext(consumer)).value]


async def in_lists(consumer: Consumer) -> list[Any]:
    return [record.value for record in await consumer.poll()]


async def in_batches(consumer: Consumer) -> list[Any]:
    return [record.value for record in await anext(consumer.batches())]


WAYS = [one_by_one, in_lists, in_batches]
SHAPES = {
    "in one batch": [[b"0", b"1", BAD, b"3", None]],
    "in batches": [[b"0"], [b"1"], [BAD], [b"3"], [None]],
    "in both": [[b"0", b"1"], [BAD, b"3"], [None]],
}


@pytest.mark.parametrize("read", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_before_a_bad_record_comes_and_the_position_stays_on_it(
    autojump_clock: MockClock, read: Callable[[Consumer], Awaitable[list[Any]]], shape: str
) -> None:
    seen: list[Any] = []
    async with reading(*SHAPES[shape]) as (cluster, consumer):
        with trio.fail_after(100):
            with pytest.raises(DeserializationError, match="value deserializer") as caught:
                while True:
                    seen += await read(consumer)
            assert seen == [0, 1]
            error = caught.value
            assert (error.topic, error.partition, error.offset) == ("t", 0, 2)
            assert (error.record.value, error.record.key, error.record.timestamp) == (BAD, b"k", 7)
            assert isinstance(error.__cause__, ValueError)
            assert consumer.positions() == {KEY: 2}
            with pytest.raises(DeserializationError):
                await read(consumer)
            await consumer.commit()
            assert cluster.committed[KEY] == 2
            consumer.seek("t", 0, error.offset + 1)
            while len(seen) < 4:
                seen += await read(consumer)
            assert seen == [0, 1, 3, None]
    assert cluster.committed[KEY] == 5


async def test_a_key_that_no_deserializer_takes(autojump_clock: MockClock) -> None:
    async with reading([b"0"], key_deserializer=int) as (_, consumer):
        with pytest.raises(DeserializationError, match=r"key deserializer.*consumer.seek"):
            await consumer.poll()


async def test_a_deserializer_that_says_stop_iteration_does_not_end_a_batch_in_silence(
    autojump_clock: MockClock,
) -> None:
    async with reading([b"0", b"1"], value_deserializer=lambda data: next(iter(()))) as (_, consumer):
        with pytest.raises(DeserializationError):
            await consumer.poll()


async def test_committing_by_itself_a_consumer_that_leaves_commits_nothing_unread(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(DeserializationError):
        async with reading([b"0"], [BAD], [b"2"], auto_commit_interval_ms=1) as (cluster, consumer):
            async for _ in consumer.batches(max_wait_ms=50):
                pass
    assert cluster.committed[KEY] == 1


async def test_a_bad_record_is_told_though_other_partitions_always_have_more(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery, size=2)
        cluster.logs[KEY].append(encode_batch([NewRecord(0, value=BAD)]))
        for _ in range(100):
            cluster.logs["t", 1].append(encode_batch([NewRecord(0, value=b"1")]))
        async with (
            raftlog.open_client("b1:9092,b2:9092", open_socket=cluster.open_socket) as client,
            client.consumer("t", auto_offset_reset="earliest", value_deserializer=number) as consumer,
        ):
            with trio.fail_after(100):
                while len(consumer.positions()) < 2 or len(consumer.lag()) < 2:
                    await consumer.poll(0, max_wait_ms=10)
                with pytest.raises(DeserializationError):
                    for _ in range(3):
                        assert await consumer.poll(2)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("read", WAYS)
async def test_cancelled_anywhere_it_loses_nothing(
    autojump_clock: MockClock, read: Callable[[Consumer], Awaitable[list[Any]]]
) -> None:
    for n in range(1, STEPS_MAX):
        seen: list[Any] = []
        cancelled = False
        async with reading([b"0", b"1", BAD], [b"3"]) as (_, consumer):
            with trio.fail_after(100):
                with pytest.raises(DeserializationError):
                    while True:

                        async def once(seen: list[Any] = seen, consumer: Consumer = consumer) -> None:
                            seen += await read(consumer)

                        cancelled = await cancelled_at(n, once) or cancelled
                        if cancelled:
                            await once()
                assert seen == [0, 1]
                consumer.seek("t", 0, 3)
                assert await read(consumer) == [3]
        if not cancelled:
            return
    raise AssertionError("more awaits than expected")


async def test_damaged_records_are_told_after_those_before_them_and_fetched_again(
    autojump_clock: MockClock,
) -> None:
    async with reading([b"0"], [b"1"], [b"2"], value_deserializer=None) as (cluster, consumer):
        whole = bytes(cluster.logs[KEY].data)
        place = len(whole) // 3 * 2 - 1
        cluster.logs[KEY].data[place] ^= 1
        with trio.fail_after(100):
            assert [r.value for r in await consumer.poll(3)] == [b"0"]
            with pytest.raises(raftlog.Disconnected, match="damaged"):
                await consumer.poll(3)
            assert consumer.positions() == {KEY: 1}
            cluster.logs[KEY].data[place] ^= 1
            seen = []
            while len(seen) < 2:
                try:
                    seen += [r.value for r in await consumer.poll(2)]
                except raftlog.Disconnected:
                    continue  # the answer that was under way
            assert seen == [b"1", b"2"]
        assert len(cluster.requests(ApiKey.FETCH)) < 30
