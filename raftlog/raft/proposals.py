"""Proposals that wait for their outcome. Each gets exactly one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from raftlog.raft.values import Outcome
from raftlog.storage.entry import Entry
from raftlog.types import RaftIndex

OnDone: TypeAlias = Callable[[Outcome, Entry], None]
"""What is called with the outcome of a proposal, and the entry that it became, without its bytes."""
Ended: TypeAlias = tuple[OnDone, Outcome, Entry]


class Proposals:
    """A leader's proposals, in the order of the log."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Entry, OnDone]] = deque()
        self._ended: list[Ended] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __bool__(self) -> bool:
        """Some wait, or have ended and were not taken."""
        return bool(self._waiting or self._ended)

    def add(self, entry: Entry, on_done: OnDone) -> None:
        index, term, kind, _, base_offset, next_offset = entry
        self._waiting.append((Entry(index, term, kind, b"", base_offset, next_offset), on_done))

    def leadership_ended(self, offered_index: RaftIndex) -> None:
        """What was offered to a disk or a peer may still be committed by a later leader; the rest may not,
        since it is in no log any more."""
        for entry, on_done in self._waiting:
            offered = entry.index <= offered_index
            outcome = Outcome.MAY_STILL_HAPPEN if offered else Outcome.WILL_NOT_HAPPEN
            self._ended.append((on_done, outcome, entry))
        self._waiting.clear()

    def take_ended(self, applied_index: RaftIndex) -> Sequence[Ended]:
        """Those that have ended since the last call, with how. A committed one has ended once the state
        machine has applied it, or is about to."""
        waiting, ended = self._waiting, self._ended
        if not ended and (not waiting or waiting[0][0].index > applied_index):
            return ()
        self._ended = []
        while waiting and waiting[0][0].index <= applied_index:
            entry, on_done = waiting.popleft()
            ended.append((on_done, Outcome.COMMITTED, entry))
        return ended
