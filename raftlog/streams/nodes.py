"""What a topology is made of: its nodes, each with what it does to a record.

A node is data and one function, `build`, which gives the function that takes a record (key, value, time) and
pushes what comes of it into the next ones. A task builds them from the last to the first, so that a whole
sub-topology becomes one nest of plain functions: no queue, no dispatch, no await between two operators.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from raftlog.streams.errors import NotEncoded
from raftlog.streams.serdes import Serde
from raftlog.streams.stores import Store, StoreSpec, Timed

Push = Callable[[Any, Any, int], None]
"""Takes a record: key, value, and its time in milliseconds since the epoch."""
Downs = Mapping[str, Push]
"""Where each port of a node leads."""

OUT = "out"
SHOWN_MAX: Final = 80
"""Characters of a key or a value in a message."""


class Room(Protocol):
    """What a node sees of the task that it runs in."""

    undoes: bool
    """Whether a record may fail when it has changed a store already."""

    @property
    def watermark(self) -> int:
        """No record before this time is expected any more; -1 at first."""

    def store(self, name: str) -> Store:
        """One of the task's stores."""

    def send(self, sink: Sink, key: Any, value: Any, timestamp: int) -> None:
        """A record to a topic."""

    def closing(self, store: Timed, give: Callable[[int, Any], None] | None) -> None:
        """When a time of the store is over, call `give` with the time and each key of it, in the order of the
        encoded keys, and drop it."""

    def before_commit(self, emit: Callable[[], None]) -> None:
        """Call `emit` at the begin of each commit."""

    def every(self, period_ms: int, clock: str, fire: Callable[[int], None]) -> None:
        """Call `fire` with each multiple of the period that the watermark reaches, or the wall clock."""

    def record(self, key: Any, value: Any, timestamp: int) -> Record:
        """A record as users' functions see it, with the headers of the one in hand."""

    def ask(self, node: Any, key: Any, value: Any, timestamp: int, down: Push) -> None:
        """A question of an AsyncMap, whose answer goes `down`."""

    def note_dropped(self, why: str) -> None:
        """Count a record that goes no further, by reason."""

    def note_keyless(self, why: str) -> None:
        """The same of one that has no key where it needs one: the worker warns of the first."""

    def fail(self, reason: str, to_dlq: bool) -> None:
        """The record in hand cannot be processed: raises, for the app's rule on errors to decide, or for the
        DLQ."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as `process` sees it. `topic`, `partition` and `offset` are those of the record in hand."""

    key: Any
    value: Any
    timestamp: int
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str = ""
    partition: int = -1
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Edge:
    """A way out of a node."""

    node: Node
    port: str = OUT


class Node:
    """One step. `parents` are the ways into it, in the order of what `build` gives."""

    kind: ClassVar[str]

    def __init__(self, *parents: Edge, stores: tuple[StoreSpec, ...] = ()) -> None:
        self.parents = parents
        self.stores = stores
        self.number = -1

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        """A function for each parent, which takes its records."""
        raise NotImplementedError

    def describe(self) -> str:
        """What it is, for `raftlog streams describe`, and for the fingerprint: no word of users'
        functions."""
        names = ", ".join(store.name for store in self.stores)
        return f"{self.kind} {names}".rstrip()

    def __repr__(self) -> str:
        return f"<{self.number} {self.describe()}>"


class Source(Node):
    """Records of a topic. With `table` they go into that store first; `internal` topics are the app's own."""

    kind = "source"

    def __init__(
        self,
        topic: str,
        key: Serde,
        value: Serde,
        *,
        timestamp: Callable[[Any], int] | None = None,
        max_ahead_ms: int,
        table: StoreSpec | None = None,
        internal: bool = False,
    ) -> None:
        super().__init__(stores=(table,) if table else ())
        self.topic = topic
        self.key = key
        self.value = value
        self.timestamp = timestamp
        self.max_ahead_ms = max_ahead_ms
        self.table = table
        self.internal = internal

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        down = downs[OUT]
        if self.table is None:
            return (down,)
        return (_keeping(room, self.table, down),)

    def describe(self) -> str:
        return f"table {self.table.name} from {self.topic}" if self.table else f"source {self.topic}"


class Sink(Node):
    """Records to a topic. `repartition` chooses the partition by the key, and carries the watermark."""

    kind = "sink"

    def __init__(
        self, parent: Edge, topic: str, key: Serde, value: Serde, *, repartition: bool = False
    ) -> None:
        super().__init__(parent)
        self.topic = topic
        self.key = key
        self.value = value
        self.repartition = repartition

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        send = room.send
        return (lambda key, value, timestamp: send(self, key, value, timestamp),)

    def refusal(self, key: Any, value: Any, error: Exception) -> NotEncoded:
        """What there is to say when a serde has refused the one or the other."""
        what, given, serde = "value", value, self.value
        try:
            None if key is None else self.key.encode(key)
        except Exception:
            what, given, serde = "key", key, self.key
        giver = self.parents[0].node
        while giver.parents and not isinstance(giver, KeyBy):
            giver = giver.parents[0].node
        hint = "" if self.repartition else f". Its serde is named by .to({self.topic!r}, {what}=…)"
        if self.repartition and isinstance(giver, KeyBy):
            hint = f". Its serde is named by .key_by(…, {what}=…), step {giver.number}"
        return NotEncoded(
            f"step {self.number} ({self.describe()}): {serde.name} does not take the {what} {_short(given)}: "
            f"{error}{hint}"
        )

    def describe(self) -> str:
        return f"{'repartition' if self.repartition else 'sink'} {self.topic}"


