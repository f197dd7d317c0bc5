"""What many ask for is made once: a page asks every two seconds, and a cluster of 10,000 partitions takes a
tenth of a second to look at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import trio

GOOD_FOR: Final = 100.0
"""An answer is good for so many times as long as it took: making it again and again takes a hundredth of the
event loop at most, until GOOD_S_MAX. In a small cluster that is no time at all."""
GOOD_S_MAX: Final = 2.0

T = TypeVar("T")


@dataclass(slots=True)
class _Made:
    value: Any = None
    good_until: float = float("-inf")
    making: trio.Lock = field(default_factory=trio.Lock)


class Shared:
    """By name; there are as many as the program has names for them."""

    def __init__(self) -> None:
        self._made: dict[str, _Made] = {}

    async def get(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """What `make` gave a moment ago, or gives now. Whoever comes meanwhile waits for the same; when the
        one who makes it is cancelled or fails, the next does."""
        made = self._made.setdefault(name, _Made())
        async with made.making:
            began = trio.current_time()
            if began >= made.good_until:
                made.value = await make()
                now = trio.current_time()
                made.good_until = now + min(GOOD_S_MAX, GOOD_FOR * (now - began))
        found: T = made.value
        return found
