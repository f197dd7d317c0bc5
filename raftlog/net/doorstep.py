"""Connections that have yet to show who they are: so many at once, and the oldest goes first.

Who means well is through in milliseconds. So whoever fills the place with connections that say nothing loses
those, and keeps nobody out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Doorstep:
    """Shared by the connections of a listener."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._scopes: dict[trio.CancelScope, None] = {}

    def __repr__(self) -> str:
        return f"<Doorstep {len(self._scopes)} of {self._most}>"

    @contextmanager
    def stand(self, seconds: float = float("inf")) -> Iterator[trio.CancelScope]:
        """What is done within is cancelled when others come after it and there are too many, or when it takes
        longer than that. The scope tells by `cancelled_caught`."""
        with trio.move_on_after(seconds) as scope:
            self._scopes[scope] = None
            if len(self._scopes) > self._most:
                oldest = next(iter(self._scopes))
                del self._scopes[oldest]  # it ends in the next round, and who comes before that ends another
                oldest.cancel()
            try:
                yield scope
            finally:
                self._scopes.pop(scope, None)

    def leave(self, scope: trio.CancelScope) -> None:
        """It is known by now who that is: what is done within goes on, and for as long as it likes."""
        self._scopes.pop(scope, None)
        scope.deadline = float("inf")
