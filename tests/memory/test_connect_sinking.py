"""The loop of a sink, with a log and a group that do at any moment what real ones rarely do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect import parse, sinking
from raftlog.connect.contract import Offsets, Sink
from raftlog.connect.errors import ConnectError, PositionLost, Unavailable
from raftlog.connect.sinking import SinkRunner
from raftlog.connect.status import Status
from raftlog.connect.stdout import StdoutConfig

P = TopicPartition("t", 0)


class Log:
    """One partition: consumer, admin and client at once."""

    def __init__(self, end: int, begin: int = 0) -> None:
        self.begin, self.end = begin, end
        self.position, self.is_paused = begin, True
        self.group: int | None = None
        self.assignment = frozenset([P])
        self.admin = self
        self.runner: SinkRunner
        self.rebalance_at: int | None = None

    async def poll(self, count: int, *, max_wait_ms: float) -> list[Record]:
        await trio.lowlevel.checkpoint()
        if self.is_paused:
            return []
        first, self.position = self.position, min(self.end, self.position + count)
        found = [Record(*P, offset, 1, None, b"%d" % offset, ()) for offset in range(first, self.position)]
        if self.rebalance_at is not None and first <= self.rebalance_at < self.position:
            self.rebalance_at = None  # the partition goes and comes while the records are on their way
            await self.runner.taken(self.assignment, lost=True)
            await self.runner.given(self.assignment)
        return found

    def pause(self, *_: Any) -> None:
        self.is_paused = True

    def resume(self, *_: Any) -> None:
        self.is_paused = False

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self.position = offset

    def seek_to_beginning(self, *_: Any) -> None:
        self.position = self.begin

    async def committed(self, *_: Any) -> dict[TopicPartition, Any]:
        return {P: None if self.group is None else Record(*P, self.group, 1, None, None, ())}

    async def commit(self, offsets: Offsets) -> None:
        self.group = offsets[P]

    async def beginning_offsets(self, topic: str) -> Offsets:
        return {P: self.begin}

    async def end_offsets(self, topic: str) -> Offsets:
        return {P: self.end}


class Tens(Sink):
    """Makes ten records durable at once, and forgets others when it is closed."""

    Config = StdoutConfig

    def __init__(self, log: Log) -> None:
        super().__init__(None, "it")
        self.log, self.buffer, self.there = log, list[int](), list[int]()
        self.failures = 0

    async def open(self, partitions: frozenset[TopicPartition]) -> Offsets:
        return {}

    async def write(self, records: Sequence[Record]) -> None:
        if self.failures:
            self.failures -= 1
            self.log.end += 5  # others go on writing
            raise Unavailable("it is down")
        self.buffer += [record.offset for record in records]

    async def flush(self) -> Offsets:
        if len(self.buffer) >= 10:
            self.there += self.buffer
            self.buffer = []
        return {P: self.there[-1] + 1} if self.there else {}

    async def close(self, partitions: frozenset[TopicPartition]) -> None:
        self.buffer = []


async def _run(log: Log, sink: Tens, count: int, *, patience_s: float = 20, **options: Any) -> None:
    given = {"class": "stdout", "topics": ["t"], "batch_records": 5, **options}
    (spec,) = parse({"connector": {"it": given}}, "test")
    log.runner = runner = SinkRunner(spec, log, Status())  # type: ignore[arg-type]
    runner._sink, runner._consumer = sink, log  # type: ignore[assignment]
    await runner.given(log.assignment)
    with trio.fail_after(patience_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner._loop)
            while len(sink.there) < count:  # noqa: ASYNC110 - of the sink
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


async def test_records_polled_before_a_rebalance_are_not_written_after_it() -> None:
    """Their partition is read anew from what is safe: written as well, they would come before the others."""
    log = Log(end=10)
    log.rebalance_at = 7
    sink = Tens(log)
    await _run(log, sink, 10)
    assert sink.there == list(range(10))


async def test_what_a_sink_has_before_it_cannot_go_on_does_not_come_again() -> None:
    """Else one that fails at each seventh would never get through ten."""
    log = Log(end=10)
    given: list[list[int]] = []

    class Sevenths(Tens):
        async def write(self, records: Sequence[Record]) -> None:
            given.append([record.offset for record in records])
            taken, self.left = records[: self.left], self.left - len(records)
            self.there += [record.offset for record in taken]
            if self.left < 0:
                self.left = 7
                raise Unavailable("later", safe={P: self.there[-1] + 1} if self.there else {})

    sink = Sevenths(log)
    sink.left = 3
    await _run(log, sink, 10)
    assert sink.there == list(range(10))
    assert [offsets[0] for offsets in given] == [0, 3, 8]


@pytest.mark.parametrize(("begin", "end", "group"), [(0, 10, 25), (5, 15, 3)])
async def test_a_target_that_does_not_say_where_it_is_goes_on_where_the_log_begins(
    begin: int, end: int, group: int
) -> None:
    """The topic was made anew, or has lost its beginning, and `on_lost` is "skip"."""
    log = Log(begin=begin, end=end)
    log.group = group
    sink = Tens(log)
    await _run(log, sink, 10, on_lost="skip")
    assert sink.there == list(range(begin, end))


@pytest.mark.parametrize("on_lost", ["fail", "skip"])
async def test_a_target_that_has_more_than_the_log_ends_the_sink(on_lost: str) -> None:
    """It would leave out what it takes for written, and say that it has written it."""

    class Ahead(Tens):
        async def open(self, partitions: frozenset[TopicPartition]) -> Offsets:
            return {P: 25}

    log = Log(end=10)
    with pytest.RaisesGroup(PositionLost) as raised:
        await _run(log, Ahead(log), 10, on_lost=on_lost)
    told = str(raised.value.exceptions[0])
    assert "t-0 ends at 10" in told and "offset 25" in told and "a new name" in told
    assert "on_lost =" not in told
    assert log.group is None


async def test_a_long_pause_that_a_target_asks_for_is_kept_and_the_group_is_heard_in_it(
    autojump_clock: MockClock,
) -> None:
    """Who does not poll for long is taken for dead."""

    class Timed(Log):
        waits: ClassVar[list[float]] = []

        async def poll(self, count: int, *, max_wait_ms: float) -> list[Record]:
            found = await super().poll(count, max_wait_ms=max_wait_ms)
            if not found:
                self.waits.append(max_wait_ms / 1000)
                await trio.sleep(max_wait_ms / 1000)
            return found

    class Busy(Tens):
        async def write(self, records: Sequence[Record]) -> None:
            tried.append(trio.current_time())
            if len(tried) == 1:
                raise Unavailable("too busy", after_s=35)
            await super().write(records)

    tried: list[float] = []
    log = Timed(end=10)
    await _run(log, Busy(log), 10, patience_s=100)
    assert tried[1] - tried[0] >= 35
    assert max(log.waits) <= sinking.POLL_SECONDS_MAX


async def test_a_sink_that_starts_at_the_end_and_is_down_at_once_leaves_nothing_out() -> None:
    """Where it began is committed before the first record, so that it begins there again."""
    log = Log(end=100)
    sink = Tens(log)
    sink.failures = 2

    async def grow() -> None:
        while log.group is None and log.is_paused:
            await trio.lowlevel.checkpoint()
        log.end += 5

    async with trio.open_nursery() as nursery:
        nursery.start_soon(grow)
        nursery.start_soon(_run_from_end, log, sink)
    assert sink.there == list(range(100, 110))


async def _run_from_end(log: Log, sink: Tens) -> None:
    await _run(log, sink, 10, start="latest")


def replaced(record: Record) -> Record:
    """A transform that sends records elsewhere."""
    return record._replace(topic="elsewhere")


async def test_a_transform_of_a_sink_may_not_change_where_a_record_is_from() -> None:
    """Offsets of one topic would be taken for another's."""
    log = Log(end=10)
    with pytest.RaisesGroup(ConnectError) as raised:
        await _run(log, Tens(log), 10, transform=[{"type": f"{__name__}:replaced"}])
    assert "t-0 at offset 0" in str(raised.value.exceptions[0])
    assert "partition" in str(raised.value.exceptions[0])
