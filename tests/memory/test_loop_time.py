"""The histogram of how long things took, and the loop's stretches in it."""

from __future__ import annotations

import time

import pytest
import trio

from raftlog.cluster.loop_time import LoopTime
from raftlog.raft.durations import Durations


def test_nothing_added_is_nothing() -> None:
    assert Durations().statistics() == {
        "count": 0,
        "mean": 0.0,
        "p50": 0.0,
        "p99": 0.0,
        "p999": 0.0,
        "max": 0.0,
    }


@pytest.mark.parametrize("us", [0, 1, 2, 3, 4, 5, 7, 8, 9, 100, 1000, 12_345, 999_999, 50_000_000])
def test_a_percentile_is_right_to_a_fifth_and_never_too_low(us: int) -> None:
    durations = Durations()
    for _ in range(99):
        durations.add(us / 1e6)
    durations.add(100.0)
    found = durations.percentile_ms(50) * 1000
    assert us * 0.999 <= found <= us * 1.25 + 1
    assert durations.max_s == 100.0
    assert durations.percentile_ms(100) <= 100_000


def test_bands_hold_everything_once() -> None:
    durations = Durations()
    for ms in (0.1, 0.5, 3, 20, 49, 60, 700, 1e7):
        durations.add(ms / 1000)
    bands = durations.bands((1, 10, 50, 100, 1000))
    assert [band.count for band in bands] == [2, 1, 2, 1, 1, 1]
    assert sum(band.count for band in bands) == durations.count
    durations.clear()
    assert durations.count == 0


async def test_a_task_that_holds_the_loop_is_seen() -> None:
    instrument = LoopTime()
    trio.lowlevel.add_instrument(instrument)
    try:
        for _ in range(3):
            await trio.sleep(0.001)
        assert instrument.stretches.count >= 2
        time.sleep(0.08)  # noqa: ASYNC251 - what no task should do
        await trio.sleep(0.001)
    finally:
        trio.lowlevel.remove_instrument(instrument)
    assert instrument.stretches.max_s >= 0.08
