"""What the whole broker did in each of the last seconds, so that a plot is there when a page opens."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

import trio

from raftlog.http.view import View

POINTS: Final = 600
INTERVAL_S: Final = 1.0
STEP: Final = 200
"""Partitions that are added up before others have their turn."""

COUNTED: Final = ("records_in", "batches_in", "bytes_in", "bytes_out", "requests")
READ: Final = ("connections", "memory_bytes", "groups_led", "term")
SERIES: Final = (*COUNTED, *READ)
"""Rates a second, and figures of the moment."""


class History:
    """A ring of points; each is (wall clock in ms, a figure of every series)."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._points: deque[tuple[int, tuple[float, ...]]] = deque(maxlen=POINTS)
        self._moved = trio.Event()

    async def run(self) -> None:
        """A point a second, until cancelled."""
        before, at = await self._totals(), time.monotonic()
        while True:
            await trio.sleep(INTERVAL_S)
            totals, now = await self._totals(), time.monotonic()
            rates = [max(0.0, new - old) / (now - at) for new, old in zip(totals, before, strict=True)]
            before, at = totals, now
            self._points.append((time.time_ns() // 1_000_000, (*rates, *self._figures())))
            self._moved.set()
            self._moved = trio.Event()

    @property
    def last(self) -> dict[str, float]:
        """The newest figures; none in the first second."""
        return dict(zip(SERIES, self._points[-1][1], strict=True)) if self._points else {}

    def series(self, names: tuple[str, ...], seconds: int) -> dict[str, list[float]]:
        """The last points by name, and their times as `at`."""
        points = list(self._points)[-seconds:]
        found: dict[str, list[float]] = {"at": [float(at) for at, _ in points]}
        for name in names:
            column = SERIES.index(name)
            found[name] = [round(figures[column], 3) for _, figures in points]
        return found

    async def next_point(self) -> None:
        await self._moved.wait()

    async def _totals(self) -> list[int]:
        records = batches = taken = given = 0
        for number, partition in enumerate(self._view.inside.replicas.partitions, 1):
            counters = partition.counters
            records += counters.records_in
            batches += counters.batches_in
            taken += counters.bytes_in
            given += counters.bytes_out
            if number % STEP == 0:
                await trio.lowlevel.checkpoint()
        kafka = self._view.kafka()
        return [records, batches, taken, given, kafka.statistics()["requests"] if kafka else 0]

    def _figures(self) -> list[int]:
        inside, kafka = self._view.inside, self._view.kafka()
        memory = inside.memory
        return [
            kafka.statistics()["connections"] if kafka else 0,
            memory.requests + memory.kept + memory.answers,
            inside.driver.statistics()["leading"],
            inside.metadata.group.term,
        ]
