"""Which membership of a group counts: the latest in its log, committed or not (Raft thesis §4.1).

Pure; it knows the entries that hold memberships, and where.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raftlog.raft.values import Membership
from raftlog.storage.entry import Entry, EntryKind
from raftlog.types import BrokerId, RaftIndex


class Memberships:
    """The memberships in a group's log, oldest first. `first` holds where there is no entry; one at index 0
    is what the log was made with, and counts in its place."""

    def __init__(self, first: Membership, entries: Sequence[Entry] = ()) -> None:
        if entries and entries[0].index == 0:
            first = Membership.decode(entries[0].payload)
        self._known: list[tuple[RaftIndex, Membership]] = [(RaftIndex(0), first)]
        self.learn(entries)

    @property
    def current(self) -> Membership:
        return self._known[-1][1]

    @property
    def index(self) -> RaftIndex:
        """Where the current one lies in the log."""
        return self._known[-1][0]

    def at(self, index: RaftIndex) -> Membership:
        """The one that counted when the log ended at `index`."""
        return next((held for since, held in reversed(self._known) if since <= index), self._known[0][1])

    def add(self, index: RaftIndex, membership: Membership) -> None:
        assert index > self.index, (index, self._known)
        self._known.append((index, membership))

    def learn(self, entries: Iterable[Entry]) -> bool:
        """Take over those among `entries` that are new; True when there were any."""
        known = len(self._known)
        for entry in entries:
            if entry.kind is EntryKind.MEMBERSHIP and entry.index > self.index:
                self._known.append((entry.index, Membership.decode(entry.payload)))
        return len(self._known) > known

    def truncate(self, from_index: RaftIndex) -> bool:
        """The log was cut: what lay behind never was. True when the current one changed."""
        known = len(self._known)
        while self._known[-1][0] >= max(from_index, 1):
            self._known.pop()
        return len(self._known) < known

    def replace(self, index: RaftIndex, membership: Membership) -> None:
        """A snapshot replaced the log."""
        self._known = [(index, membership)]

    def forget(self) -> None:
        """The log is empty again, and made with the membership that counts."""
        self._known = [(RaftIndex(0), self.current)]

    def refuse(self, wanted: Membership, leader: BrokerId, commit_index: RaftIndex) -> str | None:
        """Why a leader may not change to `wanted`, by the log alone; None when it may."""
        current = self.current
        if self.index > commit_index:
            return f"the change at index {self.index} is not committed yet"
        if leader not in wanted.voters:
            return "the leader cannot remove itself: transfer leadership first"
        changed = (current.voters ^ wanted.voters) | (current.learners ^ wanted.learners)
        if len(changed) != 1:
            return f"{len(changed)} servers change, it must be one"
        for broker in wanted.voters - current.voters:
            if broker not in current.learners:
                return f"broker {broker} must be a learner first"
        return None
