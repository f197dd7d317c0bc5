"""A histogram of how long things took."""

from __future__ import annotations

import pytest

from raftlog.broker.latency import BUCKETS, Latency


def test_what_took_how_long() -> None:
    latency = Latency()
    assert (repr(latency), latency.within(0.5)) == ("<Latency 0 times, mean 0.0 ms, longest 0.0 ms>", 0.0)
    for _ in range(98):
        latency.add(0.0009)
    latency.add(0.1)
    latency.add(1.0)
    assert latency.count == sum(latency.buckets) == 100
    assert latency.within(0.5) == pytest.approx(0.0016)
    assert 0.1 <= latency.within(0.99) <= 0.2
    assert latency.within(1.0) == latency.longest_s == 1.0


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.00009, 3600.0, 1e9])
def test_anything_has_a_bucket(seconds: float) -> None:
    latency = Latency()
    latency.add(seconds)
    assert len(latency.buckets) == BUCKETS
    assert sum(latency.buckets) == 1
    assert latency.within(1.0) <= latency.longest_s == seconds
