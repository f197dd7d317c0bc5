"""A nursery for background tasks that looks from outside as if there were none.

Leaving it cancels the tasks. An exception that is alone, of the body's or of a task's, comes out as itself
and not inside a group, so that `except ValueError` around an `async with` means what it says. A
`Cancelled` beside that exception is left out: Trio cancels the next wait in the same scope again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks end with the body."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error: BaseException = group.split(trio.Cancelled)[1] or group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context
            del error, context
