"""Proposals that wait for their outcome, and committed entries that wait to be applied.

Both are handed out in the driver's resolve phase, and each exactly once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from raftlog.raft.values import Outcome
from raftlog.storage.entry import Entry
from raftlog.storage.group_log import GroupLog
from raftlog.types import RaftIndex

APPLY_ENTRIES_MAX: Final = 1024
APPLY_BYTES_MAX: Final = 1 << 20
"""What is applied in one turn of one group; the loop must go on answering (h)."""

OnDone: TypeAlias = Callable[[Outcome, Entry], None]
Ended: TypeAlias = tuple[OnDone, Outcome, Entry]


class Proposals:
    """A leader's proposals, in the order of the log."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Entry, OnDone]] = deque()
        self._ended: list[Ended] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, entry: Entry, on_done: OnDone) -> None:
        self._waiting.append((entry, on_done))

    def leadership_ended(self, offered_index: RaftIndex) -> None:
        """What was offered to a disk or a peer may still be committed by a later leader; the rest may not,
        since it is in no log any more."""
        for entry, on_done in self._waiting:
            offered = entry.index <= offered_index
            outcome = Outcome.MAY_STILL_HAPPEN if offered else Outcome.WILL_NOT_HAPPEN
            self._ended.append((on_done, outcome, entry))
        self._waiting.clear()

    def take_ended(self, applied_index: RaftIndex) -> list[Ended]:
        """Those that have ended since the last call, with how; a committed one once it is applied."""
        ended, self._ended = self._ended, []
        waiting = self._waiting
        while waiting and waiting[0][0].index <= applied_index:
            entry, on_done = waiting.popleft()
            ended.append((on_done, Outcome.COMMITTED, entry))
        return ended


class Applying:
    """How far the state machine is, and what it gets next. What does not follow on what waits in memory is
    read from the log when its turn comes."""

    def __init__(self, log: GroupLog) -> None:
        self.index = log.commit_index
        self.is_stuck = False
        """What comes next cannot be read until it is repaired."""
        self._log = log
        self._waiting: list[Entry] = []

    @property
    def is_behind(self) -> bool:
        return self.index < self._log.commit_index and not self.is_stuck

    def restart(self, index: RaftIndex) -> None:
        """The state machine stands at `index`."""
        self.index = index
        self.is_stuck = False
        self._waiting = []

    def committed(self, entries: list[Entry]) -> None:
        waiting = self._waiting
        if self.index + len(waiting) + 1 == entries[0].index and len(waiting) < APPLY_ENTRIES_MAX:
            self._waiting = waiting + entries if waiting else entries

    def take(self) -> list[Entry]:
        """The next entries, in order, a bounded number; they count as applied."""
        entries = self._waiting
        if entries:
            self._waiting = entries[APPLY_ENTRIES_MAX:]
            if self._waiting:
                entries = entries[:APPLY_ENTRIES_MAX]
        elif self.is_behind:
            commit_index = self._log.commit_index
            entries = self._log.entries(RaftIndex(self.index + 1), APPLY_BYTES_MAX, APPLY_ENTRIES_MAX)
            del entries[commit_index - self.index :]
        if entries:
            self.index = entries[-1].index
        return entries
