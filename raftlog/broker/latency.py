"""How long something took, many times: counted in buckets, in constant memory."""

from __future__ import annotations

from typing import Final

BUCKETS: Final = 24
"""Powers of two of 0.1 ms: the last holds everything from 14 minutes on."""
BUCKET_S: Final = 0.0001


class Latency:
    """A histogram. Bucket n counts what took less than 2**n times 0.1 ms, and not less than half of that."""

    __slots__ = ("buckets", "count", "longest_s", "total_s")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self.count = 0
        self.total_s = 0.0
        self.longest_s = 0.0

    def __repr__(self) -> str:
        mean_ms = 1000 * self.total_s / self.count if self.count else 0.0
        return f"<Latency {self.count} times, mean {mean_ms:.1f} ms, longest {1000 * self.longest_s:.1f} ms>"

    def add(self, seconds: float) -> None:
        bucket = int(seconds / BUCKET_S).bit_length()
        self.buckets[bucket if bucket < BUCKETS else -1] += 1
        self.count += 1
        self.total_s += seconds
        if seconds > self.longest_s:
            self.longest_s = seconds

    def within(self, share: float) -> float:
        """Seconds within which this share of them was done, rounded up to a power of two of 0.1 ms."""
        left = share * self.count
        for bucket, count in enumerate(self.buckets):
            left -= count
            if left <= 0:
                return min(BUCKET_S * (1 << bucket), self.longest_s)
        return self.longest_s
