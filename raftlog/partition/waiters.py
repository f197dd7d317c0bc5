"""Who waits for a partition's high watermark or leadership to move: fetches, above all."""

from __future__ import annotations

from collections.abc import Callable

Waiter = Callable[[], None]


class Waiters:
    """Called in the order in which they came."""

    def __init__(self) -> None:
        self._waiters: dict[Waiter, None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, waiter: Waiter) -> None:
        """Call `waiter` at every move, until `remove`. It must not raise."""
        self._waiters[waiter] = None

    def remove(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)

    def wake(self) -> None:
        for waiter in list(self._waiters):
            waiter()
