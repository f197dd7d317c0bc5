"""Virtual time, one source of chance, and a trace of what happened.

Everything that happens in a simulation is an event on one heap, and every random choice comes from one seed,
so a seed replays exactly. The trace is a hash over all events: two runs that differ anywhere differ in it.
It knows nothing of brokers.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from array import array
from collections.abc import Callable
from typing import Final

EPOCH_MS: Final = 1_700_000_000_000
"""The wall clock when a simulation begins."""

RECENT_EVENTS: Final = 60
"""Events that a failure is reported with."""

UNHASHED_MAX: Final = 5000
"""Events that are kept to be hashed together, which is cheaper."""


class Violation(AssertionError):
    """An invariant does not hold. `invariant` is its short name, the message says where."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


class World:
    """The clock, the heap, the dice. Seconds are floats from 0."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.wall_offset_ms = 0
        """What the wall clock is off by; Raft must not care."""
        self.rng = random.Random(seed)
        self.events = 0
        self.after_event: Callable[[], None] = lambda: None
        self._heap: list[tuple[float, int, str, Callable[[], None]]] = []
        self._count = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._notes: list[tuple[float, str]] = []
        """The newest ones; those before `_unhashed` are in the hash."""
        self._unhashed = 0

    @property
    def trace(self) -> str:
        """A hash over everything that has happened."""
        self._hash_notes()
        return self._hash.copy().hexdigest()

    @property
    def recent(self) -> list[str]:
        """The last events, as lines."""
        return [f"{when:.6f} {text}" for when, text in self._notes[-RECENT_EVENTS:]]

    def now_ms(self) -> int:
        """The wall clock, in milliseconds."""
        return EPOCH_MS + int(self.now * 1000) + self.wall_offset_ms

    def fork(self) -> random.Random:
        """A generator of its own for somebody, so that what others draw does not move what he draws."""
        return random.Random(self.rng.getrandbits(64))

    def at(self, when: float, what: Callable[[], None], label: str = "") -> None:
        """Do `what` at that time. Without a label it is not in the trace."""
        self._count += 1
        heapq.heappush(self._heap, (when if when > self.now else self.now, self._count, label, what))

    def after(self, delay: float, what: Callable[[], None], label: str = "") -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, label, what))

    def note(self, text: str) -> None:
        """Something happened that is worth a line in the trace."""
        self._notes.append((self.now, text))
        if len(self._notes) > UNHASHED_MAX:
            self._hash_notes()
            del self._notes[:-RECENT_EVENTS]
            self._unhashed = RECENT_EVENTS

    def _hash_notes(self) -> None:
        notes = self._notes[self._unhashed :]
        self._unhashed = len(self._notes)
        if notes:
            times, texts = zip(*notes, strict=True)
            self._hash.update(array("d", times).tobytes())
            self._hash.update("\n".join(texts).encode())

    def run_until(self, end: float) -> None:
        """All events up to then, in order."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end:
            self.now, _, label, what = pop(heap)
            self.events += 1
            if label:
                self.note(label)
            what()
            self.after_event()
        self.now = max(self.now, end)
