"""What a replica has promised to its group, beside the entries that it acknowledges: its term and its vote. A
replica that may lack entries which it acknowledged has promised to say so.

Invariants, each a SafetyError when broken: a term never falls, and a vote is never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raftlog.errors import SafetyError
from raftlog.storage.entry import HardState
from raftlog.storage.wal_format import RecordKind
from raftlog.types import GroupKey


class AddRecord(Protocol):
    """Makes a record of the log pending in the write-ahead log."""

    def __call__(self, kind: RecordKind, *, index: int = 0, term: int = 0) -> None: ...


class Promises:
    """Of one log, through all its lives: they outlive restarts and resets. What is set is pending like an
    entry: it is durable once the next ticket is synced."""

    def __init__(
        self,
        key: GroupKey,
        hard_state: HardState,
        may_lack: bool,
        add: AddRecord,
        note_changed: Callable[[], None],
    ) -> None:
        """`note_changed` sees that the next checkpoint writes the snapshot file."""
        self._key = key
        self._hard_state = hard_state
        self._may_lack = may_lack
        self._add = add
        self._note_changed = note_changed

    @property
    def hard_state(self) -> HardState:
        """Term and vote as last set. A term that falls, or a second vote in one term, is a SafetyError."""
        return self._hard_state

    @hard_state.setter
    def hard_state(self, value: HardState) -> None:
        old = self._hard_state
        if value == old:
            return
        if value.term < old.term or (value.term == old.term and old.voted_for is not None):
            raise SafetyError(f"group {self._key.hex()}: {old} must not become {value}")
        self._hard_state = value
        vote = -1 if value.voted_for is None else value.voted_for
        self._add(RecordKind.HARD_STATE, index=vote, term=value.term)

    @property
    def may_lack(self) -> bool:
        """Whether the log may lack what its replica has acknowledged, under this key, in an earlier log."""
        return self._may_lack

    @may_lack.setter
    def may_lack(self, value: bool) -> None:
        if value != self._may_lack:
            self._may_lack = value
            self._note_changed()
            self._add(RecordKind.MAY_LACK, index=int(value))
