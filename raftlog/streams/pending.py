"""Which keys of a store are not on disk yet, in order: what a look at a range puts beside the rows."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

MISSING: Final[Any] = object()
INSERTS_MAX: Final = 50
"""Keys that are put into their places one by one. For more than so many it costs less to sort all."""


class Pending:
    """The encoded keys of a store that are `dirty` or `unflushed`.

    A key that is changed costs nothing here: it comes to the end of its table, where the next look finds it.
    So what goes from a table otherwise than from its end must be told of. There may be keys that are in no
    table any more: a look finds no value for them, or that of the disk.
    """

    def __init__(
        self, dirty: dict[Any, Any], unflushed: dict[bytes, Any], encoded: Callable[[Any], bytes]
    ) -> None:
        self._dirty = dirty
        self._unflushed = unflushed
        self._encoded = encoded
        self.forget()

    def forget(self) -> None:
        """Keys have gone from any place: the next look begins anew."""
        self._order: list[bytes] = []
        self._decoded: dict[bytes, Any] = {}
        self._dirty_seen = self._unflushed_seen = 0

    def undone(self) -> None:
        """The dirty keys that came last have gone."""
        self._dirty_seen = min(self._dirty_seen, len(self._dirty))

    def committed(self) -> None:
        """No key is dirty any more: those that were are unflushed."""
        self._decoded.clear()
        self._dirty_seen = 0

    def between(self, low: bytes, high: bytes | None) -> list[bytes]:
        """The keys from `low`, up to before `high`; None is up to the last."""
        self._catch_up()
        order = self._order
        return order[bisect_left(order, low) : None if high is None else bisect_left(order, high)]

    def decoded(self, data: bytes) -> Any:
        """A key that is dirty, as it was set; MISSING for another one."""
        return self._decoded.get(data, MISSING)

    def _catch_up(self) -> None:
        dirty, unflushed, order = self._dirty, self._unflushed, self._order
        fresh = set(islice(reversed(unflushed), len(unflushed) - self._unflushed_seen))
        for key in islice(reversed(dirty), len(dirty) - self._dirty_seen):
            data = self._encoded(key)
            self._decoded[data] = key
            fresh.add(data)
        fresh = {data for data in fresh if not _has(order, data)}
        if len(fresh) > INSERTS_MAX:
            order += sorted(fresh)
            order.sort()
        else:
            for data in fresh:
                insort(order, data)
        self._dirty_seen, self._unflushed_seen = len(dirty), len(unflushed)

    def __repr__(self) -> str:
        return f"<Pending {len(self._order)} dirty={self._dirty_seen} unflushed={self._unflushed_seen}>"


def _has(order: list[bytes], data: bytes) -> bool:
    at = bisect_left(order, data)
    return at < len(order) and order[at] == data
