"""What the whole broker did in each of the last seconds, so that a plot is there when a page opens."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

import trio

from raftlog.http.exposition import Pace
from raftlog.http.view import View
from raftlog.protocol.api import ApiKey

POINTS: Final = 600
INTERVAL_S: Final = 1.0
STEP: Final = 100
"""Partitions that are added up before others have their turn."""

COUNTED: Final = ("records_in", "batches_in", "bytes_in", "bytes_out", "requests")
READ: Final = ("connections", "memory_bytes", "groups_led", "term")
LATENCIES: Final = ("produce_p50_ms", "produce_p99_ms")
"""Of what was produced in that second; nothing where nothing was."""
LAG: Final = ("lag",)
"""Records that groups have not read of the partitions that are led here: the brokers' sum is the
cluster's."""
SERIES: Final = (*COUNTED, *READ, *LATENCIES, *LAG)
"""Rates a second, and figures of the moment."""
LAG_S: Final = 5.0

Point = tuple[int, tuple[float | None, ...]]


class History:
    """A ring of points; each is (wall clock in ms, a figure of every series)."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._points: deque[Point] = deque(maxlen=POINTS)
        self._buckets: list[int] = []
        self._lag = 0
        self._leading = 0
        view.inside.reports.history = self.since

    async def run(self) -> None:
        """A point a second, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_lag)
            await self._note()

    async def _note(self) -> None:
        before, at = await self._totals(), time.monotonic()
        while True:
            await trio.sleep(INTERVAL_S)
            totals, now = await self._totals(), time.monotonic()
            rates = [max(0.0, new - old) / (now - at) for new, old in zip(totals, before, strict=True)]
            before, at = totals, now
            figures = (*rates, *self._figures(), *self._latencies(), float(self._lag))
            self._points.append((time.time_ns() // 1_000_000, figures))

    @property
    def last(self) -> dict[str, float | None]:
        """The newest figures; none in the first second."""
        return dict(zip(SERIES, self._points[-1][1], strict=True)) if self._points else {}

    def since(self, at_ms: int, limit: int = POINTS) -> list[list[float | None]]:
        """The points after a time, so many at most: each its time, then the series."""
        points = [point for point in self._points if point[0] > at_ms][-limit:]
        return [[at, *(None if f is None else round(f, 3) for f in figures)] for at, figures in points]

    async def _totals(self) -> list[int]:
        """What is counted. What is led is found on the way: asking all groups for it at once took tens of
        milliseconds of ten thousand."""
        records = batches = taken = given = 0
        leading = int(self._view.inside.metadata.group.is_leader)
        for number, partition in enumerate(self._view.inside.replicas.partitions, 1):
            leading += partition.is_leader
            counters = partition.counters
            records += counters.records_in
            batches += counters.batches_in
            taken += counters.bytes_in
            given += counters.bytes_out
            if number % STEP == 0:
                await trio.lowlevel.checkpoint()
        self._leading = leading
        kafka = self._view.kafka()
        return [records, batches, taken, given, kafka.statistics()["requests"] if kafka else 0]

    def _figures(self) -> list[int]:
        inside, kafka = self._view.inside, self._view.kafka()
        memory = inside.memory
        return [
            kafka.statistics()["connections"] if kafka else 0,
            memory.requests + memory.kept + memory.answers,
            self._leading,
            inside.metadata.group.term,
        ]

    def _latencies(self) -> tuple[float | None, float | None]:
        """Of this second's produce requests, by what their buckets have gained."""
        kafka = self._view.kafka()
        traffic = None if kafka is None else kafka.traffic.get(ApiKey.PRODUCE)
        if traffic is None:
            return None, None
        now, before = list(traffic.latency.buckets), self._buckets or [0] * len(traffic.latency.buckets)
        self._buckets = now
        gained = [new - old for new, old in zip(now, before, strict=True)]
        return _within(gained, 0.5), _within(gained, 0.99)

    async def _watch_lag(self) -> None:
        while True:
            self._lag = await self._total_lag()
            await trio.sleep(LAG_S)

    async def _total_lag(self) -> int:
        inside, pace, total = self._view.inside, Pace(), 0
        offsets = inside.metadata.catalog.group_offsets
        for group in list(offsets):
            for topic in list(offsets.topics(group)):
                for number, at in offsets.rows(group, topic).items():
                    replica = inside.replicas.partition(topic, number)
                    if replica is not None and replica.is_leader:
                        total += max(0, replica.high_watermark - at.offset)
                await pace.breathe()
        return total


def _within(buckets: list[int], share: float) -> float | None:
    """Milliseconds within which this share was done, evenly spread within a bucket (a power of two of 0.1
    ms)."""
    left = share * sum(buckets)
    if left == 0:
        return None
    for bucket, count in enumerate(buckets):
        if left <= count:
            low, high = (0.0 if bucket == 0 else 0.05 * (1 << bucket)), 0.1 * (1 << bucket)
            return low + (high - low) * left / count
        left -= count
    return None
