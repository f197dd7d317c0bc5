"""The metadata group on this broker: commands in, a catalog out.

A command becomes one record batch holding one record, so the group's log is stored and dumped as any
partition's. A proposal ends in the index of its entry; what applying the entry came to is the same on every
broker, so a proposer on another broker waits until its own state is there and looks it up: it reads its
writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.commands import decode_command
from raftlog.metadata.results import Result
from raftlog.metadata.state import MetadataState
from raftlog.raft.engine import RaftGroup
from raftlog.raft.values import NotLeader, Outcome, Role
from raftlog.records.batch import stamp
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from raftlog.storage.entry import Entry, EntryKind
from raftlog.types import BrokerId, RaftIndex, Term

SNAPSHOT_EVERY: Final = 10_000
"""Entries between two snapshots of the state; replaying that many takes a fraction of a second."""

MAX_WAITING: Final = 10_000
"""Proposals that wait at once; beyond it a proposer is told to come back."""

RESULTS_KEPT: Final = 2 * MAX_WAITING
"""Results that can be looked up; more than can be waited for."""


class ProposalFailed(Exception):
    """The command will not be applied, or (`may_still_happen`) nobody knows. Both may be tried again."""

    def __init__(self, reason: str, *, may_still_happen: bool) -> None:
        super().__init__(reason)
        self.may_still_happen = may_still_happen


OnDone = Callable[[RaftIndex | ProposalFailed], None]


class MetadataGroup:
    """Implements `raft.driver.StateMachine` for the metadata group."""

    def __init__(self, group: RaftGroup, state: MetadataState, on_change: Callable[[], None]) -> None:
        """`on_change` is called after entries were applied and when the leadership moved."""
        self.group = group
        self.state = state
        self._on_change = on_change
        self._results: dict[RaftIndex, Result] = {}
        self._waiting = 0
        self._applied = group.log.snapshot_index
        self._last_at_start = group.log.last_index
        self._applied_before = RaftIndex(0)
        if group.log.snapshot_state:
            state.restore(group.log.snapshot_state)

    def __repr__(self) -> str:
        role = self.group.role.name.lower()
        return f"<MetadataGroup {role} term={self.group.term} applied={self.catalog.applied_index}>"

    @property
    def catalog(self) -> Catalog:
        return self.state.catalog

    @property
    def is_leader(self) -> bool:
        return self.group.is_leader

    @property
    def is_ready(self) -> bool:
        """Leads, and has applied all that was committed before."""
        return self.group.is_ready and self._applied >= self.group.commit_index

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that this broker's log held at its start has been applied, or replaced, and
        everything that had been applied before the log was lost. A damaged log says nothing about what is
        in it."""
        known = max(self._last_at_start, self._applied_before)
        return self.group.log.damage is None and self._applied >= known

    @property
    def leader(self) -> BrokerId | None:
        return self.group.leader

    def propose(self, command: bytes, *, now: float, now_ms: int, on_done: OnDone) -> None:
        """Propose an encoded command on the leader; `on_done` is called once, with the index at which it
        was applied here."""
        if self._waiting >= MAX_WAITING:
            on_done(ProposalFailed("too many commands are waiting", may_still_happen=False))
            return
        batch = encode_batch([NewRecord(now_ms, None, command, ())])
        stamp(batch, self.group.log.log_end_offset, self.group.term)

        def resolved(outcome: Outcome, entry: Entry) -> None:
            self._waiting -= 1
            match outcome:
                case Outcome.COMMITTED:
                    on_done(entry.index)
                case Outcome.WILL_NOT_HAPPEN:
                    on_done(ProposalFailed("the leader changed", may_still_happen=False))
                case Outcome.MAY_STILL_HAPPEN:
                    on_done(ProposalFailed("the leader changed", may_still_happen=True))

        entry = self.group.propose(memoryview(batch), 1, now, resolved)
        if isinstance(entry, NotLeader):
            on_done(ProposalFailed("this broker does not lead the metadata group", may_still_happen=False))
            return
        self._waiting += 1

    def result_at(self, index: RaftIndex) -> Result | None:
        """What the command at `index` came to; None when it is not applied yet, or applied long ago."""
        return self._results.get(index)

    def save(self) -> None:
        """Keep the state as of the last applied entry and let the log before it go."""
        if self._applied > self.group.log.snapshot_index:
            self.group.log.save_snapshot(self.state.to_bytes(), self._applied, drop_before=True)

    @property
    def applied_index(self) -> RaftIndex:
        """The last entry that is in the catalog."""
        return self._applied

    # raft.driver.StateMachine

    def apply(self, entries: Sequence[Entry], now: float) -> None:
        for entry in entries:
            if entry.kind is EntryKind.BATCH:
                (record,) = decode_batch(entry.payload)
                assert record.value is not None
                self._results[entry.index] = self.state.apply(decode_command(record.value), entry.index)
        while len(self._results) > RESULTS_KEPT:
            del self._results[next(iter(self._results))]
        self._applied = entries[-1].index
        if self._applied - self.group.log.snapshot_index >= SNAPSHOT_EVERY:
            self.save()
        self._on_change()

    def leadership_changed(self, role: Role, term: Term, leader: BrokerId | None) -> None:
        self._on_change()

    def truncated(self, from_index: RaftIndex) -> None:
        self._last_at_start = min(self._last_at_start, RaftIndex(from_index - 1))

    def restore(self, state: bytes, index: RaftIndex) -> None:
        self.state.restore(state or MetadataState().to_bytes())
        self._applied_before = max(self._applied_before, self._applied)
        self._applied = index
        self._on_change()
