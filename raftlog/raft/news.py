"""What a state machine has not been told yet: what became of the end of its log, and who leads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raftlog.raft.engine import Engine
from raftlog.raft.flow import NOTHING, Ready, Standing
from raftlog.raft.values import Role
from raftlog.storage.entry import Entry
from raftlog.storage.group_log import GroupLog
from raftlog.types import RaftIndex


class News:
    """Of one replica in one group."""

    def __init__(self, log: GroupLog, engine: Engine, told: Standing) -> None:
        """`told`: what the state machine takes the replica for when it is made."""
        self._log = log
        self._engine = engine
        self._told = told
        self._cuts = 0
        self._seen = -1
        self._truncated_from: RaftIndex | None = None
        self._was_restored = False

    @property
    def is_waiting(self) -> bool:
        """Something changed that a state machine is told, or may be. Costs two additions."""
        return self._engine.changes + self._cuts != self._seen

    def log_was_cut(self, from_index: RaftIndex) -> None:
        self._cuts += 1
        if self._truncated_from is None or from_index < self._truncated_from:
            self._truncated_from = from_index

    def log_was_replaced(self) -> None:
        self._cuts += 1
        self._was_restored = True

    def take(self, standing: Standing, applied: RaftIndex, catch_up: Iterable[Sequence[Entry]]) -> Ready:
        """What was not told before; `standing` only when it is another one. `applied` is where a snapshot
        that replaced the log ends, and `catch_up` what a new leader applies first."""
        self._seen = self._engine.changes + self._cuts
        restored = (self._log.saved.state, applied) if self._was_restored else None
        truncated_from = self._truncated_from
        self._was_restored, self._truncated_from = False, None
        if standing == self._told:
            return NOTHING if restored is None and truncated_from is None else Ready(restored, truncated_from)
        self._told = standing
        return Ready(restored, truncated_from, catch_up if standing[0] is Role.LEADER else (), standing)
