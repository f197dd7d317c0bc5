"""Work in steps: in threads, or in the loop with a turn for others in between."""

from __future__ import annotations

from typing import Final, TypeVar

import trio

from raftlog.storage.timestamps import Steps

T = TypeVar("T")

AT_ONCE_MAX: Final = 1_000
"""Rows of a request that are handled before others have their turn: some milliseconds."""


class Turns:
    """For who goes over many rows: `await turns.after(1)` behind each."""

    __slots__ = ("_done",)

    def __init__(self) -> None:
        self._done = 0

    async def after(self, rows: int) -> None:
        """So many rows were handled."""
        self._done += rows
        if self._done >= AT_ONCE_MAX:
            self._done = 0
            await trio.lowlevel.checkpoint()


async def in_threads(steps: Steps[T]) -> T:
    """Run each step in a thread, and give back what they lead to. Cancelled, it leaves a step behind that
    changes nothing."""
    result: object = None
    while True:
        try:
            step = steps.send(result)
        except StopIteration as end:
            found: T = end.value
            return found
        result = await trio.to_thread.run_sync(step, abandon_on_cancel=True)
