"""How long something asynchronous keeps the event loop, its waits not counted."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Timed(Generic[T]):
    """Is awaited as what it holds; `spent` seconds are told then."""

    def __init__(self, held: Awaitable[T]) -> None:
        self._held = held
        self.spent = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._held.__await__()
        error: BaseException | None = None
        given = None
        while True:
            begun = time.perf_counter()
            try:
                waits_for = steps.send(given) if error is None else steps.throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.spent += time.perf_counter() - begun
            try:
                given, error = (yield waits_for), None
            except BaseException as thrown:
                error = thrown
