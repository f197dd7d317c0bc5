"""Committed entries that are still in memory, bounded over all logs of a broker.

A follower that is slightly behind is served from here; the oldest go first, whosever they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from raftlog.storage.entry import Entry
from raftlog.types import RaftIndex

ENTRY_OVERHEAD: Final = 256
"""Bytes that an entry takes beside its payload, about."""


class Remembering(Protocol):
    def forget_to(self, index: RaftIndex) -> None:
        """Let go of the entries up to `index`, which can be read from the segments."""
        ...


class RecentEntries:
    """The ledger: who remembers what, oldest first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._queue: deque[tuple[Remembering, RaftIndex, int]] = deque()
        self.size = 0

    def add(self, log: Remembering, entries: Sequence[Entry]) -> None:
        """`log` has committed `entries` and keeps them in memory until it is told otherwise."""
        append, size = self._queue.append, 0
        for entry in entries:
            cost = len(entry.payload) + ENTRY_OVERHEAD
            append((log, entry.index, cost))
            size += cost
        self.size += size
        if self.size > self._bytes_max:
            self._shrink(self._bytes_max - self._bytes_max // 8)

    def forget_some(self) -> bool:
        """Let go of the oldest eighth, since their memory is needed. False when nothing is remembered."""
        if not self._queue:
            return False
        self._shrink(min(self.size - 1, self.size - self.size // 8))
        return True

    def _shrink(self, target: int) -> None:
        """Many at once: forgetting entries one by one would move a long list each time."""
        last: dict[Remembering, RaftIndex] = {}
        while self._queue and self.size > target:
            log, index, cost = self._queue.popleft()
            self.size -= cost
            last[log] = index
        for log, index in last.items():
            log.forget_to(index)
