"""Reading whole batches, field by field: what streams do."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

import raftlog
from raftlog.client.batched import lag_since, poll_batches
from raftlog.protocol.api import ApiKey
from tests.memory.test_client_deserializers import KEY, reading


async def values_of(consumer: raftlog.Consumer, wanted: int) -> list[list[bytes | None]]:
    batches = await poll_batches(consumer, wanted, max_wait_ms=100)
    assert all(key == KEY for key, _ in batches)
    return [list(columns.values) for _, columns in batches]


async def test_batches_come_whole_until_there_are_enough_records(autojump_clock: MockClock) -> None:
    async with reading([b"0", b"1"], [b"2", b"3"], [b"4"], value_deserializer=None) as (_, consumer):
        with trio.fail_after(100):
            assert await values_of(consumer, 3) == [[b"0", b"1"], [b"2", b"3"]]
            assert consumer.positions() == {KEY: 4}
            assert consumer.statistics().records == 4
            assert await values_of(consumer, 3) == [[b"4"]]
            assert await values_of(consumer, 3) == []
            assert (consumer.lag(), consumer.statistics().records) == ({KEY: 0}, 5)


async def test_a_list_that_was_begun_goes_on_where_it_was_left(autojump_clock: MockClock) -> None:
    async with reading([b"0", b"1", b"2"], [b"3"], value_deserializer=None) as (_, consumer):
        with trio.fail_after(100):
            assert [record.value for record in await consumer.poll(1)] == [b"0"]
            seen: list[bytes | None] = []
            while len(seen) < 3:
                for found in await values_of(consumer, 9):
                    seen += found
            assert seen == [b"1", b"2", b"3"]
            consumer.seek("t", 0, 2)
            assert [record.value for record in await consumer.poll(2)] == [b"2", b"3"]
            assert consumer.statistics().records == 6


async def test_with_keys_alone_there_is_neither_value_nor_header(autojump_clock: MockClock) -> None:
    async with reading([b"0", b"1"], value_deserializer=None) as (_, consumer):
        with trio.fail_after(100):
            ((key, columns),) = await poll_batches(consumer, 2, max_wait_ms=100, keys_only={"t"})
    assert key == KEY
    assert list(zip(*columns, strict=True)) == [(0, 7, b"k", None, ()), (1, 7, b"k", None, ())]


async def test_a_lag_may_be_asked_for_as_of_answers_that_are_new(autojump_clock: MockClock) -> None:
    """The lag stays 0 while the leader says nothing; a seek forgets what was said before it."""
    async with reading([b"0"], value_deserializer=None) as (cluster, consumer):
        begun = trio.current_time()
        with trio.fail_after(100):
            assert await values_of(consumer, 1) == [[b"0"]]
            assert lag_since(consumer, begun) == {KEY: 0}
            await trio.sleep(20)
            assert lag_since(consumer, trio.current_time() - 2) == {KEY: 0}
            cluster.is_silent = True
            await trio.sleep(5)
            assert consumer.lag() == {KEY: 0}
            assert lag_since(consumer, trio.current_time() - 2) == {}
            cluster.is_silent = False
            while not lag_since(consumer, trio.current_time() - 2):  # noqa: ASYNC110
                await trio.sleep(0.1)
            consumer.seek("t", 0, 1)
            assert lag_since(consumer, begun) == {}


async def test_what_is_in_hand_is_committed_only_when_more_is_asked_for(autojump_clock: MockClock) -> None:
    options = {"value_deserializer": None, "enable_auto_commit": True, "auto_commit_interval_ms": 1000}
    async with reading([b"0"], [b"1"], **options) as (_, consumer):
        with trio.fail_after(100):
            assert await values_of(consumer, 2) == [[b"0"], [b"1"]]
            await trio.sleep(5)
            assert (await consumer.committed())[KEY].offset == 0
            assert await poll_batches(consumer, 1, max_wait_ms=5000) == []
            assert (await consumer.committed())[KEY].offset == 2


async def test_damage_is_told_behind_what_came_before_it_and_fetched_again(autojump_clock: MockClock) -> None:
    async with reading([b"0"], [b"1"], [b"2"], value_deserializer=None) as (cluster, consumer):
        place = len(cluster.logs[KEY].data) // 3 * 2 - 1
        cluster.logs[KEY].data[place] ^= 1
        with trio.fail_after(100):
            assert await values_of(consumer, 3) == [[b"0"]]
            with pytest.raises(raftlog.Disconnected, match="damaged"):
                await values_of(consumer, 3)
            assert consumer.positions() == {KEY: 1}
            cluster.logs[KEY].data[place] ^= 1
            seen: list[list[bytes | None]] = []
            while len(seen) < 2:
                try:
                    seen += await values_of(consumer, 2)
                except raftlog.Disconnected:
                    continue  # the answer that was under way
            assert seen == [[b"1"], [b"2"]]
        assert len(cluster.requests(ApiKey.FETCH)) < 30
