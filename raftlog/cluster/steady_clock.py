"""The time that a broker writes down, and by which it deletes and forgets: records, producers, offsets.

A wall clock that is set forward by two days would make everything two days older at once: records would go
that should stay, and the repeat of an acknowledged batch would count as new. So the wall clock is held
against the monotonic one. Where the two disagree all of a sudden, time goes on as it did before, and
nothing is deleted or forgotten earlier or later than without the jump, until the wall clock is back, or
until it has stayed where it jumped to for an hour: then it is believed, since a clock that was wrong at the
start is set right the same way. It is only ever said once what happened.

What is compared must have been told by one clock. A broker that stamped offsets by a wall clock that was set
back by a week, and forgot by this one, would forget at once what was just committed.

What it cannot see: a jump while the broker was down. So who forgets by times that were written down waits as
long himself (`even_ms`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger("raftlog.cluster")

JUMP_MS: Final = 10_000
"""By how much the clocks may differ from one look to the next, a second later: drift, and steps that harm
nothing."""

BELIEVED_S: Final = 3600.0
"""How long a wall clock that jumped must go on from there to be believed: time for people to set it back."""


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class SteadyClock:
    """`monotonic` tells seconds, `wall_ms` is the wall clock."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        self._read_monotonic, self._read_wall_ms = monotonic, wall_ms
        self._now, self._wall_ms = monotonic(), wall_ms()
        self._even_since = self._now
        self._off_ms = 0
        self._off_since: float | None = None

    def now_ms(self) -> int:
        """What time it is; to be asked every second or so, or more often."""
        now, wall_ms = self._read_monotonic(), self._read_wall_ms()
        expected_ms = self._wall_ms + int((now - self._now) * 1000)
        off_ms = wall_ms - expected_ms
        if abs(off_ms) <= JUMP_MS:
            if self._off_since is not None:
                self._off_since = None
                log.info("the wall clock agrees with the time that has passed again")
            self._now, self._wall_ms = now, wall_ms
            return wall_ms
        if self._off_since is None or abs(off_ms - self._off_ms) > JUMP_MS:
            self._off_since, self._off_ms = now, off_ms
            log.warning(
                "the wall clock is off by %+.0f s from the time that has passed: until it is back, or has "
                "stayed there for %.0f minutes, nothing is deleted or forgotten by it",
                off_ms / 1000,
                BELIEVED_S / 60,
            )
        if now - self._off_since < BELIEVED_S:
            return expected_ms
        log.warning("the wall clock has stayed %+.0f s off, and is believed from now on", off_ms / 1000)
        self._even_since, self._off_since = now, None
        self._now, self._wall_ms = now, wall_ms
        return wall_ms

    def even_ms(self) -> int:
        """For how long `now_ms` has not jumped: what was written down before may have been so by another
        clock."""
        return int((self._read_monotonic() - self._even_since) * 1000)
