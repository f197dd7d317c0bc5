"""Work in steps, of which each but the little in between runs in a thread."""

from __future__ import annotations

from typing import TypeVar

import trio

from raftlog.storage.timestamps import Steps

T = TypeVar("T")


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
