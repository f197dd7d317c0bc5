"""State: keys and values that an operator keeps, of one task.

A change is dirty until its commit is known to have succeeded, then clean, and at some time flushed: rows and
positions together. The database never holds what is not committed (STREAMS: state is never ahead of the log).
"""

from __future__ import annotations

import heapq
import itertools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from raftlog.streams.errors import NotEncoded, StreamsError
from raftlog.streams.pending import MISSING, Pending
from raftlog.streams.serdes import Serde

KEYS_CACHED_MAX: Final = 200_000
"""Clean keys that a store keeps decoded: about 50 MB of small ones."""
_TIME: Final = struct.Struct(">q")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    """A store of a topology. With `source` that topic, which is compacted, is its changelog; else `changelog`
    says whether it has one. With `lasts_ms` its keys begin with a time, and so long after that time they are
    needed."""

    name: str
    key: Serde
    value: Serde
    source: str | None = None
    changelog: bool = True
    lasts_ms: int | None = None
    by_key: bool = False
    """With `lasts_ms`: which times a key has is asked, too."""
    view: Callable[[Any, Any], Any] | None = field(default=None, compare=False, repr=False)
    """What others see of a key's value: of an aggregate, its result. None: the value."""


Fold = Callable[[Any, Any, int], None]
"""Takes a key, a value and a time."""


class Rows(Protocol):
    """What a store needs of its database."""

    def get(self, store: str, key: bytes) -> bytes | None: ...
    def scan(
        self, store: str, low: bytes = b"", high: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]: ...


class Change(NamedTuple):
    """A key's new value, for the changelog; `value` None is a tombstone."""

    key: bytes
    value: bytes | None
    timestamp: int


