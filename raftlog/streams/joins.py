"""Records that are put together with those of another stream, or with a table's rows."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from raftlog.streams.nodes import OUT, Downs, Edge, Node, Push, Room
from raftlog.streams.serdes import JSON, Serde
from raftlog.streams.stores import StoreSpec, Timed

MISSING_RULES: Final = ("skip", "none", "fail", "dlq")
HOWS: Final = ("inner", "left", "outer")

NO_KEY_OR_VALUE: Final = "a join's record has no key, or no value"
NO_PARTNER: Final = "no partner in the table"

FORMAT: Final = 1
"""Of what waits. The one before it had no number: a list of JSON, whatever the stream's serde."""
_WAITING: Final = struct.Struct(">?I")


class TableJoin(Node):
    """A stream's record with the row of its key, as it is now. Changes of the table alone give nothing."""

    kind = "join with table"

    def __init__(
        self,
        parent: Edge,
        table: StoreSpec,
        function: Callable[[Any, Any], Any],
        missing: str,
        view: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        super().__init__(parent, stores=(table,))
        self.function = function
        self.missing = missing
        self.view = view

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        down, function, missing, view = downs[OUT], self.function, self.missing, self.view
        get = room.store(self.stores[0].name).get

        def push(key: Any, value: Any, timestamp: int) -> None:
            row = None if key is None else get(key)
            if row is not None and view is not None:
                row = view(key, row)
            if row is None and missing != "none":
                if missing == "skip":
                    room.note_dropped(NO_PARTNER)
                    return
                room.fail(f"{NO_PARTNER} {self.stores[0].name!r} for key {key!r}", missing == "dlq")
            down(key, function(value, row), timestamp)

        return (push,)


class StreamJoin(Node):
    """Records of two streams with the same key, at most `within_ms` apart.

    Each record waits until no partner can come any more. Then a `left` or `outer` join gives the ones that
    have found none, with None for the partner. What waits is kept as a list of `[found, value]` at `(time,
    key)`, which `waiting` writes: several records of a key may have the same time.
    """

    kind = "join of streams"

    def __init__(
        self,
        left: Edge,
        right: Edge,
        function: Callable[[Any, Any], Any],
        *,
        within_ms: int,
        grace_ms: int,
        how: str,
        stores: tuple[StoreSpec, StoreSpec],
    ) -> None:
        super().__init__(left, right, stores=stores)
        self.function = function
        self.within_ms = within_ms
        self.grace_ms = grace_ms
        self.how = how

    def describe(self) -> str:
        return f"{super().describe()}: {self.how} within {self.within_ms} ms grace {self.grace_ms} ms"

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        sides = [room.store(spec.name) for spec in self.stores]
        left, right = sides
        assert isinstance(left, Timed) and isinstance(right, Timed), sides
        function = self.function
        keeps_left, keeps_right = self.how in ("left", "outer"), self.how == "outer"
        return (
            self._side(room, downs, left, right, function, keeps_left, keeps_right),
            self._side(
                room, downs, right, left, lambda mine, other: function(other, mine), keeps_right, keeps_left
            ),
        )

    def _side(
        self,
        room: Room,
        downs: Downs,
        mine: Timed,
        other: Timed,
        function: Callable[[Any, Any], Any],
        keeps: bool,
        other_keeps: bool,
    ) -> Push:
        down, within, grace = downs[OUT], self.within_ms, self.grace_ms

        def push(key: Any, value: Any, timestamp: int) -> None:
            if key is None or value is None:
                (room.note_keyless if key is None else room.note_dropped)(NO_KEY_OR_VALUE)
                return
            if timestamp + within + grace < room.watermark:
                room.note_dropped("late for its join")
                return
            found = False
            for time in other.times_of(key):
                if not timestamp - within <= time <= timestamp + within:
                    continue
                waiting = other.get((time, key))
                for record in waiting:
                    down(key, function(value, record[1]), max(timestamp, time))
                found = True
                if other_keeps and not all(record[0] for record in waiting):
                    other.set((time, key), [[True, record[1]] for record in waiting], timestamp)
            mine.set((timestamp, key), [*(mine.get((timestamp, key)) or ()), [found, value]], timestamp)

        def close(time: int, key: Any) -> None:
            for found, value in mine.get((time, key)):
                if not found:
                    down(key, function(value, None), time)

        room.closing(mine, close if keeps else None)
        return push


def waiting(value: Serde) -> Serde:
    """What waits at one place of a join: a byte for the format, and of each record a byte for whether it has
    found a partner, four for a length, and the value in the serde of its stream."""

    def encode(records: list[list[Any]]) -> bytes:
        parts = [bytes([FORMAT])]
        for found, each in records:
            data = value.encode(each)
            parts += _WAITING.pack(found, len(data)), data
        return b"".join(parts)

    def decode(data: bytes) -> list[list[Any]]:
        records: list[list[Any]]
        if data.startswith(b"["):
            records = JSON.decode(data)
            return records
        version = data[0] if data else 0
        if version != FORMAT:
            raise ValueError(f"it has format {version}, and this raftlog knows {FORMAT}: start a newer one")
        records, at = [], 1
        while at < len(data):
            begin = at + _WAITING.size
            found, size = _WAITING.unpack_from(data, at) if begin <= len(data) else (False, 0)
            at = begin + size
            if at > len(data):
                raise ValueError(f"it ends at byte {len(data)}, in the middle of a record")
            records.append([found, value.decode(data[begin:at])])
        return records

    return Serde(f"waiting {value.name}", encode, decode)
