"""What a worker reads, by a consumer that a test leads: no record is lost, and each task gets its own."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import trio
import trio.testing

from raftlog import streams as rs
from raftlog.client.metadata import TopicPartition
from raftlog.records.record import Columns
from raftlog.streams.feeding import Batches, Feed
from raftlog.streams.plan import plan

KEY = TopicPartition("in", 0)
PATIENCE_MS = 100.0


class Reader:
    """A consumer, as far as a feed reads it."""

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.fetched: Batches = []

    @property
    def _reading(self) -> Reader:
        return self

    async def _wait_for_records(self, deadline: float, wanted: int) -> None:
        await trio.lowlevel.checkpoint()
        with trio.CancelScope(deadline=deadline):
            await self.arrived.wait()

    def take_batches(self, wanted: int, keys_only: Collection[str]) -> Batches:
        fetched, self.fetched = self.fetched, []
        return fetched


def feed_of(consumer: Any) -> Feed:
    app = rs.App("app")
    app.stream("in").to("out")
    feed = Feed(plan(app), {})
    feed.consumer = consumer
    return feed


def batch(*values: bytes) -> tuple[TopicPartition, Columns]:
    count = len(values)
    return KEY, Columns(tuple(range(count)), (0,) * count, (b"k",) * count, values, ((),) * count)


async def test_records_that_come_in_the_same_moment_as_an_answer_are_not_thrown_away() -> None:
    reader, taken = Reader(), []
    feed = feed_of(reader)

    async def rounds() -> None:
        for _ in range(2):
            taken.extend(await feed.poll(PATIENCE_MS))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rounds)
        await trio.testing.wait_all_tasks_blocked()
        reader.fetched = [batch(b"0")]
        reader.arrived.set()  # a fetch is answered,
        feed.wake()  # and a look-up, before the loop has its turn
    assert taken == [batch(b"0")]


async def test_one_that_is_woken_gives_what_there_is_at_once() -> None:
    reader, taken = Reader(), []
    feed = feed_of(reader)

    async def one_round() -> None:
        taken.extend(await feed.poll(PATIENCE_MS))

    with trio.fail_after(PATIENCE_MS / 2000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one_round)
            await trio.testing.wait_all_tasks_blocked()
            reader.fetched = [batch(b"0")]
            feed.wake()
    assert taken == [batch(b"0")]