class Store:
    """Keys and values of one task."""

    def __init__(self, spec: StoreSpec, rows: Rows, *, checks: bool = False) -> None:
        """With `checks` a value that cannot be encoded is refused when it is set, and not only at the
        commit."""
        self.spec = spec
        self.live: dict[Any, Any] = {}
        """What is known decoded, changes included; None is a key that is not there."""
        self.dirty: dict[Any, int] = {}
        """Keys changed since the last commit, each with the time of its last change."""
        self._rows = rows
        self.undoable: list[tuple[Any, Any, Any]] = []
        """What the record in hand has changed; cleared when it is done."""
        self._sent: dict[bytes, bytes | None] = {}
        self.unflushed: dict[bytes, bytes | None] = {}
        self._pending = Pending(self.dirty, self.unflushed, self.encoded)
        self._guarded: dict[Any, bytes] | None = None
        self._checks = checks

    # -- keys

    def encoded(self, key: Any) -> bytes:
        """A key as in the changelog and on disk."""
        return self.spec.key.encode(key)

    def decoded(self, data: bytes) -> Any:
        """And back."""
        return self.spec.key.decode(data)

    # -- reading and changing

    def get(self, key: Any) -> Any:
        """A key's value, or None."""
        value = self.live.get(key, MISSING)
        if value is MISSING:
            data = self._stored(self.encoded(key))
            value = self.live[key] = None if data is None else self._decode(key, data)
        if self._guarded is not None and value is not None:
            self._guarded.setdefault(key, self.spec.value.encode(value))
        return value

    def set(self, key: Any, value: Any, timestamp: int) -> None:
        """A key's new value; None removes it."""
        if self._checks:
            self._change(key, value, timestamp)
        live, dirty = self.live, self.dirty
        self.undoable.append((key, live.get(key, MISSING), dirty.get(key, MISSING)))
        live[key] = value
        dirty[key] = timestamp
        if self._guarded is not None:
            self._guarded.pop(key, None)

    def folding(self, add: Callable[[Any, Any], Any], initial: Any, *, undoes: bool) -> Fold:
        """A function that sets a key to what `add` makes of its value (`initial` when it has none) and of
        another one: `get` and `set` in one step, as every record of an aggregate takes it. When nothing that
        may fail follows in a record, nothing needs to be noted for `undo`."""
        live, dirty, undoable, get = self.live, self.dirty, self.undoable, self.get
        if self._checks:
            return self._folding_with_care(add, initial)

        def fold(key: Any, value: Any, timestamp: int) -> None:
            before = live.get(key, MISSING)
            if before is MISSING or self._guarded is not None:
                before = get(key)
            made = add(initial if before is None else before, value)
            if undoes:
                undoable.append((key, before, dirty.get(key, MISSING)))
            live[key] = made
            dirty[key] = timestamp
            if self._guarded is not None:
                self._guarded.pop(key, None)

        return fold

    def _folding_with_care(self, add: Callable[[Any, Any], Any], initial: Any) -> Fold:
        def fold(key: Any, value: Any, timestamp: int) -> None:
            before = self.get(key)
            self.set(key, add(initial if before is None else before, value), timestamp)

        return fold

    def scan(self, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[Any, Any]]:
        """Keys with values, in the order of their encoded keys, changes included."""
        pending = self._pending.between(low, high)
        stored = (key for key, _ in self._rows.scan(self.spec.name, low, high))
        for data in _merged(stored, pending):
            key = self._pending.decoded(data)
            if key is MISSING:
                key = self.decoded(data)
            value = self.get(key)
            if value is not None:
                yield key, value

    def _stored(self, data: bytes) -> bytes | None:
        found = self.unflushed.get(data, MISSING)
        return self._rows.get(self.spec.name, data) if found is MISSING else found

    def _decode(self, key: Any, data: bytes) -> Any:
        try:
            return self.spec.value.decode(data)
        except Exception as error:
            raise StreamsError(
                f"store {self.spec.name!r}: what it has for {key!r} is not {self.spec.value.name}: {error}. "
                "Give the store a serde whose decode reads the old form, too"
            ) from error

    def as_committed(self) -> Committed:
        """As it was at the last commit, for who looks in from outside."""
        return Committed(self)

    # -- one record's changes

    def undo(self) -> None:
        """Take back what the record in hand has changed: it failed."""
        while self.undoable:
            key, value, changed = self.undoable.pop()
            for table, old in ((self.live, value), (self.dirty, changed)):
                if old is MISSING:
                    table.pop(key, None)
                else:
                    table[key] = old
        self._pending.undone()

    # -- commits

    def changes(self) -> list[Change]:
        """What was changed since the last commit, for the changelog. Raises NotEncoded for what its serde
        does not take."""
        change, live = self._change, self.live
        found = [change(key, live[key], timestamp) for key, timestamp in self.dirty.items()]
        self._sent = {change.key: change.value for change in found}
        return found

    def _change(self, key: Any, value: Any, timestamp: int) -> Change:
        try:
            encoded = None if value is None else self.spec.value.encode(value)
            return Change(self.encoded(key), encoded, timestamp if timestamp > 0 else 0)  # it may have none
        except Exception as error:
            raise NotEncoded(
                f"store {self.spec.name!r}: {self.spec.value.name} does not take the value of key {key!r}, "
                f"or {self.spec.key.name} that key: {error}"
            ) from error

    def committed(self) -> None:
        """What `changes` gave is in the log for good."""
        self.unflushed.update(self._sent)
        self._sent = {}
        self.dirty.clear()
        self._pending.committed()
        if len(self.live) > KEYS_CACHED_MAX:
            self.live.clear()  # what is needed comes back from the rows

    def flushed(self) -> None:
        """The database has what was committed."""
        self.unflushed.clear()
        self._pending.forget()

    def restored(self, key: bytes, value: bytes | None, timestamp: int) -> None:
        """A record of the changelog, at start."""
        self.unflushed[key] = value

    # -- tests

    def guard(self) -> None:
        """From now on remember what was read, for `assert_unchanged`."""
        self._guarded = {}

    def assert_unchanged(self) -> None:
        """Raises StreamsError when a value that was read was changed in place: such a change is lost."""
        for key, before in (self._guarded or {}).items():
            value = self.live.get(key)
            if value is not None and self.spec.value.encode(value) != before:
                raise StreamsError(
                    f"store {self.spec.name!r}: the value of {key!r} was changed in place, "
                    "which no commit sees: make a new value and set it"
                )
        if self._guarded is not None:
            self._guarded.clear()

    def __repr__(self) -> str:
        return f"<Store {self.spec.name} dirty={len(self.dirty)} unflushed={len(self.unflushed)}>"


