"""When the metadata or a leadership has moved, as this broker sees it.

One change wakes everybody who waits; each looks for himself whether it was his.
"""

from __future__ import annotations

from collections.abc import Callable

import trio


class Changes:
    """Wakes who waits. Nothing is handed on: who was not waiting looks at what there is."""

    def __init__(self) -> None:
        self._next = trio.Event()
        self._listeners: list[Callable[[], None]] = []

    @property
    def next(self) -> trio.Event:
        """Set by the next change. Who takes it before he looks misses none."""
        return self._next

    async def wait(self) -> None:
        """Until the metadata or a leadership moves, here."""
        await self._next.wait()

    def listen(self, listener: Callable[[], None]) -> None:
        """Have `listener` called at every change, before anybody wakes. It must not block or raise."""
        self._listeners.append(listener)

    def tell(self) -> None:
        """Something has moved."""
        for listener in self._listeners:
            listener()
        self._next.set()
        self._next = trio.Event()
