"""What a worker reads, by a consumer that a test leads: no record is lost, and each task gets its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from raftlog import streams as rs
from raftlog.client.errors import ClientError, Disconnected, NoOffset, NotAssigned, RebalanceNeeded
from raftlog.client.metadata import TopicPartition
from raftlog.records.record import Columns
from raftlog.streams.feeding import BUFFERED_MAX, Batches, Feed
from raftlog.streams.inputs import Input
from raftlog.streams.plan import Plan, plan
from raftlog.streams.seating import Losses, OnSourceLost, Seat, Seating

KEY = TopicPartition("in", 0)
PATIENCE_MS = 100.0


class Reader:
    """A consumer, as far as a feed reads it."""

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.fetched: Batches = []
        self.failure: ClientError | None = None
        self.at = self.start = self.end = 0
        self.is_away = False
        self.asked_at = 0.0
        self.is_lost = False
        self.paused: set[TopicPartition] = set()

    @property
    def _reading(self) -> Reader:
        return self

    async def _wait_for_records(self, deadline: float, wanted: int) -> None:
        await trio.lowlevel.checkpoint()
        with trio.CancelScope(deadline=deadline):
            await self.arrived.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    def take_batches(self, wanted: int, keys_only: Collection[str]) -> Batches:
        fetched, self.fetched = self.fetched, []
        return fetched

    def lag_since(self, since: float) -> dict[TopicPartition, int]:
        return {KEY: 0} if self.asked_at >= since else {}

    def positions(self) -> dict[TopicPartition, int]:
        return {KEY: self.at}

    async def beginning_offsets(self, key: TopicPartition) -> dict[TopicPartition, int]:
        if self.is_away:
            raise Disconnected("no broker")
        return {key: self.start}

    async def end_offsets(self, key: TopicPartition) -> dict[TopicPartition, int]:
        return {key: self.end}

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._check()
        self.at = offset

    def pause(self, key: TopicPartition) -> None:
        self._check()
        self.paused.add(key)

    def resume(self, key: TopicPartition) -> None:
        self._check()
        self.paused.discard(key)

    async def committed(self, key: TopicPartition) -> dict[TopicPartition, None]:
        return {key: None}

    def _check(self) -> None:
        if self.is_lost:
            raise NotAssigned("in-0 is not assigned")


def shape(*, is_table: bool = False, **settings: Any) -> Plan:
    app = rs.App("app", **settings)
    if is_table:
        app.stream("other").join(app.table("in", name="rows"), lambda a, b: a).to("out")
    else:
        app.stream("in").to("out")
    return plan(app)


def feed_of(consumer: Any, **settings: Any) -> Feed:
    feed = Feed(shape(**settings), {})
    feed.consumer = consumer
    return feed


def seat_of(shape: Plan) -> tuple[Seat, Any]:
    """A seat whose task runs, and that task, as far as it is fed."""
    (source,) = (source for source in shape.parts[0].sources if source.topic == "in")
    task: Any = SimpleNamespace(inputs={"in": Input(source, 0, 1, 0)}, dropped=Counter(), partition=0)
    return Seat((0, 0), frozenset({KEY}), task=task), task


def seating_of(shape: Plan, consumer: Any, source: OnSourceLost, state: str = "nowhere") -> Seating:
    restorer: Any = None
    return Seating(shape, consumer, restorer, {0: 1}, state, Losses(source=source))


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


async def test_an_offset_that_is_refused_is_that_of_a_task_and_is_told_once() -> None:
    reader = Reader()
    seat, _ = seat_of(shape())
    feed = Feed(shape(), {seat.place: seat})
    feed.consumer = reader  # type: ignore[assignment]
    reader.arrived.set()
    reader.failure = NoOffset("out of range", topic="in", partition=0)
    assert await feed.poll(PATIENCE_MS) == []
    assert feed.take_refused() == [(seat, KEY)]
    assert feed.take_refused() == []


async def test_a_partition_whose_task_does_not_run_yet_needs_no_offset() -> None:
    reader = Reader()
    seat, _ = seat_of(shape())
    seat.task = None
    feed = Feed(shape(), {seat.place: seat})
    feed.consumer = reader  # type: ignore[assignment]
    reader.arrived.set()
    reader.failure = NoOffset("nothing is committed", topic="in", partition=0)
    assert await feed.poll(PATIENCE_MS) == []
    assert feed.take_refused() == []


async def test_records_that_are_gone_before_a_running_task_read_them_end_the_app() -> None:
    reader, (seat, task) = Reader(), seat_of(shape())
    reader.at, reader.start, reader.end = 1, 8, 11
    with pytest.raises(rs.StateError, match=r"in-0 begins at 8, and the app was at 1: 7 records are lost"):
        await seating_of(shape(), reader, "fail").find_again(seat, KEY)
    assert (reader.at, task.dropped) == (1, Counter())


async def test_records_that_are_gone_are_counted_where_they_are_skipped() -> None:
    reader, (seat, task) = Reader(), seat_of(shape())
    reader.at, reader.start, reader.end = 1, 8, 11
    await seating_of(shape(), reader, "skip").find_again(seat, KEY)
    assert (reader.at, task.dropped) == (8, Counter({"gone before they were read": 7}))


async def test_a_table_goes_on_with_the_rows_that_are_left() -> None:
    reader, (seat, task) = Reader(), seat_of(shape(is_table=True))
    reader.at, reader.start, reader.end = 1, 8, 11
    await seating_of(shape(is_table=True), reader, "fail").find_again(seat, KEY)
    assert (reader.at, task.dropped) == (8, Counter())


@pytest.mark.parametrize("rule", ["fail", "skip"])
async def test_a_topic_that_was_made_anew_is_not_read_from_its_start(rule: OnSourceLost) -> None:
    reader, (seat, _) = Reader(), seat_of(shape())
    reader.at, reader.start, reader.end = 10, 0, 4
    with pytest.raises(rs.StateError, match=r"in-0 ends at 4, and the app was at 10: .* made anew"):
        await seating_of(shape(), reader, rule).find_again(seat, KEY)
    assert reader.at == 10


async def test_an_offset_that_is_there_or_that_nobody_can_be_asked_about_is_read_again() -> None:
    reader, (seat, _) = Reader(), seat_of(shape())
    seating = seating_of(shape(), reader, "fail")
    reader.at, reader.start, reader.end = 8, 8, 8
    await seating.find_again(seat, KEY)
    reader.start, reader.is_away = 9, True
    await seating.find_again(seat, KEY)
    assert reader.at == 8


@pytest.mark.parametrize(
    ("idle_ms", "fresh_s"), [(30_000, 5.0), (None, 5.0), (12_000, 3.0), (2_000, 1.5), (0, 1.5)]
)
async def test_an_input_is_read_to_its_end_while_its_leader_says_so(
    autojump_clock: MockClock, idle_ms: int | None, fresh_s: float
) -> None:
    reader = Reader()
    feed = feed_of(reader, idle_ms=idle_ms)
    feed.at_end(0)
    reader.asked_at = trio.current_time()
    await trio.sleep(fresh_s - 0.1)
    assert feed.at_end(0) == {KEY}
    await trio.sleep(0.2)
    assert feed.at_end(0) == set()
    reader.asked_at = trio.current_time()
    assert feed.at_end(0) == {KEY}


async def test_what_was_known_before_the_machine_slept_is_of_no_use(mock_clock: MockClock) -> None:
    """The clock goes on while a machine sleeps, the time of the loop does not."""
    reader = Reader()
    feed = feed_of(reader)
    feed.at_end(1_000)
    mock_clock.jump(1)
    reader.asked_at = trio.current_time()
    mock_clock.jump(0.1)
    assert feed.at_end(2_100) == {KEY}
    mock_clock.jump(0.1)
    assert feed.at_end(42_200) == set()
    reader.asked_at = trio.current_time()
    assert feed.at_end(42_200) == {KEY}


async def test_an_input_that_was_lost_meanwhile_is_not_held_back() -> None:
    """The group has taken the partition, and the worker does not know yet."""
    reader, (_, task) = Reader(), seat_of(shape())
    feed = feed_of(reader)
    task.inputs["in"].records.extend([(0, 0, None, None, ())] * (BUFFERED_MAX + 1))
    feed.hold_back(task)
    assert reader.paused == {KEY}
    reader.is_lost = True
    feed.hold_back(task)
    task.inputs["in"].records.clear()
    feed.hold_back(task)
    assert reader.paused == {KEY}


async def test_a_task_whose_partition_was_lost_while_it_was_restored_does_not_run(tmp_path: Path) -> None:
    """Its seat is left when the worker hears of it. Given back, the task begins anew."""
    reader = Reader()
    seating = seating_of(shape(), reader, "fail", str(tmp_path))
    reader.is_lost = True
    seat = Seat((0, 0), frozenset({KEY}))
    with pytest.raises(RebalanceNeeded):
        await seating.fill(seat)
    assert (seat.task, seat.database) == (None, None)
    assert seat.folder is not None
    seat.folder.close()
    reader.is_lost = False
    await seating.fill(seat := Seat((0, 0), frozenset({KEY})))
    assert seat.task is not None and seat.folder is not None
    seat.task.close()
    seat.folder.close()


async def test_the_silence_of_an_input_is_counted_anew_when_its_leader_answers_again(
    autojump_clock: MockClock,
) -> None:
    """Who writes into it could not reach the leader either: its records come a little after the answers."""
    reader, (seat, task) = Reader(), seat_of(shape())
    feed = Feed(shape(), {seat.place: seat})
    feed.consumer = reader  # type: ignore[assignment]
    feed.at_end(0)
    for second in range(0, 100, 2):
        is_away = 40 <= second < 90
        if not is_away:
            reader.asked_at = trio.current_time()
        assert feed.at_end(1_000 * second) == (set() if 44 <= second < 90 else {KEY})
        assert task.inputs["in"].quiet_since == (90_000 if second >= 90 else 0)
        await trio.sleep(2)