class Timed(Store):
    """A store whose keys are `(time, key)`, and which forgets all of a time at once: windows, by their start;
    sessions, by their end; what a join waits with. On disk a key is the time in eight bytes, then the key."""

    def __init__(self, spec: StoreSpec, rows: Rows, *, checks: bool = False) -> None:
        super().__init__(spec, rows, checks=checks)
        self.times: dict[int, set[Any]] = {}
        """The keys of each time. All of them are here: times come to their end."""
        self.dropped: list[tuple[bytes, bytes]] = []
        """Ranges that the database still has, and that a commit has ended."""
        self._dropping: list[tuple[bytes, bytes, list[bytes]]] = []
        self._of_key: dict[Any, set[int]] | None = {} if spec.by_key else None
        self._first: list[int] = []  # a heap of all times, with some that are gone, and some twice

    def load(self, watermark: int) -> None:
        """Read which keys there are. Those of times that are over are done with."""
        found = {key for key, _ in self._rows.scan(self.spec.name)}
        for key, value in self.unflushed.items():
            (found.discard if value is None else found.add)(key)
        for data in found:
            time, key = self.decoded(data)
            self._add(time, key)
        for time in self.over(watermark):
            self._drop(time)

    def over(self, watermark: int) -> list[int]:
        """The times, in order, whose keys are needed no more at a watermark."""
        assert self.spec.lasts_ms is not None, self.spec
        last, heap, times = watermark - self.spec.lasts_ms, self._first, self.times
        while heap and heap[0] <= last and heap[0] not in times:
            heapq.heappop(heap)
        if not heap or heap[0] > last:
            return []
        # The heap keeps them until they are dropped, for their end may fail. No time is above a lesser one.
        found, places = set(), [0]
        while places:
            place = places.pop()
            if place < len(heap) and heap[place] <= last:
                found.add(heap[place])
                places += 2 * place + 1, 2 * place + 2
        return sorted(time for time in found if time in times)

    def times_of(self, key: Any) -> list[int]:
        """A key's times, in order. Only for stores that are asked `by_key`."""
        assert self._of_key is not None, self.spec
        return sorted(self._of_key.get(key, ()))

    def as_committed(self) -> TimesCommitted:
        return TimesCommitted(self)

    def get(self, key: Any) -> Any:
        # All keys are in memory: a new window costs no look into the database.
        return super().get(key) if key[1] in self.times.get(key[0], ()) else None

    def encoded(self, key: Any) -> bytes:
        return _TIME.pack(key[0]) + self.spec.key.encode(key[1])

    def decoded(self, data: bytes) -> Any:
        return _TIME.unpack_from(data)[0], self.spec.key.decode(data[8:])

    def set(self, key: Any, value: Any, timestamp: int) -> None:
        super().set(key, value, timestamp)
        (self._remove if value is None else self._add)(*key)

    def folding(self, add: Callable[[Any, Any], Any], initial: Any, *, undoes: bool) -> Fold:
        if self._checks:
            return self._folding_with_care(add, initial)
        known, times = super().folding(add, initial, undoes=undoes), self.times

        def fold(key: Any, value: Any, timestamp: int) -> None:
            if key[1] in times.get(key[0], ()):
                known(key, value, timestamp)
            else:
                self.set(key, add(initial, value), timestamp)

        return fold

    def undo(self) -> None:
        touched = {key for key, _, _ in self.undoable}
        super().undo()
        lows = {_TIME.pack(time) for time, _ in touched}
        self._dropping = [each for each in self._dropping if each[0] not in lows]
        self._pending.forget()
        for key in touched:  # not by `get`: that trusts in `times`, which are made right here
            (self._remove if super().get(key) is None else self._add)(*key)

    def close(self, over: list[int], give: Callable[[int, Any], None] | None) -> None:
        """Give the keys of times that are over, and only then forget them: a function may raise."""
        if give is not None:
            for time in over:
                for key in sorted(self.times[time], key=self.spec.key.encode):
                    give(time, key)
        for time in over:
            self._drop(time)

    def _drop(self, time: int) -> None:
        """Forget a time with all its keys. The changelog keeps them as long as it keeps anything; `load`
        leaves them out."""
        low, high = _TIME.pack(time), _TIME.pack(time + 1)
        live, dirty, undoable, encode = self.live, self.dirty, self.undoable, self.spec.key.encode
        rows = []
        keys = self.times.pop(time, set())
        for key in keys:
            place = (time, key)
            undoable.append((place, live.pop(place, MISSING), dirty.pop(place, MISSING)))
            rows.append(low + encode(key))
        if self._of_key is not None:
            for key in keys:
                self._remove(time, key)
        self._dropping.append((low, high, rows))
        self._pending.forget()

    def committed(self) -> None:
        super().committed()
        for low, high, rows in self._dropping:
            for row in rows:
                self.unflushed.pop(row, None)
            self.dropped.append((low, high))
        self._dropping.clear()
        self._pending.forget()

    def flushed(self) -> None:
        super().flushed()
        self.dropped.clear()

    def _add(self, time: int, key: Any) -> None:
        keys = self.times.get(time)
        if keys is None:
            self.times[time] = {key}
            heapq.heappush(self._first, time)
        else:
            keys.add(key)
        if self._of_key is not None:
            self._of_key.setdefault(key, set()).add(time)

    def _remove(self, time: int, key: Any) -> None:
        for table, at, member in ((self.times, time, key), (self._of_key, key, time)):
            if table is not None and (members := table.get(at)) is not None:
                members.discard(member)
                if not members:
                    del table[at]