class Map(Node):
    """A value for each value."""

    kind = "map"

    def __init__(self, parent: Edge, function: Callable[[Any, Any], Any]) -> None:
        super().__init__(parent)
        self.function = function

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        down, function = downs[OUT], self.function
        return (lambda key, value, timestamp: down(key, function(key, value), timestamp),)


class KeyBy(Map):
    """A new key for each record."""

    kind = "key by"

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        down, function = downs[OUT], self.function
        return (lambda key, value, timestamp: down(function(key, value), value, timestamp),)


class Filter(Map):
    """Those for which a function is true."""

    kind = "filter"

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        down, function = downs[OUT], self.function

        def push(key: Any, value: Any, timestamp: int) -> None:
            if function(key, value):
                down(key, value, timestamp)

        return (push,)


class FlatMap(Map):
    """Any number of values for each value."""

    kind = "flat map"

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        down, function = downs[OUT], self.function

        def push(key: Any, value: Any, timestamp: int) -> None:
            for made in function(key, value):
                down(key, made, timestamp)

        return (push,)


class Split(Node):
    """To the first port whose function is true; to `rest` when none is."""

    kind = "split"
    REST = "rest"

    def __init__(self, parent: Edge, ports: Mapping[str, Callable[[Any, Any], Any]]) -> None:
        super().__init__(parent)
        self.ports = dict(ports)

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        ways = [(function, downs[port]) for port, function in self.ports.items()]
        rest = downs[self.REST]

        def push(key: Any, value: Any, timestamp: int) -> None:
            for function, down in ways:
                if function(key, value):
                    down(key, value, timestamp)
                    return
            rest(key, value, timestamp)

        return (push,)


class Merge(Node):
    """The records of several streams as one."""

    kind = "merge"

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        return (downs[OUT],) * len(self.parents)


class Keep(Node):
    """The last value of each key, in a store: a stream becomes a table."""

    kind = "table"

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        return (_keeping(room, self.stores[0], downs[OUT]),)


class State:
    """A store as a function given to `process` sees it: for the keys of this partition."""

    __slots__ = ("_store", "timestamp")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.timestamp = 0

    def get(self, key: Any, default: Any = None) -> Any:
        """A key's value. It must not be changed in place."""
        value = self._store.get(key)
        return default if value is None else value

    def set(self, key: Any, value: Any) -> None:
        """A key's new value."""
        if value is None:
            raise ValueError("None is no value: use delete")
        self._store.set(key, value, self.timestamp)

    def delete(self, key: Any) -> None:
        """Remove a key."""
        self._store.set(key, None, self.timestamp)

    def range(self, low: Any, high: Any) -> Any:
        """Keys with values from `low`, up to before `high`, in the order of their encoded keys."""
        return self._store.scan(self._store.encoded(low), self._store.encoded(high))

    def prefix(self, start: Any) -> Any:
        """Keys with values whose encoded keys begin with that of `start`."""
        low = self._store.encoded(start)
        return self._store.scan(low, _after(low))

    def __repr__(self) -> str:
        return f"<State of {self._store!r}>"


class Process(Node):
    """A function of the record and of stores, which gives any number of values, or None."""

    kind = "process"

    def __init__(self, parent: Edge, function: Callable[..., Any], stores: tuple[StoreSpec, ...]) -> None:
        super().__init__(parent, stores=stores)
        self.function = function

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        down, function, make = downs[OUT], self.function, room.record
        states = [State(room.store(spec.name)) for spec in self.stores]

        def push(key: Any, value: Any, timestamp: int) -> None:
            for state in states:
                state.timestamp = timestamp
            made = function(make(key, value, timestamp), *states)
            if made is not None:
                for each in made:
                    down(key, each, timestamp)

        return (push,)


def _short(value: Any) -> str:
    text = reprlib.repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def _keeping(room: Room, table: StoreSpec, down: Push) -> Push:
    """Puts a record into a table's store, and passes it on."""
    put = room.store(table.name).set

    def push(key: Any, value: Any, timestamp: int) -> None:
        if key is None:
            room.note_keyless("a table's record has no key")
            return
        put(key, value, timestamp)
        down(key, value, timestamp)

    return push


def _after(prefix: bytes) -> bytes | None:
    """The least bytes that are behind all that begin with a prefix."""
    short = prefix.rstrip(b"\xff")
    return short[:-1] + bytes([short[-1] + 1]) if short else None
