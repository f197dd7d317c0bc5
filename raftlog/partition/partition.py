"""A partition: the offsets of one Raft group.

Put together from its parts: `producing` decides what a leader may append, `marking` how transactions end,
`reading` what a fetch may see and what an offset, a timestamp or a leader epoch maps to, `log_start` where
the log begins. It knows no topic but its name, no other partition, no socket and no clock: `now_ms` (the
broker's time, milliseconds) comes in.

Invariants: offsets are dense; nothing above the high watermark is served; a producer is answered only when
its batch is committed, or when it is certain that it never will be, or with a retriable error when
neither is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from raftlog.memory import MemoryBudget, apart
from raftlog.partition.compacting import Compacting
from raftlog.partition.counters import Counters
from raftlog.partition.log_start import LogStart
from raftlog.partition.producing import Producing
from raftlog.partition.reading import Reading
from raftlog.partition.values import PartitionError, PartitionSettings
from raftlog.partition.waiters import Waiters
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import Outcome, Role
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, Offset, PartitionId, RaftIndex, Term, TopicName

FOREVER_MS: Final = 1 << 62
HELD_APART_MAX: Final = 1000
"""Uncommitted entries that a tick looks at, in a tenth of a millisecond, for what they hold of requests."""

_COMMITTED_IF: Final = {True: Outcome.COMMITTED, False: Outcome.WILL_NOT_HAPPEN}

OnDeleted = Callable[[PartitionError | None, int], None]


class Partition:
    """One replica of a partition. Implements `raft.machine.StateMachine`."""

    def __init__(
        self,
        topic: TopicName,
        partition: PartitionId,
        topic_id: bytes,
        group: RaftGroup,
        log: GroupLog,
        settings: PartitionSettings,
        *,
        now_ms: int,
        on_leadership: Callable[[], None] = lambda: None,
        memory: MemoryBudget | None = None,
    ) -> None:
        """`on_leadership` is called when who leads, or whether the leader is ready, may have changed."""
        self.topic = topic
        self.partition = partition
        self.topic_id = topic_id
        self.group = group
        self.log = log
        self._on_leadership = on_leadership
        self.counters = Counters()
        self.waiters = Waiters()
        self._start = LogStart(group, log)
        self.producing = Producing(group, log, settings, self._start, self.counters, memory)
        self.marking = self.producing.marking
        self.reading = Reading(group, log, self._start, self.producing.transactions)
        self.compacting = Compacting(group, log, self.producing.transactions, self._save)
        self._was_ready = False
        self._now_ms = now_ms
        self._applied = log.saved.index

    def __repr__(self) -> str:
        return (
            f"<Partition {self.topic}-{self.partition} {self.group.role.name.lower()}"
            f" term={self.group.term} end={self.log.log_end_offset} committed={self.log.high_watermark}>"
        )

    # What a partition is

    @property
    def settings(self) -> PartitionSettings:
        """Of its topic; they may be changed at any time."""
        return self.producing.settings

    @settings.setter
    def settings(self, settings: PartitionSettings) -> None:
        self.producing.settings = settings

    @property
    def is_leader(self) -> bool:
        return self.group.is_leader

    @property
    def leader_epoch(self) -> Term:
        return self.group.term

    @property
    def high_watermark(self) -> Offset:
        return self.log.high_watermark

    @property
    def log_start_offset(self) -> Offset:
        return self.log.retention.start_offset

    # Deleting

    def delete_before(self, offset: int, *, now: float, on_done: OnDeleted) -> None:
        """DeleteRecords: move the log's start to `offset`, -1 meaning the high watermark; below the start it
        changes nothing. `on_done` is called once with the start, when a majority of disks has it."""
        group, log = self.group, self.log
        if not group.is_ready or group.is_transferring:
            on_done(PartitionError.NOT_LEADER, -1)
            return
        if log.damage.lost is not None:
            on_done(PartitionError.STORAGE_FAILED, -1)
            return
        target = log.high_watermark if offset == -1 else Offset(offset)
        if not 0 <= target <= log.high_watermark:
            on_done(PartitionError.OFFSET_OUT_OF_RANGE, -1)
            return

        def moved(outcome: Outcome | None) -> None:
            match outcome:
                case Outcome.COMMITTED:
                    on_done(None, self.log.retention.start_offset)
                case Outcome.WILL_NOT_HAPPEN:
                    on_done(PartitionError.NOT_LEADER, -1)
                case Outcome.MAY_STILL_HAPPEN:
                    on_done(PartitionError.MAY_STILL_HAPPEN, -1)
                case None:
                    on_done(PartitionError.OVERLOADED, -1)

        if target <= log.retention.start_offset:
            group.read_barrier(now, lambda leads: moved(_COMMITTED_IF[leads]))
        else:
            self._start.move_to(target, moved)

    def tick(
        self, now_ms: int, *, now: float = 0.0, even_ms: int = FOREVER_MS, retention_due: bool = True
    ) -> None:
        """Once a second or so: rolling by age, forgetting silent producers, how far all have the log, and,
        when it is due (log.retention.check.interval.ms), retention. `now_ms` has not jumped for `even_ms`: a
        producer that wrote before may look as if it had been silent for long."""
        elapsed_ms, self._now_ms = now_ms - self._now_ms, now_ms
        log, settings = self.log, self.settings
        log.retention.roll_if_due(now_ms)
        if log.last_index > log.commit_index:
            log.entries.hold_apart(apart, HELD_APART_MAX)
        if even_ms >= settings.producer_expiration_ms:
            self.producing.expire(now_ms - settings.producer_expiration_ms)
        self.save()
        log.retention.drop_deleted(self._applied)
        if self.group.is_ready:
            self._start.tell_followers()
            self._start.propose()
            if retention_due:
                self._retain(now_ms)
        self.compacting.tick(settings, now, elapsed_ms)

    def _retain(self, now_ms: int) -> None:
        """What the leader's log holds decides, and every replica drops the same: else a consumer could find
        the start of the log moved back after a change of leaders."""
        settings = self.settings
        start = self.log.retention.expired_to(now_ms, settings.retention_ms, settings.retention_bytes)
        if start > self.log.retention.start_offset:
            self._start.move_to(start, lambda outcome: None)

    def save(self) -> None:
        """Keep the state as of the last applied entry, so that a restart need not apply what is before it."""
        if self._applied > self.log.saved.index:
            self._save()

    def _save(self) -> None:
        self.log.saved.save(self.producing.to_bytes(self._applied), self._applied)

    def close(self) -> None:
        """The replica ends here: whoever waits for a repeat hears that it may still happen elsewhere."""
        self.producing.stop()
        self._start.fail()
        self.waiters.wake()

    @property
    def applied_index(self) -> RaftIndex:
        """The last entry whose effect the producers' state holds."""
        return self._applied

    # raft.machine.StateMachine

    def apply(self, entries: Sequence[Entry], now: float) -> None:
        """Entries are committed and in their segment."""
        for entry in entries:
            if entry.kind is EntryKind.BATCH:
                self.producing.apply(entry, self._now_ms)
            elif entry.kind is EntryKind.NOOP and entry.payload:
                self._start.apply(entry)
                self.compacting.apply(entry)
        self._applied = entries[-1].index
        transactions = self.producing.transactions
        transactions.applied_to(self._applied, entries[-1].next_offset)
        transactions.aborted.drop_before(self.log.retention.start_offset)
        self.producing.answer_settled()
        self.producing.marking.answer_copies()
        if not self._was_ready and self.group.is_ready:
            self._was_ready = True
            self.producing.became_ready(now)
            self._on_leadership()
        self.waiters.wake()

    def truncated(self, from_index: RaftIndex) -> None:
        """The uncommitted tail from `from_index` on is gone."""
        self.producing.truncated()

    def leadership_changed(self, role: Role, term: Term, leader: BrokerId | None) -> None:
        """A new leader looks at its own tail, which it has not committed yet."""
        tail = self._tail() if role is Role.LEADER else []
        self.producing.leadership_changed(tail)
        self._start.leadership_changed(tail)
        self.compacting.leadership_changed()
        self._was_ready = self.group.is_ready
        self._on_leadership()
        self.waiters.wake()

    def restore(self, state: bytes, index: RaftIndex) -> None:
        """Take over a snapshot that a leader sent; it ends at `index`."""
        self._applied = index
        self.compacting.restarted()
        self.producing.restore(state)
        self.producing.transactions.applied_to(index, self.log.high_watermark)
        self.waiters.wake()

    def _tail(self) -> list[Entry]:
        """The entries that are not committed yet."""
        after = RaftIndex(self.log.commit_index + 1)
        if after > self.log.last_index:
            return []
        return self.log.entries.read(after, max_bytes=2**62, max_count=2**31)