def store_of(spec: StoreSpec, rows: Rows, *, checks: bool = False) -> Store:
    """The kind of store that a spec wants."""
    return (Store if spec.lasts_ms is None else Timed)(spec, rows, checks=checks)


class Committed:
    """A store as of the last commit. Good until the task works on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: Any) -> Any:
        """A key's value, or None."""
        store = self._store
        data = store._stored(store.encoded(key))
        return None if data is None else store._decode(key, data)

    def items(self, limit: int, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[Any, Any]]:
        """Up to so many keys with their values, in the order of their encoded keys."""
        store, unflushed = self._store, self._store.unflushed
        fresh = heapq.nsmallest(
            limit,
            (
                key
                for key, value in unflushed.items()
                if value is not None and key >= low and (high is None or key < high)
            ),
        )
        stored = (key for key, _ in store._rows.scan(store.spec.name, low, high) if key not in unflushed)
        for data in itertools.islice(filter(self._has, heapq.merge(fresh, stored)), limit):
            key = store.decoded(data)
            yield key, self.get(key)

    def _has(self, data: bytes) -> bool:
        return True


class TimesCommitted(Committed):
    """A store of times as of the last commit."""

    def __init__(self, store: Timed) -> None:
        super().__init__(store)
        self._timed = store
        self._dropping = {_TIME.unpack(low)[0] for low, _, _ in store._dropping}
        self._times = store.times.keys() | self._dropping | {time for time, _ in store.dirty}
        """Those that may have keys. The database has more: what is over waits for the next flush."""

    def items(self, limit: int, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[Any, Any]]:
        if not self._times:
            return iter(())
        return super().items(limit, max(low, _TIME.pack(min(self._times))), high)

    def of(self, key: Any) -> Iterator[tuple[int, Any]]:
        """A key's times, in order, each with its value."""
        store = self._timed
        if store._of_key is not None:
            times = set(store._of_key.get(key, ()))
        else:
            times = {time for time, keys in store.times.items() if key in keys}
        times |= self._dropping
        times.update(time for time, changed in store.dirty if changed == key)  # removed, and not committed
        for time in sorted(times):
            value = self.get((time, key))
            if value is not None:
                yield time, value

    def _has(self, data: bytes) -> bool:
        return _TIME.unpack_from(data)[0] in self._times


def _merged(stored: Iterator[bytes], pending: list[bytes]) -> Iterator[bytes]:
    """Two sorted sequences as one, without repeats."""
    at = 0
    for key in stored:
        while at < len(pending) and pending[at] <= key:
            if pending[at] != key:
                yield pending[at]
            at += 1
        yield key
    yield from pending[at:]
