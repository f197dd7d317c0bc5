"""Clocks that jump: the wall clock of a broker process is moved while it runs (`raftlog.testing.clock`)."""

from __future__ import annotations

import time
from typing import Final

from chaos.faults.fault import Fault, NoEffect
from raftlog.testing.clock import Clock

LOOKED_TIMEOUT_S: Final = 10.0
SLACK_S: Final = 1.0


class ClockJump(Fault):
    """A broker's wall clock is an hour or so ahead or behind, for a while."""

    kind = "clock"

    def __init__(self, clock: Clock, victim: int, seconds: float) -> None:
        super().__init__(f"clock {victim} {seconds:+.0f} s", [victim])
        self._clock, self._seconds = clock, seconds

    def begin(self) -> None:
        self._clock.move(self._seconds)

    def end(self) -> str:
        """A broker looks at its clock with every request: what it was told is a moment old."""
        deadline = time.monotonic() + LOOKED_TIMEOUT_S
        while abs(self._clock.told() - time.time() - self._seconds) > SLACK_S:
            if time.monotonic() > deadline:
                raise NoEffect(f"{self.what}: the broker was last told {self._clock.told():.0f}")
            time.sleep(0.05)
        self._clock.move(0)
        return f"the broker was told {self._seconds:+.0f} s"
