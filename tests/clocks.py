"""Clocks for tests: one that stands still, and one that jumps over what is waited for though threads work."""

from __future__ import annotations

import math
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from raftlog.cluster.steady_clock import SteadyClock

IDLE_S: Final = 0.02
"""Real seconds in which nothing happens before the clock jumps: bytes take fewer over loopback."""


STILL: Final = SteadyClock(lambda: 0.0, lambda: 0)
"""For a broker in whose time nothing is to be seen."""


def thread_clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """A clock that jumps when all wait, but for a thread: Trio's own takes it for nothing."""
    clock = MockClock(autojump_threshold=IDLE_S)
    run_sync, at_work = trio.to_thread.run_sync, 0

    async def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal at_work
        at_work += 1
        clock.autojump_threshold = math.inf
        try:
            return await run_sync(*arguments, **options)
        finally:
            at_work -= 1
            clock.autojump_threshold = math.inf if at_work else IDLE_S

    monkeypatch.setattr(trio.to_thread, "run_sync", watched)
    return clock
