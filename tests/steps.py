"""A search in steps, done at once."""

from __future__ import annotations

from typing import TypeVar

from raftlog.storage.timestamps import Steps

T = TypeVar("T")


def run(steps: Steps[T]) -> T:
    """All steps here and now."""
    result: object = None
    while True:
        try:
            result = steps.send(result)()
        except StopIteration as end:
            found: T = end.value
            return found
