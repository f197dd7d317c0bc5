"""What a benchmark's measurements say: percentiles, a run's figures, the spread over runs, offsets missed.

Pure: no clock, no client, no process. A megabyte is 10⁶ bytes of record values, before compression; keys,
batch headers and protocol are not counted.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

MEGABYTE: Final = 1_000_000

Figures: TypeAlias = dict[str, float]
Latencies: TypeAlias = Sequence[float]

P999_SAMPLES_MIN: Final = 20_000
"""Below this many samples a p99.9 is the luck of twenty of them, and is left out."""


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The smallest value that `fraction` of `ordered`, which is sorted and not empty, does not exceed."""
    assert ordered, "a percentile of nothing"
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One timed run. Times are in seconds; CPU is user and system time together."""

    records: int
    payload_bytes: int
    seconds: float
    client_cpu_seconds: float
    broker_cpu_seconds: Mapping[int, float] = field(default_factory=dict)
    """By process id; empty where the brokers' processes cannot be seen."""
    others_cpu_share: float | None = None
    """Of the machine's CPU time, what neither the client nor the brokers used: who disturbed them. None
    where that cannot be seen."""
    latencies: Latencies = ()
    errors: Mapping[str, int] = field(default_factory=dict)
    """What went wrong, and how often. A run with any of it has failed."""
    interrupted: bool = False

    @property
    def failed(self) -> bool:
        return any(self.errors.values())

    def figures(self) -> Figures:
        """The run in numbers by name; what could not be measured is left out."""
        megabytes = self.payload_bytes / MEGABYTE
        seconds = max(self.seconds, 1e-9)
        figures = {
            "mb_per_s": megabytes / seconds,
            "records_per_s": self.records / seconds,
            "client_cpu_s": self.client_cpu_seconds,
        }
        if megabytes:
            figures["client_cpu_ms_per_mb"] = self.client_cpu_seconds * 1000 / megabytes
            if self.broker_cpu_seconds:
                cpu = sum(self.broker_cpu_seconds.values())
                figures["broker_cpu_ms_per_mb"] = cpu * 1000 / megabytes
        if self.others_cpu_share is not None:
            figures["others_cpu_percent"] = 100 * self.others_cpu_share
        if self.latencies:
            ordered = sorted(self.latencies)
            figures["latency_p50_ms"] = percentile(ordered, 0.5) * 1000
            figures["latency_p99_ms"] = percentile(ordered, 0.99) * 1000
            if len(ordered) >= P999_SAMPLES_MIN:
                figures["latency_p999_ms"] = percentile(ordered, 0.999) * 1000
            figures["latency_max_ms"] = ordered[-1] * 1000
        return figures


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over runs."""

    median: float
    low: float
    high: float


def spread(runs: Sequence[Run]) -> dict[str, Spread]:
    """Each figure that all of `runs` have, over them; a mean would let one disturbed run speak for all."""
    if not runs:
        return {}
    each = [run.figures() for run in runs]
    names = [name for name in each[0] if all(name in figures for figures in each)]
    return {
        name: Spread(
            statistics.median(figures[name] for figures in each),
            min(figures[name] for figures in each),
            max(figures[name] for figures in each),
        )
        for name in names
    }


class OffsetCheck:
    """Whether every offset of every partition arrived once and in order, from `start` to `end`."""

    def __init__(self, start: Mapping[int, int], end: Mapping[int, int]) -> None:
        self._next = dict(start)
        self._end = dict(end)
        self.records = 0
        self.skipped = 0
        self.repeated = 0

    @property
    def expected(self) -> int:
        """Records that are still to come."""
        return sum(max(0, end - self._next[partition]) for partition, end in self._end.items())

    def add(self, partitions: Sequence[int], offsets: Sequence[int]) -> None:
        """Records in the order in which they arrived: the partition and the offset of each."""
        start, total = 0, len(offsets)
        self.records += total
        if total and partitions.count(partitions[0]) == total:
            return self._add_run(partitions[0], offsets)
        while start < total:
            stop = start + 1
            while stop < total and partitions[stop] == partitions[start]:
                stop += 1
            self._add_run(partitions[start], offsets[start:stop])
            start = stop

    def _add_run(self, partition: int, offsets: Sequence[int]) -> None:
        first = self._next[partition]
        if offsets[0] == first and list(offsets) == list(range(first, first + len(offsets))):
            self._next[partition] = first + len(offsets)
            return
        for offset in offsets:
            if offset < self._next[partition]:
                self.repeated += 1
            else:
                self.skipped += offset - self._next[partition]
                self._next[partition] = offset + 1

    def errors(self) -> dict[str, int]:
        """What is wrong so far. Not yet consumed is not an error: see `expected`."""
        return {"skipped": self.skipped, "repeated": self.repeated}
