"""Functions that are called as time passes, and not by a record: `App.every`.

A time that is due is a multiple of the period since the epoch. By event time it is due when the watermark
reaches it: windows that are over by then are closed before. When time makes a leap, over several multiples,
the function is called once, with the last of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from raftlog.streams.nodes import OUT, Downs, Node, Push, Room, State
from raftlog.streams.stores import StoreSpec

EVENT: Final = "event"
WALL: Final = "wall"

Fire = Callable[[int], None]


class Timer(Node):
    """A function of the time and of stores, which gives any number of keys with values, or None."""

    kind = "timer"

    def __init__(
        self, function: Callable[..., Any], stores: tuple[StoreSpec, ...], period_ms: int, clock: str
    ) -> None:
        super().__init__(stores=stores)
        self.function = function
        self.period_ms = period_ms
        self.clock = clock

    def describe(self) -> str:
        return f"{super().describe()}: every {self.period_ms} ms by {self.clock} time"

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        down, function = downs[OUT], self.function
        states = [State(room.store(spec.name)) for spec in self.stores]

        def fire(at_ms: int) -> None:
            for state in states:
                state.timestamp = at_ms
            for key, value in function(at_ms, *states) or ():
                down(key, value, at_ms)

        room.every(self.period_ms, self.clock, fire)
        return ()


class Timers:
    """Those of one task. Which event times were due before is in its watermark; the clock's are not made up
    for when the task did not run."""

    def __init__(self, now_ms: int) -> None:
        self.event: list[tuple[int, Fire]] = []
        self._wall: list[tuple[int, Fire]] = []
        self._wall_ms = now_ms

    def add(self, period_ms: int, clock: str, fire: Fire) -> None:
        """One more."""
        (self._wall if clock == WALL else self.event).append((period_ms, fire))

    def due(self, before: int, watermark: int) -> list[tuple[int, Fire]]:
        """What is due when the watermark moves, in the order of times. The first watermark of all is a
        beginning: nothing was due before it."""
        return _due(self.event, before, watermark) if before >= 0 else []

    def due_by_clock(self, now_ms: int) -> list[tuple[int, Fire]]:
        """What is due since the last call. A clock that is set back makes nothing due again."""
        before, self._wall_ms = self._wall_ms, max(now_ms, self._wall_ms)
        return _due(self._wall, before, self._wall_ms)


def _due(timers: list[tuple[int, Fire]], before: int, now: int) -> list[tuple[int, Fire]]:
    return sorted(
        ((now - now % period, fire) for period, fire in timers if now // period > before // period),
        key=lambda each: each[0],
    )
