"""Batches that were refused a moment ago and will come again: what a producer sent behind them must wait.

A producer has several batches under way. When the first is told to come again, those behind it may reach a
replica that would take them: one that leads meanwhile, or that does not know the producer and takes any
sequence from it. Then the first would be out of sequence for good. Knows no clock: `now` is seconds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

REFUSED_S: Final = 10.0
REFUSED_MAX: Final = 1_000
"""How long, and of how many producers, it is remembered that a batch was refused."""

_HALF: Final = 1 << 30


class _Refused(NamedTuple):
    at: float
    sequence: int


class Refused:
    """By producer id, the earliest batch that was refused, and when it first was."""

    def __init__(self) -> None:
        self._refused: dict[int, _Refused] = {}

    def note(self, producer_id: int, sequence: int, now: float) -> None:
        """The batch that begins with `sequence` is told to come again."""
        known = self._recent(producer_id, now)
        if known is not None:
            if _is_before(sequence, known.sequence):
                self._refused[producer_id] = known._replace(sequence=sequence)
            return
        self._refused.pop(producer_id, None)
        if len(self._refused) >= REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[producer_id] = _Refused(now, sequence)

    def misses(self, producer_id: int, now: float) -> bool:
        """Whether a batch of the producer is still to come again."""
        return self._recent(producer_id, now) is not None

    def is_behind(self, producer_id: int, sequence: int, now: float) -> bool:
        """Whether a batch before the one that begins with `sequence` is still to come again."""
        known = self._recent(producer_id, now)
        return known is not None and _is_before(known.sequence, sequence)

    def forget(self, producer_id: int) -> None:
        """A batch of the producer was taken."""
        self._refused.pop(producer_id, None)

    def _recent(self, producer_id: int, now: float) -> _Refused | None:
        known = self._refused.get(producer_id)
        return known if known is not None and now - known.at < REFUSED_S else None


def _is_before(one: int, other: int) -> bool:
    """Sequence numbers wrap to 0 after 2³¹-1 (KIP-98)."""
    return one != other and (other - one) & 0x7FFFFFFF < _HALF
