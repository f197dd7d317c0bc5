"""Clocks that are wrong, and snapshots that are frequent, of brokers that are threads of this process.

A broker's wall clock may be set to another time. The clocks of leases do not run alike: one is true, another
is nearly as slow as a lease reckons with, so that its broker serves the longest.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from raftlog.cluster import enforcement, metadata_group
from raftlog.cluster.enforcement import DRIFT, Enforcement, boottime

SNAPSHOT_AFTER_BYTES: Final = 8 << 10
"""Of commands of the metadata: some dozens of changes. Who was away for that long gets a snapshot."""

RATES: Final = (1.0, 1 - 0.4 * DRIFT, 1 - 0.8 * DRIFT)

_away: dict[str, float] = {}
"""Seconds, by the name of a broker's thread."""


def set_clock(broker: int, seconds: float) -> None:
    """A broker's wall clock is so far from the true one, from now on."""
    _away[f"raftlog-{broker}"] = seconds


@contextmanager
def odd_brokers(rng: random.Random) -> Iterator[None]:
    """Brokers that are started meanwhile are such."""
    began, rates = boottime(), rng.sample(RATES, len(RATES))
    rate_of = {f"raftlog-{number}": rate for number, rate in enumerate(rates, 1)}

    def lease_clock() -> float:
        return began + (boottime() - began) * rate_of[threading.current_thread().name]

    def time_ns() -> int:
        return true_time_ns() + int(_away.get(threading.current_thread().name, 0.0) * 1e9)

    true_time_ns, true_time = time.time_ns, time.time
    defaults = Enforcement.__init__.__kwdefaults__
    assert defaults is not None
    snapshot_after = metadata_group.SNAPSHOT_AFTER_BYTES
    time.time_ns, time.time = time_ns, lambda: time_ns() / 1e9
    defaults["clock"] = lease_clock
    metadata_group.SNAPSHOT_AFTER_BYTES = SNAPSHOT_AFTER_BYTES  # type: ignore[misc]
    try:
        yield
    finally:
        time.time_ns, time.time = true_time_ns, true_time
        defaults["clock"] = enforcement.boottime
        metadata_group.SNAPSHOT_AFTER_BYTES = snapshot_after  # type: ignore[misc]
        _away.clear()
