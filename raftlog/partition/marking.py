"""How a leader writes the markers that a coordinator sends: each once, however often it comes.

A coordinator repeats a marker until it is told that it is done, and another coordinator may take over in the
middle. What is told rests on what is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from raftlog.partition.markers import Marker, encode_marker
from raftlog.partition.producers import Producers
from raftlog.partition.transactions import MarkerVerdict, Transactions
from raftlog.partition.values import ActiveProducer
from raftlog.partition.verifying import Verifying
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import NotLeader, Outcome
from raftlog.records.batch import stamp
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.types import RaftIndex

WAITING_MAX: Final = 10_000
"""Copies of markers that wait for the first one; beyond it the coordinator sends them again."""


class Marked(Enum):
    """What became of a marker."""

    DONE = auto()
    """It is committed, or was before, or there was nothing for an administrator to end."""
    PRODUCER_FENCED = auto()
    COORDINATOR_FENCED = auto()
    NOT_NOW = auto()
    """This replica does not lead, or cannot tell: the marker should come again."""


OnMarked = Callable[[Marked], None]


class Marking:
    """The markers of one partition."""

    def __init__(
        self,
        group: RaftGroup,
        log: GroupLog,
        producers: Producers,
        transactions: Transactions,
        verifying: Verifying,
    ) -> None:
        self._group = group
        self._log = log
        self._producers = producers
        self._transactions = transactions
        self._verifying = verifying
        self._copies: list[tuple[RaftIndex, OnMarked]] = []

    def write(self, marker: Marker, *, now: float, now_ms: int, on_done: OnMarked) -> None:
        """End a producer's transaction here. `on_done` is called once."""
        group = self._group
        if not group.is_ready or group.is_transferring or self._log.damage.lost is not None:
            on_done(Marked.NOT_NOW)
            return
        producer_id = marker.producer_id
        self._verifying.void(producer_id)
        match self._transactions.check(marker, self._producers.epoch(producer_id)):
            case MarkerVerdict.NEEDED:
                self._append(marker, now_ms, on_done)
            case MarkerVerdict.DONE:
                self._answer_copy(self._transactions.pending_index(producer_id), now, on_done)
            case MarkerVerdict.PRODUCER_FENCED:
                on_done(Marked.PRODUCER_FENCED)
            case MarkerVerdict.COORDINATOR_FENCED:
                on_done(Marked.COORDINATOR_FENCED)

    def open_since(self, producer_id: int) -> int:
        """Where the producer's open transaction begins, as of what is committed; -1 where none is."""
        return self._transactions.first_offset(producer_id)

    def describe(self) -> list[ActiveProducer]:
        """Whom this replica remembers, and whose transactions are open."""
        transactions = self._transactions
        return [
            ActiveProducer(
                *each,
                transactions.coordinator_epoch(each.producer_id),
                transactions.first_offset(each.producer_id),
            )
            for each in self._producers.describe()
        ]

    def _append(self, marker: Marker, now_ms: int, on_done: OnMarked) -> None:
        batch = encode_marker(marker, now_ms)
        stamp(batch, self._log.log_end_offset, self._group.term)

        def resolved(outcome: Outcome, entry: Entry) -> None:
            on_done(Marked.DONE if outcome is Outcome.COMMITTED else Marked.NOT_NOW)

        entry = self._group.leading.propose(EntryKind.BATCH, memoryview(batch), 1, resolved)
        if isinstance(entry, NotLeader):
            on_done(Marked.NOT_NOW)
            return
        self._producers.marker_appended(marker.producer_id, marker.producer_epoch, entry.index)
        self._transactions.marker_appended(marker, entry.index)

    def _answer_copy(self, index: RaftIndex | None, now: float, on_done: OnMarked) -> None:
        """There is nothing to write, and that is true once what it rests on is committed."""
        if index is None:
            # A leader that was replaced without knowing it has not seen what its successor did.
            self._group.read_barrier(now, lambda leads: on_done(Marked.DONE if leads else Marked.NOT_NOW))
        elif len(self._copies) >= WAITING_MAX:
            on_done(Marked.NOT_NOW)
        else:
            self._copies.append((index, on_done))

    def answer_copies(self) -> None:
        """More is committed than before."""
        if not self._copies:
            return
        waiting, self._copies = self._copies, []
        for index, on_done in waiting:
            if index <= self._log.commit_index:
                on_done(Marked.DONE)
            else:
                self._copies.append((index, on_done))

    def fail_copies(self) -> None:
        """What they wait for belonged to a leadership that is over."""
        waiting, self._copies = self._copies, []
        for _, on_done in waiting:
            on_done(Marked.NOT_NOW)
