"""The state machine of a group, as the driver knows it: what a partition or the metadata must be able to
do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raftlog.raft.values import Role
from raftlog.storage.entry import Entry
from raftlog.types import BrokerId, RaftIndex, Term


class StateMachine(Protocol):
    """What a group's committed entries are for. Called from the driver's turn; nothing here may block or
    raise: an exception is our bug and stops the broker, since trying again would apply an entry twice.
    """

    @property
    def applied_index(self) -> RaftIndex:
        """The last entry whose effect the machine holds. Read once, by `Driver.add`: the committed entries
        behind it are applied again, a bounded number a turn."""
        ...

    def apply(self, entries: Sequence[Entry], now: float) -> None:
        """Committed entries of every kind, in order, each exactly once in the life of the process."""
        ...

    def restore(self, state: bytes, index: RaftIndex) -> None:
        """A leader's snapshot that ends at `index` replaced the log: forget all, take `state`. It is empty,
        with index 0, when the log starts from nothing."""
        ...

    def leadership_changed(self, role: Role, term: Term, leader: BrokerId | None) -> None:
        """Role, term or leader are no longer what the last call said. A LEADER may propose from here on;
        all that this replica knew to be committed has been applied."""
        ...

    def truncated(self, from_index: RaftIndex) -> None:
        """Uncommitted entries from `from_index` on are gone; others may come in their place."""
        ...
