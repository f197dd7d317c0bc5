"""The producer's batches and the queues that they wait in, one a partition."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import trio

from raftlog.client.errors import ClientError, DeliveryError
from raftlog.records.record import BatchBuilder


class Batch:
    """Records of one partition that travel together, and who waits for them."""

    __slots__ = (
        "attempts",
        "base_offset",
        "base_sequence",
        "builder",
        "created",
        "deadline",
        "done",
        "error",
        "event",
        "expected_offset",
        "halves",
        "identity",
        "log_append_time",
        "not_before",
        "observed",
        "order",
        "parent",
        "partition",
        "reason",
        "refused_at",
        "sealed",
        "topic",
        "uncertain",
        "wire",
    )

    def __init__(
        self, queue: Queue, order: tuple[int, ...], size_max: int, now: float, deadline: float
    ) -> None:
        self.topic = queue.topic
        self.partition = queue.partition
        self.order = order  # its place among the queue's batches, for ever
        self.builder = BatchBuilder(size_max)
        self.created = now
        self.deadline = deadline
        self.sealed = False
        self.wire: bytearray | None = None
        self.base_sequence = -1
        self.identity = (-1, -1)  # the producer's id and epoch that its numbers are of
        self.attempts = 0
        self.not_before = 0.0
        self.uncertain = False  # an attempt ended so that the records may be in the log
        self.reason: ClientError | None = None  # why the last attempt came to nothing
        self.refused_at = float("inf")  # when the broker first said that it has not what comes before
        self.done = False
        self.error: DeliveryError | None = None
        self.observed = False  # somebody has seen the error
        self.base_offset = -1
        self.log_append_time = -1
        self.event: trio.Event | None = None
        self.expected_offset: int | None = None  # the offset that its record must get; it goes alone
        self.halves: tuple[Batch, Batch] | None = None  # of a batch that was split
        self.parent: Batch | None = None  # of a half: where its records' handles point

    def part_of(self, index: int) -> tuple[Batch, int]:
        """Where a record of this batch travelled in the end, should the batch have been split."""
        if self.halves is None:
            return self, index
        first, second = self.halves
        middle = first.builder.record_count
        return first.part_of(index) if index < middle else second.part_of(index - middle)

    def __repr__(self) -> str:
        state = "done" if self.done else f"attempts={self.attempts}"
        return f"<Batch {self.topic}-{self.partition} records={self.builder.record_count} {state}>"


@dataclass(slots=True, eq=False)
class Queue:
    """One partition's batches, oldest first. `open` is the last of `waiting` while it takes records."""

    topic: str
    partition: int
    open: Batch | None = None
    waiting: deque[Batch] = field(default_factory=deque)
    under_way: list[Batch] = field(default_factory=list)
    next_sequence: int = 0
    producer_id: int = -1
    epoch: int = -1
    opened: int = 0
    known: bool = False  # the broker has accepted a numbered batch
    gap: bool = False  # a numbered batch will never be written: number anew when nothing is under way

    @property
    def identity(self) -> tuple[int, int]:
        """The producer's id and epoch in this partition."""
        return self.producer_id, self.epoch

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.under_way
