"""What a worker reads: the rounds of its consumer, and each task's share of them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final, TypeAlias

import trio

from raftlog.client.batched import lag_since, poll_batches
from raftlog.client.consumer import Consumer
from raftlog.client.errors import NoOffset, NotAssigned
from raftlog.client.metadata import TopicPartition
from raftlog.records.record import Columns
from raftlog.streams.assign import Place
from raftlog.streams.plan import Plan
from raftlog.streams.seating import Seat
from raftlog.streams.task import Task
from raftlog.streams.ways import only_counted

POLL_RECORDS_MAX: Final = 4_000
"""Records of one round of the loop: a few milliseconds of work a thousand."""
POLL_MS_MAX: Final = 100.0
BUFFERED_MAX: Final = 20_000
"""Records that wait for those of another input before a partition is paused."""
FRESH_SECONDS_MAX: Final = 5.0
"""For so long what a leader has said of a partition's end counts."""
FRESH_SHARE: Final = 0.25
"""The same, of an app's `idle_ms`: the rest of it is for records to arrive."""
FRESH_SECONDS_MIN: Final = 1.5
"""A leader that has nothing answers twice in that time."""
LEAP_SECONDS: Final = 1.0

Batches: TypeAlias = list[tuple[TopicPartition, Columns]]


class Feed:
    """The records of one worker's tasks; `seats` are the worker's own."""

    consumer: Consumer
    """There before the first round."""

    def __init__(self, plan: Plan, seats: Mapping[Place, Seat]) -> None:
        self._plan = plan
        self._seats = seats
        self._keys_only = only_counted(plan)
        self._woken = False
        self._polling = trio.CancelScope()
        self._refused: set[TopicPartition] = set()
        idle_ms = plan.app.idle_ms
        self._fresh_s = FRESH_SECONDS_MAX
        if idle_ms is not None:
            self._fresh_s = max(FRESH_SECONDS_MIN, min(FRESH_SECONDS_MAX, FRESH_SHARE * idle_ms / 1000))
        self._awake_since = self._ahead = float("-inf")
        self._answering: Set[TopicPartition] = frozenset()

    async def poll(self, wait_ms: float) -> Batches:
        """The records of a round: as soon as there are enough of them, or those that there are after a while,
        or when somebody wakes it."""
        wait_ms = 0.0 if self._woken else max(0.0, min(wait_ms, POLL_MS_MAX))
        self._woken = False
        batches: Batches = []
        self._polling = trio.CancelScope()
        with self._polling:
            batches = await self._take(wait_ms)
        if self._woken and not batches:  # or it was woken in the moment in which it had them
            batches = await self._take(0)
        return batches

    async def _take(self, wait_ms: float) -> Batches:
        try:
            return await poll_batches(
                self.consumer, POLL_RECORDS_MAX, max_wait_ms=wait_ms, keys_only=self._keys_only
            )
        except NoOffset as error:
            self._refused.add(TopicPartition(error.topic, error.partition))
            return []

    def take_refused(self) -> list[tuple[Seat, TopicPartition]]:
        """Where tasks cannot read on, since the last call: their topics do not have the offsets that come
        next. One whose task does not run yet is told where it begins when it does."""
        refused, self._refused = self._refused, set()
        return [
            (seat, key)
            for seat in self._seats.values()
            for key in seat.partitions & refused
            if seat.task is not None
        ]

    def wake(self) -> None:
        """There is work without new records: the round under way ends, or the next one does not wait."""
        self._woken = True
        self._polling.cancel()

    def deal_out(self, batches: Batches) -> set[Task]:
        """Give each task its records, and say how far its inputs are read. Gives the tasks that have come
        further without records."""
        seats = {key: seat for seat in self._seats.values() for key in seat.partitions}
        for key, columns in batches:
            seat = seats.get(key)
            if seat is not None and seat.task is not None:
                seat.task.add(key.topic, zip(*columns, strict=True))
        further = set()
        for key, position in self.consumer.positions().items():
            seat = seats.get(key)
            task = None if seat is None else seat.task
            if task is not None and task.inputs[key.topic].skip_to(position):
                further.add(task)
        return further

    def at_end(self, now_ms: int) -> set[TopicPartition]:
        """The partitions that are known to be read to their end. What was known before this machine slept, or
        before a leader fell silent, is of no use: records may have come since, and time would pass them. Nor
        is an input silent while nobody answers: who writes into it waits, too, and is as late."""
        now = trio.current_time()
        ahead = now_ms / 1000 - now
        if ahead > self._ahead + LEAP_SECONDS:  # the clock has gone on, and the loop's time has not
            self._awake_since = now
        self._ahead = ahead
        lag = lag_since(self.consumer, max(self._awake_since, now - self._fresh_s))
        for seat in self._seats.values():
            for key in seat.partitions & (lag.keys() - self._answering):
                if seat.task is not None:
                    seat.task.inputs[key.topic].quiet_since = now_ms
        self._answering = lag.keys()
        return {key for key, records in lag.items() if records == 0}

    def hold_back(self, task: Task) -> None:
        """Do not read on in what waits for another input."""
        for topic, each in task.inputs.items():
            key = TopicPartition(topic, task.partition)
            try:
                if len(each.records) > BUFFERED_MAX:
                    self.consumer.pause(key)
                elif key in self.consumer.paused and len(each.records) < BUFFERED_MAX // 2:
                    self.consumer.resume(key)
            except NotAssigned:
                pass  # the group has taken it, and tells the worker next

    def __repr__(self) -> str:
        return f"<Feed of {self._plan.app.name}>"
