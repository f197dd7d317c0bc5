"""Batches whose producer's coordinator is asked first: is the partition in the open transaction? (KIP-890)

The first batch of a transaction on a partition asks. Without that, a batch that was long under way could open
a transaction here that nobody would ever end, or join a later one. An answer is good for one append, if no
marker of the producer was appended since the question: each question is an object of its own, and a marker
voids it. What a producer sends meanwhile waits behind the batch that asks, in order.

It knows no coordinator and no clock: who asks, and what time it is when the answer comes, is given.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Final, NamedTuple

from raftlog.partition.values import PartitionSettings, ProduceResult
from raftlog.records.batch import BatchHeader


class Membership(Enum):
    """What the coordinator says of a partition and an open transaction."""

    IN_TRANSACTION = auto()
    ADDED = auto()
    """It is from now on, or was. The producer's transactions have an epoch each, so that what begins one here
    begins a sequence."""
    NOT_IN_TRANSACTION = auto()
    PRODUCER_FENCED = auto()
    WRONG_PRODUCER = auto()
    """The transactional id is not known, or it is another producer's."""
    UNKNOWN = auto()
    """No coordinator answered."""


IS_MEMBER: Final = frozenset((Membership.IN_TRANSACTION, Membership.ADDED))

OnVerified = Callable[[Membership, float], None]
"""Called once, with the answer and the time."""
Verify = Callable[[int, int, OnVerified], None]
"""Asks about a producer id and an epoch, or has the partition added to its transaction. The answer may come
before it returns."""


class Waiting(NamedTuple):
    """A batch that is not appended yet."""

    batch: memoryview
    header: BatchHeader
    settings: PartitionSettings
    now_ms: int
    verify: Verify | None
    on_done: Callable[[ProduceResult], None]
    expected_offset: int | None = None


class _Question:
    __slots__ = ("is_void", "waiting")

    def __init__(self, first: Waiting) -> None:
        self.waiting = [first]
        self.is_void = False


Resume = Callable[[Waiting, float, Membership | None], None]
"""Goes on with a batch: with the answer for the one that asked, with None for those behind it."""


class Verifying:
    """The questions of one partition that wait for their answers, one a producer."""

    def __init__(self, resume: Resume) -> None:
        self._resume = resume
        self._questions: dict[int, _Question] = {}
        self.waiting_bytes = 0

    def holds_up(self, producer_id: int) -> bool:
        """Whether a batch of the producer waits for its answer."""
        return producer_id in self._questions

    def ask(self, waiting: Waiting) -> None:
        """Ask, and go on with the batch when the answer is there."""
        producer_id = waiting.header.producer_id
        assert producer_id not in self._questions, producer_id
        question = self._questions[producer_id] = _Question(waiting)
        self.waiting_bytes += len(waiting.batch)
        self._send(question)

    def wait_behind(self, waiting: Waiting) -> None:
        """Go on with the batch behind the one that asks."""
        self._questions[waiting.header.producer_id].waiting.append(waiting)
        self.waiting_bytes += len(waiting.batch)

    def void(self, producer_id: int) -> None:
        """A marker of the producer has come: what the coordinator is about to say may be of before."""
        question = self._questions.get(producer_id)
        if question is not None:
            question.is_void = True

    def give_up(self, refuse: Callable[[Waiting], None]) -> None:
        """Nobody waits any more: each batch is given to `refuse`. Answers that come are of no use."""
        questions, self._questions = self._questions, {}
        self.waiting_bytes = 0
        for question in questions.values():
            for waiting in question.waiting:
                refuse(waiting)

    def _send(self, question: _Question) -> None:
        first = question.waiting[0]
        assert first.verify is not None, first.header
        question.is_void = False
        header = first.header
        first.verify(header.producer_id, header.producer_epoch, partial(self._answered, question))

    def _answered(self, question: _Question, membership: Membership, now: float) -> None:
        first = question.waiting[0]
        producer_id = first.header.producer_id
        if self._questions.get(producer_id) is not question:
            return  # given up since
        if question.is_void and membership in IS_MEMBER:
            self._send(question)
            return
        del self._questions[producer_id]
        self.waiting_bytes -= sum(len(waiting.batch) for waiting in question.waiting)
        self._resume(first, now, membership)
        for waiting in question.waiting[1:]:
            self._resume(waiting, now, None)
