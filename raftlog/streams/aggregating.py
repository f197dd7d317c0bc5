"""Records of a key become one value: over all time, in windows, in sessions.

`changes` gives each key that has changed, once a commit. `final` gives each window once, when the watermark
has reached its end and the grace; `late` gives records whose window is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from raftlog.streams.aggregates import Aggregate
from raftlog.streams.nodes import OUT, Downs, Edge, Node, Push, Room
from raftlog.streams.stores import StoreSpec, Timed
from raftlog.streams.windows import Sessions, Sliding, Windows

CHANGES: Final = "changes"
FINAL: Final = "final"
LATE: Final = "late"

NO_KEY: Final = "an aggregate's record has no key"


def view_of(
    windows: Windows | Sessions | Sliding, aggregate: Aggregate
) -> Callable[[Any, Any], dict[str, Any]]:
    """What others see of a window in its store, by the place that it has there, `(time, key)`."""
    if isinstance(windows, Sessions):
        return lambda place, found: {"start": found[0], "end": place[0], **aggregate.members(found[1])}
    size = windows.size_ms
    if isinstance(windows, Sliding):
        return lambda place, found: {"start": place[0] - size, "end": place[0], **aggregate.members(found)}
    return lambda place, found: {"start": place[0], "end": place[0] + size, **aggregate.members(found)}


class Aggregating(Node):
    """Over all time: a table of results."""

    kind = "aggregate"

    def __init__(self, parent: Edge, aggregate: Aggregate, store: StoreSpec) -> None:
        super().__init__(parent, stores=(store,))
        self.aggregate = aggregate

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        store, down = room.store(self.stores[0].name), downs[OUT]
        fold = store.folding(self.aggregate.add, self.aggregate.initial, undoes=room.undoes)
        result = self.aggregate.result

        def push(key: Any, value: Any, timestamp: int) -> None:
            if key is None:
                room.note_keyless(NO_KEY)
            else:
                fold(key, value, timestamp)

        def emit() -> None:
            for key, timestamp in list(store.dirty.items()):
                value = store.get(key)
                down(key, None if value is None else result(value), timestamp)

        if OUT in downs:
            room.before_commit(emit)
        return (push,)


class Windowing(Node):
    """In windows of one size."""

    kind = "window"

    def __init__(self, parent: Edge, windows: Windows, aggregate: Aggregate, store: StoreSpec) -> None:
        super().__init__(parent, stores=(store,))
        self.windows = windows
        self.aggregate = aggregate
        self.view = view_of(windows, aggregate)

    def describe(self) -> str:
        return f"{super().describe()}: {self.windows}"

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        store = room.store(self.stores[0].name)
        assert isinstance(store, Timed), store
        fold = store.folding(self.aggregate.add, self.aggregate.initial, undoes=room.undoes)
        late, view = downs[LATE], self.view
        starts, size, grace = self.windows.starts, self.windows.size_ms, self.windows.grace_ms
        is_told, is_tumbling = CHANGES in downs, self.windows.every_ms == size

        def push(key: Any, value: Any, timestamp: int) -> None:
            if key is None:
                room.note_keyless(NO_KEY)
                return
            over = room.watermark - size - grace
            is_late = False
            for start in (timestamp - timestamp % size,) if is_tumbling else starts(timestamp):
                if start <= over:
                    is_late = True
                else:
                    fold((start, key), value, timestamp)
            if is_late:
                room.note_dropped("late for its window")
                late(key, value, timestamp)

        def emit() -> None:
            for (start, key), timestamp in list(store.dirty.items()):
                if (value := store.get((start, key))) is not None:
                    tell(start, key, value, timestamp)

        def tell(start: int, key: Any, value: Any, timestamp: int) -> None:
            downs[CHANGES](key, view((start, key), value), timestamp)

        def close(start: int, key: Any) -> None:
            value = store.get((start, key))
            if is_told and (changed := store.dirty.get((start, key))) is not None:
                tell(start, key, value, changed)  # no commit will: it is gone by then
            downs[FINAL](key, view((start, key), value), start + size - 1)

        if is_told:
            room.before_commit(emit)
        room.closing(store, close)
        return (push,)


class Sessioning(Node):
    """In sessions. A session's value is kept with its start, under its end: `[start, value]` at `(end,
    key)`."""

    kind = "session"

    def __init__(self, parent: Edge, sessions: Sessions, aggregate: Aggregate, store: StoreSpec) -> None:
        super().__init__(parent, stores=(store,))
        self.sessions = sessions
        self.aggregate = aggregate
        self.view = view_of(sessions, aggregate)

    def describe(self) -> str:
        return f"{super().describe()}: {self.sessions}"

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        store = room.store(self.stores[0].name)
        assert isinstance(store, Timed), store
        aggregate, gap, grace = self.aggregate, self.sessions.gap_ms, self.sessions.grace_ms
        merge, view = aggregate.merge, self.view
        assert merge is not None, "the topology refuses sessions without a merge"
        late, changes, final = downs[LATE], downs[CHANGES], downs[FINAL]
        told: dict[
            tuple[int, Any], int
        ] = {}  # sessions merged since `changes` told of them, with their starts
        fresh: set[tuple[int, Any]] = set()  # those that it has not told of
        over: dict[tuple[int, Any], int] = {}  # those that have ended since, with their starts

        def push(key: Any, value: Any, timestamp: int) -> None:
            if key is None:
                room.note_keyless(NO_KEY)
                return
            if timestamp + gap + grace <= room.watermark:
                room.note_dropped("late for its window")
                late(key, value, timestamp)
                return
            start = end = timestamp
            total = aggregate.add(aggregate.initial, value)
            for other in store.times_of(key):
                other_start, so_far = store.get((other, key))
                if other_start - gap <= timestamp <= other + gap:
                    total = merge(so_far, total) if other_start <= timestamp else merge(total, so_far)
                    start, end = min(start, other_start), max(end, other)
                    if (other, key) not in fresh:
                        told[other, key] = other_start
                    over.pop((other, key), None)  # its end was taken back
                    store.set((other, key), None, timestamp)
            store.set((end, key), [start, total], timestamp)
            fresh.add((end, key))

        def emit() -> None:
            for (end, key), start in told.items():
                kept = store.get((end, key))
                if (over.get((end, key)) if kept is None else kept[0]) != start:
                    changes(key, {"start": start, "end": end, "gone": True}, end)
            told.clear()
            fresh.clear()
            over.clear()
            for (end, key), timestamp in list(store.dirty.items()):
                if (session := store.get((end, key))) is not None:
                    changes(key, view((end, key), session), timestamp)

        def close(end: int, key: Any) -> None:
            session = store.get((end, key))
            found, over[end, key] = view((end, key), session), session[0]
            if (changed := store.dirty.get((end, key))) is not None:
                changes(key, found, changed)  # no commit will: it is gone by then
            final(key, found, end)

        room.before_commit(emit)
        room.closing(store, close)
        return (push,)
