"""Sliding windows: one ends at each record of a key, and has what came in the time before it.

A window is `(end - size, end]`. It cannot be made of the one before it, since nothing says what to take off:
so the records are kept, those of one time as one value, and a window is all of its times, merged. A record
costs a step of each time of its key that is in its window, and of the windows that it comes late for.
"""

from __future__ import annotations

from typing import Any

from raftlog.streams.aggregates import Aggregate
from raftlog.streams.aggregating import CHANGES, FINAL, LATE, NO_KEY, view_of
from raftlog.streams.nodes import Downs, Edge, Node, Push, Room
from raftlog.streams.stores import StoreSpec, Timed
from raftlog.streams.windows import Sliding


class Overlooking(Node):
    """Windows at `(end, key)` in the first store, what they are made of at `(time, key)` in the second."""

    kind = "window"

    def __init__(
        self, parent: Edge, windows: Sliding, aggregate: Aggregate, stores: tuple[StoreSpec, StoreSpec]
    ) -> None:
        super().__init__(parent, stores=stores)
        self.windows = windows
        self.aggregate = aggregate
        self.view = view_of(windows, aggregate)

    def describe(self) -> str:
        return f"{super().describe()}: {self.windows}"

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        windows, parts = (room.store(spec.name) for spec in self.stores)
        assert isinstance(windows, Timed) and isinstance(parts, Timed), self.stores
        initial, add, merge, view = (
            self.aggregate.initial,
            self.aggregate.add,
            self.aggregate.merge,
            self.view,
        )
        assert merge is not None, "the topology refuses sliding windows without a merge"
        size, grace = self.windows.size_ms, self.windows.grace_ms
        changes, final, late = downs[CHANGES], downs[FINAL], downs[LATE]

        def push(key: Any, value: Any, timestamp: int) -> None:
            if key is None:
                room.note_keyless(NO_KEY)
                return
            if timestamp + grace < room.watermark:
                room.note_dropped("late for its window")
                late(key, value, timestamp)
                return
            so_far = parts.get((timestamp, key))
            parts.set((timestamp, key), add(initial if so_far is None else so_far, value), timestamp)
            times = parts.times_of(key)
            for end in times:
                if timestamp <= end < timestamp + size:
                    windows.set(
                        (end, key), total(key, [t for t in times if end - size < t <= end]), timestamp
                    )

        def total(key: Any, times: list[int]) -> Any:
            found = parts.get((times[0], key))
            for time in times[1:]:
                found = merge(found, parts.get((time, key)))
            return found

        def emit() -> None:
            for (end, key), timestamp in list(windows.dirty.items()):
                if (value := windows.get((end, key))) is not None:
                    changes(key, view((end, key), value), timestamp)

        def close(end: int, key: Any) -> None:
            found = view((end, key), windows.get((end, key)))
            if (changed := windows.dirty.get((end, key))) is not None:
                changes(key, found, changed)  # no commit will: it is gone by then
            final(key, found, end)

        room.before_commit(emit)
        room.closing(windows, close)
        room.closing(parts, None)
        return (push,)
