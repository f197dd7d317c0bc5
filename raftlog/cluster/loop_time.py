"""How long the event loop runs before it looks at its sockets and timers again.

While it runs, nothing else happens: no message is heard, no heartbeat leaves. A stretch beyond the election
time-out costs a leadership. Always on: two calls and two readings of the clock a stretch.
"""

from __future__ import annotations

import time

import trio

from raftlog.raft.durations import Durations


class LoopTime(trio.abc.Instrument):
    """Measures each stretch of the loop that it is installed in."""

    def __init__(self) -> None:
        self.stretches = Durations()
        self._since = time.perf_counter()

    def after_io_wait(self, timeout: float) -> None:
        self._since = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:
        self.stretches.add(time.perf_counter() - self._since)
