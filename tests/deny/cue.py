"""By which a fault meets a change: what is wrong for seconds would otherwise meet one by luck.

A fault holds the administrator before its next change, does something to a broker, and has the change begin
at a moment of its choice.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tests.deny.clients import now

HELD_MAX_S: Final = 20.0
COMES_WITHIN_S: Final = 8.0
"""An administrator who asks a broker that is cut off waits longer for an answer; then no change is met."""
ASKS_ELSEWHERE: Final = 0.85
"""How often an administrator keeps away from a broker with a fault: it would wait there and learn nothing."""


class Cue:
    """Between one administrator and one thread that makes faults."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._is_held = False
        self._is_waiting = False
        self._over = 0
        self.avoided: int | None = None
        """The port of the broker that a fault is at."""

    def before_change(self) -> None:
        """The administrator is about to change something."""
        with self._moved:
            self._is_waiting = True
            self._moved.notify_all()
            self._moved.wait_for(lambda: not self._is_held, HELD_MAX_S)
            self._is_waiting = False

    def after_change(self) -> None:
        """The call has returned, or failed."""
        with self._moved:
            self._over += 1
            self._moved.notify_all()

    def hold(self) -> None:
        """The next change waits for `release`; returns when it does, or when none has come for a while."""
        with self._moved:
            self._is_held = True
            self._moved.wait_for(lambda: self._is_waiting, COMES_WITHIN_S)

    def release(self) -> None:
        """Let the change that waits begin."""
        with self._moved:
            self._is_held = False
            self._moved.notify_all()

    @contextmanager
    def until_over(self, seconds: float) -> Iterator[None]:
        """Stays until a change has ended that is let begin in it, for so long at most."""
        until = now() + seconds
        with self._moved:
            over = self._over
        yield
        with self._moved:
            self._moved.wait_for(lambda: self._over > over, max(0.0, until - now()))

    def choose(self, ports: Sequence[int], rng: random.Random) -> int:
        """Whom the administrator asks."""
        others = [port for port in ports if port != self.avoided]
        return rng.choice(others if rng.random() < ASKS_ELSEWHERE else ports)
