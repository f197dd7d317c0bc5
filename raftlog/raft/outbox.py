"""What a replica says, and whether it may leave this broker yet.

A vote, an acknowledgement and a request for votes hold only as long as this replica remembers its term and
its vote. So they wait here until both are on its disk. Which entries a follower acknowledges is decided in
`following`: those that it has synced.

A leader's entries and heartbeats promise nothing about its own disk. They leave before its sync, so that all
disks of a group work at once; the leader counts itself by what it has synced. They wait only while the
leader's term is not durable: after a power loss another broker could be elected in that term.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftlog.raft.messages import Addressed, Message
from raftlog.types import BrokerId

_DURABLE: Final = 0
_WRITTEN: Final = 1
_CHANGED: Final = 2

NOTHING: Final[Sequence[Addressed]] = ()


class Outbox:
    """Of one replica in one group."""

    __slots__ = ("_after_sync", "_before_sync", "_hard_state")

    def __init__(self) -> None:
        self._before_sync: list[Addressed] = []
        self._after_sync: list[Addressed] = []
        self._hard_state = _DURABLE
        """How far term and vote are on their way to the disk."""

    def send_before_sync(self, to: BrokerId, message: Message) -> None:
        """A leader's message, which rests on nothing but its term."""
        self._before_sync.append((to, message))

    def send_after_sync(self, to: BrokerId, message: Message) -> None:
        """A message that rests on this replica's term and vote."""
        self._after_sync.append((to, message))

    def forget_promises(self) -> None:
        """A newer term begins, in which the log may change. What waits speaks of the log as it was."""
        self._after_sync.clear()

    # How far term and vote are

    @property
    def is_hard_state_durable(self) -> bool:
        return self._hard_state == _DURABLE

    def hard_state_changed(self) -> None:
        self._hard_state = _CHANGED

    def written(self) -> None:
        """What was pending is in the write that is synced next."""
        if self._hard_state == _CHANGED:
            self._hard_state = _WRITTEN

    def synced(self) -> None:
        """That write is on the disk. Term and vote are not, when they have changed since."""
        if self._hard_state == _WRITTEN:
            self._hard_state = _DURABLE

    # What leaves

    @property
    def has_early(self) -> bool:
        """A leader's messages wait for the next turn."""
        return bool(self._before_sync)

    def take_before_sync(self) -> Sequence[Addressed]:
        out = self._before_sync
        if not out:
            return NOTHING
        self._before_sync = []
        if self._hard_state != _DURABLE:
            self._after_sync += out
            return NOTHING
        return out

    def take_after_sync(self) -> Sequence[Addressed]:
        out = self._after_sync
        if not out or self._hard_state != _DURABLE:
            return NOTHING
        self._after_sync = []
        return out
