"""The administrator, who denies and allows by turns."""

from __future__ import annotations

import itertools
import random
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from tests.deny.clients import ADMIN_HOST, TOPIC, Wire, create_acls, delete_denies, deny, now
from tests.deny.cue import Cue
from tests.deny.judge import Register

DOUBTFUL_MAX: Final = 16
"""Denies of unknown outcome that are taken back again: the older ones have been for minutes."""


class Administrator:
    """Denies and allows by turns, at whichever broker, and notes what is sure.

    A change whose outcome is unknown may be made yet: a broker goes on trying for half a minute. So no two
    denies near each other are of one rule, and what takes an old one back late leaves the next alone. An old
    deny that comes late is taken back with the next ones.
    """

    def __init__(self, ports: list[int], register: Register, rng: random.Random, cue: Cue) -> None:
        self._ports, self._register, self._rng, self._cue = ports, register, rng, cue
        self._prefixes = itertools.cycle(TOPIC[:length] for length in range(1, len(TOPIC) + 1))
        self._doubtful: deque[str] = deque(maxlen=DOUBTFUL_MAX)
        """Of denies whose outcome was unknown."""
        self.turns = 0
        self.unknown = 0
        self.slowest = 0.0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            prefix = next(self._prefixes)
            self._cue.before_change()
            denied = self._try(partial(_deny, prefix))
            if denied:
                self._register.deny_returned(now())
                self.turns += 1
            self._cue.after_change()
            if denied:
                stop.wait(self._rng.uniform(0.1, 2.5))
                old = {prefix, *self._doubtful}
            else:
                self._doubtful.append(prefix)
                old = set(self._doubtful)
            self._register.allow_begins(now())
            while not self._try(partial(_take_back, old)) and not stop.is_set():
                pass
            stop.wait(self._rng.uniform(0.1, 0.8))

    def _try(self, change: Callable[[Wire], None]) -> bool:
        begun = now()
        try:
            wire = Wire(self._cue.choose(self._ports, self._rng), ADMIN_HOST)
            try:
                change(wire)
            finally:
                wire.close()
        except OSError:
            self.unknown += 1
            return False
        self.slowest = max(self.slowest, now() - begun)
        return True


def _deny(prefix: str, wire: Wire) -> None:
    create_acls(wire, deny(prefix))


def _take_back(prefixes: set[str], wire: Wire) -> None:
    delete_denies(wire, sorted(prefixes))
