"""How long to wait before trying again: exponential, with jitter, as Kafka's clients do (KIP-580)."""

from __future__ import annotations

import random
from typing import Final

JITTER: Final = 0.2
"""A pause is up to a fifth shorter or longer, so that clients do not come back in step."""


class Backoff:
    """Pauses in seconds that double from `first` to `most`."""

    __slots__ = ("_failures", "_first", "_most", "_rng")

    def __init__(self, first_ms: float, most_ms: float, rng: random.Random) -> None:
        self._first = first_ms / 1000
        self._most = most_ms / 1000
        self._rng = rng
        self._failures = 0

    def next(self) -> float:
        """The pause after one more failure."""
        pause = pause_after(self._failures, self._first, self._most, self._rng)
        self._failures += 1
        return pause

    def reset(self) -> None:
        """It worked: start small again."""
        self._failures = 0


def pause_after(failures: int, first: float, most: float, rng: random.Random) -> float:
    """The pause, in the unit of `first` and `most`, after so many failures before this one."""
    pause = min(most, first * 2.0 ** min(failures, 30))
    return pause * rng.uniform(1 - JITTER, 1 + JITTER)
