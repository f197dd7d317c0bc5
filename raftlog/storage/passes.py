"""When the cleaner has been over which part of a log.

A tombstone stays for `delete.retention.ms` after a pass has removed what it deletes, so that a consumer that
was under way sees it. Kafka stamps a delete horizon into the batch (KIP-534); here the log keeps its passes.
What counts is the time for which the broker has run: a clock that jumps purges nothing.
"""

from __future__ import annotations

from typing import Final

from raftlog.types import Offset

PASSES_MAX: Final = 64
"""Passes that are kept. Leaving one out lets tombstones stay for longer."""
SAVED_EVERY_MS: Final = 600_000
"""What a restart may forget of a pass's age."""


class Passes:
    """(up to where, how long ago in ms), in the order in which they ended."""

    def __init__(self, passes: list[tuple[Offset, int]]) -> None:
        self._passes = [(clean_to, age_ms) for clean_to, age_ms in passes]
        self._unsaved_ms = 0

    @property
    def clean_to(self) -> Offset:
        """Before this offset one value of each key is left."""
        return self._passes[-1][0] if self._passes else Offset(0)

    def add(self, clean_to: Offset) -> None:
        """A pass has ended. It does not end before an earlier one's end."""
        self._passes.append((max(clean_to, self.clean_to), 0))
        if len(self._passes) > PASSES_MAX:
            self._passes = self._passes[::2]  # PASSES_MAX is even: the newest stays

    def advance(self, elapsed_ms: int) -> bool:
        """Time has passed; whether it should be saved."""
        if not self._passes:
            return False
        self._passes = [(clean_to, age_ms + elapsed_ms) for clean_to, age_ms in self._passes]
        self._unsaved_ms += elapsed_ms
        return self._unsaved_ms >= SAVED_EVERY_MS

    def purge_to(self, retention_ms: int) -> Offset:
        """Tombstones and markers before this offset have been there for long enough."""
        return max(
            (clean_to for clean_to, age_ms in self._passes if age_ms >= retention_ms), default=Offset(0)
        )

    @property
    def lines(self) -> list[tuple[Offset, int]]:
        """(up to where, how long ago in ms) of each."""
        return list(self._passes)

    def saved(self) -> list[tuple[Offset, int]]:
        """`lines`, which the caller keeps."""
        self._unsaved_ms = 0
        return list(self._passes)
