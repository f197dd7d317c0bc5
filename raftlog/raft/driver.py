"""The loop that drives every group of a broker: deliver, tick, persist, release, resolve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from raftlog.raft.group import RaftGroup
from raftlog.raft.messages import Message
from raftlog.raft.values import Role
from raftlog.types import BrokerId, GroupKey, RaftIndex, Term

if TYPE_CHECKING:
    from raftlog.storage.entry import Entry
    from raftlog.storage.store import Store


class StateMachine(Protocol):
    """What a group's committed entries are for. Called from the driver's turn; nothing here may block or
    raise: an exception is our bug and stops the broker (it would otherwise be applied twice, PYSYNCOBJ o).
    """

    @property
    def applied_index(self) -> RaftIndex:
        """The last entry whose effect the state holds. Read once, by `Driver.add`: applying goes on behind
        it. A machine that keeps all its state in the log's segments answers `log.commit_index`."""
        ...

    def apply(self, entries: Sequence[Entry], now: float) -> None:
        """Committed entries of every kind, in order, each exactly once in the life of the process."""
        ...

    def restore(self, state: bytes, index: RaftIndex) -> None:
        """The log was replaced by a snapshot that ends at `index`: forget all, take `state`."""
        ...

    def leadership_changed(self, role: Role, term: Term, leader: BrokerId | None) -> None:
        """Role, term or leader are no longer what the last call said. A LEADER may propose from here on."""
        ...

    def truncated(self, from_index: RaftIndex) -> None:
        """Uncommitted entries from `from_index` on are gone; others may come in their place."""
        ...


class Driver:
    """The groups of one broker over one Store."""

    def __init__(
        self,
        store: Store,
        *,
        send: Callable[[BrokerId, Sequence[Message]], None],
    ) -> None:
        """`send` must not block and may drop (raftlog.raft.links)."""
        raise NotImplementedError

    groups: dict[GroupKey, RaftGroup]

    def add(self, group: RaftGroup, machine: StateMachine) -> None: ...
    def remove(self, key: GroupKey) -> None:
        """Forget a group; its pending proposals end as MAY_STILL_HAPPEN. The caller deletes the log."""

    def notify(self, group: RaftGroup) -> None:
        """The group has work. Proposals call it themselves; calls in one turn of the event loop are one turn here."""

    def receive(self, sender: BrokerId, messages: Sequence[Message]) -> None: ...
    def turn(self, now: float) -> None:
        """All five phases, the sync inline. For the simulator, and what `run` does while the disk is fast."""

    async def run(self) -> None:
        """Turns for ever, until cancelled. Raises DiskFailed or SafetyError: the broker must stop then."""
