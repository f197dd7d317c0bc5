"""Doing the same for many things side by side, a bounded number at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, TypeVar

import trio

AT_ONCE_MAX: Final = 100
"""Things that one request has under way at once."""
AT_A_TIME: Final = 1000
"""Results that are put together before others have their turn."""

T = TypeVar("T")
R = TypeVar("R")


async def for_each(items: Sequence[T], function: Callable[[T], Awaitable[R]]) -> list[R]:
    """The results of `function` for every item, in their order. Cancelling it cancels all."""
    if len(items) == 1:
        return [await function(items[0])]
    results: dict[int, R] = {}
    limit = trio.Semaphore(AT_ONCE_MAX)

    async def run(index: int, item: T) -> None:
        try:
            results[index] = await function(item)
        finally:
            limit.release()

    async with trio.open_nursery() as nursery:
        for index, item in enumerate(items):
            await limit.acquire()
            nursery.start_soon(run, index, item)
    return [results[index] for index in range(len(items))]


async def for_each_once(
    items: Sequence[T],
    name_of: Callable[[T], Hashable],
    function: Callable[[T], Awaitable[R]],
    refused: Callable[[T], R],
) -> list[R]:
    """As `for_each`, for what may be named once in a request: an item whose name another item has too is
    `refused`, as on Kafka. The same change many times over costs a look at its name, no proposal."""
    counts = Counter(map(name_of, items))
    await trio.lowlevel.checkpoint()  # many were just read
    done = iter(await for_each([item for item in items if counts[name_of(item)] == 1], function))
    results: list[R] = []
    for item in items:
        results.append(next(done) if counts[name_of(item)] == 1 else refused(item))
        if len(results) % AT_A_TIME == 0:
            await trio.lowlevel.checkpoint()
    return results
