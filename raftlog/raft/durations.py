"""How long something took, many times: a histogram that is cheap to add to and never grows.

Buckets are a quarter of an octave wide, so that a percentile is right to a fifth of itself. No clock in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_OCTAVES: Final = 32
"""Up to 2^32 µs, more than an hour; what is longer counts so."""
_BUCKETS: Final = 4 * _OCTAVES


def _bucket(us: int) -> int:
    octave = us.bit_length()
    if octave < 3:
        return us
    return min(4 * (octave - 2) + (us >> octave - 3 & 3), _BUCKETS - 1)


def _end_us(bucket: int) -> int:
    """Where a bucket ends, in µs."""
    if bucket < 4:
        return bucket + 1
    return (4 + bucket % 4 + 1) << bucket // 4 - 1


@dataclass(frozen=True, slots=True)
class Band:
    """How many took less than `below_ms`, and not less than the band before."""

    below_ms: float
    count: int


class Durations:
    """Add seconds, read a histogram."""

    __slots__ = ("_counts", "count", "max_s", "total_s")

    def __init__(self) -> None:
        self.clear()

    def __repr__(self) -> str:
        return f"<Durations {self.count} up to {self.max_s * 1000:.1f} ms>"

    def clear(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.total_s = self.max_s = 0.0

    def add(self, seconds: float) -> None:
        self._counts[_bucket(int(seconds * 1e6))] += 1
        self.count += 1
        self.total_s += seconds
        if seconds > self.max_s:
            self.max_s = seconds

    def percentile_ms(self, percent: float) -> float:
        """What so many percent did not exceed; 0 when nothing was added."""
        wanted, seen = self.count * percent / 100, 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(_end_us(bucket) / 1000, self.max_s * 1000)
        return 0.0

    def bands(self, edges_ms: tuple[float, ...]) -> list[Band]:
        """The histogram in coarse steps; the last band has what is beyond all edges. A bucket counts where it
        ends, so that no band looks better than it is."""
        counts = [0] * (len(edges_ms) + 1)
        for bucket, count in enumerate(self._counts):
            end_ms = _end_us(bucket) / 1000
            counts[sum(end_ms > edge for edge in edges_ms)] += count
        return [Band(edge, count) for edge, count in zip((*edges_ms, float("inf")), counts, strict=True)]

    def statistics(self) -> dict[str, float]:
        """Milliseconds, but for the count."""
        return {
            "count": self.count,
            "mean": self.total_s * 1000 / self.count if self.count else 0.0,
            "p50": self.percentile_ms(50),
            "p99": self.percentile_ms(99),
            "p999": self.percentile_ms(99.9),
            "max": self.max_s * 1000,
        }
