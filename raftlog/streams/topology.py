"""An app as its author writes it: streams, tables, windows and stores.

Building an app does no I/O. Each call adds a node, and gives the handle that the next one is called on.
Stores have names that their author gives, never counted ones: so an app can grow without losing its state.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from raftlog.streams import serdes
from raftlog.streams.aggregates import Aggregate
from raftlog.streams.aggregates import count as counted
from raftlog.streams.aggregates import reduce as reduced
from raftlog.streams.aggregating import CHANGES, FINAL, LATE, Aggregating, Sessioning, Windowing, view_of
from raftlog.streams.commands import Commanding
from raftlog.streams.errors import TopologyError
from raftlog.streams.functions import of_both, unless_none
from raftlog.streams.handles import Handle
from raftlog.streams.inputs import FOR_EVER
from raftlog.streams.joins import HOWS, MISSING_RULES, StreamJoin, TableJoin, waiting
from raftlog.streams.lookups import AsyncMap
from raftlog.streams.nodes import (
    Edge,
    Filter,
    FlatMap,
    Keep,
    KeyBy,
    Map,
    Merge,
    Node,
    Process,
    Sink,
    Source,
    Split,
)
from raftlog.streams.serdes import Serde
from raftlog.streams.sliding import Overlooking
from raftlog.streams.stores import StoreSpec
from raftlog.streams.timers import EVENT, WALL, Timer
from raftlog.streams.windows import Sessions, Sliding, Windows

NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,80}")
"""An app's name and its stores' become parts of topic names, which Kafka ends at 249 characters."""
MAX_AHEAD_S: Final = 3600
"""A record's time may be so far ahead of the wall clock, as with the broker's own limit."""

STANDBYS_MAX: Final = 3
"""Each reads the changelogs once more."""

Guarantee = Literal["at_least_once", "exactly_once"]
OnError = Literal["fail", "skip"]
Missing = Literal["skip", "none", "fail", "dlq"]
Clock = Literal["event", "wall"]
Function = Callable[..., Any]


class App(Commanding):
    """A stream processing app: its name is its group's, and begins the names of its topics.

    `guarantee` says what a crash may do: with "at_least_once" some records are processed again, with
    "exactly_once" each has its effect once, for those who read `read_committed`. `on_error` says what a
    record does that cannot be processed: "fail" ends the app with RecordFailed, "skip" counts it; with `dlq`
    it goes to that topic as it came.

    `commit_ms` is how often results are committed: by default 1000, and 200 with "exactly_once". `idle_ms` is
    how long an input without records holds up windows: None is for ever. `wait_ms` is how long a task that
    reads several topics waits for a record of one that has not been read to its end, so that records meet in
    the order of their times. `standbys` is how many other workers keep a copy of each task's state, to take
    it over at once.
    """

    def __init__(
        self,
        name: str,
        *,
        guarantee: Guarantee = "at_least_once",
        on_error: OnError = "fail",
        dlq: str | None = None,
        commit_ms: int | None = None,
        idle_ms: int | None = 30_000,
        wait_ms: int = 0,
        standbys: int = 0,
    ) -> None:
        self.name = _name("app", name)
        if guarantee not in ("at_least_once", "exactly_once"):
            raise TopologyError(f'guarantee={guarantee!r}: it is "at_least_once" or "exactly_once"')
        if on_error not in ("fail", "skip"):
            raise TopologyError(f'on_error={on_error!r}: it is "fail" or "skip"')
        self.guarantee = guarantee
        self.on_error = on_error
        self.dlq = dlq
        self.commit_ms = commit_ms if commit_ms is not None else 200 if guarantee == "exactly_once" else 1000
        self.idle_ms = idle_ms
        self.wait_ms = wait_ms
        if not 0 <= standbys <= STANDBYS_MAX:
            raise TopologyError(f"standbys={standbys}: it is from 0 to {STANDBYS_MAX}")
        self.standbys = standbys
        self.nodes: list[Node] = []
        self.stores: dict[str, StoreSpec] = {}
        self._sources: dict[str, Source] = {}

    # -- where records come from

    def stream(
        self,
        topic: str,
        *,
        key: Serde = serdes.TEXT,
        value: Serde = serdes.BYTES,
        timestamp: Callable[[Any], int] | None = None,
        max_ahead_s: float = MAX_AHEAD_S,
    ) -> Stream:
        """The records of a topic. Their time is the record's timestamp, or what `timestamp` makes of the
        value, in milliseconds; one more than `max_ahead_s` ahead of the wall clock is left out, and closes no
        window."""
        source = Source(topic, key, value, timestamp=timestamp, max_ahead_ms=round(max_ahead_s * 1000))
        return Stream(self, self._source(source), key, value)

    def table(self, topic: str, *, name: str, key: Serde = serdes.TEXT, value: Serde = serdes.BYTES) -> Table:
        """The last value of each key of a topic, which should be compacted: it is its own changelog."""
        spec = self._store(StoreSpec(name=name, key=key, value=value, source=topic))
        source = Source(topic, key, value, max_ahead_ms=MAX_AHEAD_S * 1000, table=spec)
        return Table(self, self._source(source), spec)

    def store(
        self,
        name: str,
        *,
        key: Serde = serdes.TEXT,
        value: Serde = serdes.JSON,
        changelog: bool = True,
    ) -> StoreSpec:
        """State of your own, for `process`: each task has that of its partition. Without a `changelog` it is
        lost with the worker's disk."""
        return self._store(StoreSpec(name=name, key=key, value=value, changelog=changelog))

    def every(
        self, period_s: float, *stores: StoreSpec, clock: Clock = "event"
    ) -> Callable[[Function], Stream]:
        """A decorator: the function is called with the time in milliseconds and a State of each store, in
        each partition, whenever time reaches another multiple of the period; it gives (`yield`) any number of
        `key, value`. By "event" time that is when the watermark gets there, and a replay gives the same; by
        "wall" time, when the clock does, while a worker runs. When time makes a leap it is called once."""
        period_ms = round(period_s * 1000)
        if period_ms < 1 or not stores:
            raise TopologyError(
                "every() needs a period of at least 0.001 s and a store: app.every(60, recent)"
            )
        if clock not in (EVENT, WALL):
            raise TopologyError(f'clock={clock!r}: it is "event" or "wall"')

        def decorate(function: Function) -> Stream:
            node = self.add(Timer(function, stores, period_ms, clock))
            return Stream(self, Edge(node), stores[0].key, serdes.JSON)

        return decorate

    # -- what the handles call

    def add(self, node: Node) -> Node:
        """One more node."""
        node.number = len(self.nodes)
        self.nodes.append(node)
        return node

    def _source(self, source: Source) -> Edge:
        before = self._sources.get(source.topic)
        if before is not None:
            raise TopologyError(
                f"topic {source.topic!r} is read twice: keep what the first call gave, and use it again"
            )
        self._sources[source.topic] = source
        return Edge(self.add(source))

    def _store(self, spec: StoreSpec) -> StoreSpec:
        _name("store", spec.name)
        if spec.name in self.stores:
            raise TopologyError(
                f"store {spec.name!r} is there already: its changelog would be written by two"
            )
        self.stores[spec.name] = spec
        return spec

    def topic_of(self, store: str, what: str) -> str:
        """The name of a topic of the app's own."""
        return f"{self.name}-{store}-{what}"

    def repartitioned(self, stream: Stream, name: str) -> Stream:
        """The stream through a topic, so that each key's records are in one partition."""
        topic = self.topic_of(name, "repartition")
        self.add(Sink(stream.edge, topic, stream.key, stream.value, repartition=True))
        source = Source(topic, stream.key, stream.value, max_ahead_ms=FOR_EVER, internal=True)
        return Stream(self, self._source(source), stream.key, stream.value)

    def __repr__(self) -> str:
        return f"<App {self.name} {self.guarantee} nodes={len(self.nodes)}>"


class Stream(Handle):
    """Records, one after the other. A function that is given gets the value, or, if its parameters are called
    `key` and `value`, both. Values are not copied: a function makes a new one."""

    def __init__(self, app: App, edge: Edge, key: Serde, value: Serde, *, rekeyed: bool = False) -> None:
        self.app = app
        self.edge = edge
        self.key = key
        self.value = value
        self.rekeyed = rekeyed

    def _next(self, node: Node, value: Serde | None = None, port: str = "out") -> Stream:
        return Stream(
            self.app, Edge(self.app.add(node), port), self.key, value or self.value, rekeyed=self.rekeyed
        )

    # -- one record at a time

    def map(self, function: Function) -> Stream:
        """What the function makes of each value."""
        return self._next(Map(self.edge, of_both(function)), serdes.JSON)

    def filter(self, function: Function) -> Stream:
        """The records for which the function is true."""
        return self._next(Filter(self.edge, of_both(function)))

    def flat_map(self, function: Function) -> Stream:
        """All values that the function gives for each value."""
        return self._next(FlatMap(self.edge, of_both(function)), serdes.JSON)

    def async_map(self, function: Function, *, concurrency: int = 32, timeout_s: float = 10.0) -> Stream:
        """What an asynchronous function makes of each value, on Trio: a look-up. Of each partition so many
        are under way at a time, and results keep its order. A commit waits for all of them; one that raises,
        or has no answer within `timeout_s`, is a record that failed."""
        if inspect.isfunction(function) and not inspect.iscoroutinefunction(function):
            raise TopologyError(
                f"async_map: {function!r} is no `async def`: for a plain function there is map()"
            )
        if concurrency < 1 or timeout_s <= 0:
            raise TopologyError(f"async_map: concurrency={concurrency}, timeout_s={timeout_s}: above 0 each")
        return self._next(AsyncMap(self.edge, of_both(function), concurrency, timeout_s), serdes.JSON)

    def key_by(self, function: Function, *, key: Serde = serdes.TEXT, value: Serde | None = None) -> Stream:
        """Other keys. What needs all records of a key in one place, such as a window or a join, then reads
        them through a topic that is named after its store, written with these serdes (`value`: JSON, unless
        the values are the topic's own)."""
        node = self.app.add(KeyBy(self.edge, of_both(function)))
        return Stream(self.app, Edge(node), key, value or self.value, rekeyed=True)

    def merge(self, *others: Stream) -> Stream:
        """The records of this and of other streams."""
        for other in others:
            if (other.key, other.value) != (self.key, self.value):
                raise TopologyError(f"merge: {other!r} has other serdes than {self!r}")
        node = self.app.add(Merge(self.edge, *(other.edge for other in others)))
        rekeyed = self.rekeyed or any(other.rekeyed for other in others)
        return Stream(self.app, Edge(node), self.key, self.value, rekeyed=rekeyed)

    def split(self, **ports: Function) -> dict[str, Stream]:
        """Each record to the first of the named streams whose function is true, or to `rest`."""
        if not ports or Split.REST in ports:
            raise TopologyError('split: name a function a stream, and none "rest": that is what is left')
        node = self.app.add(Split(self.edge, {name: of_both(function) for name, function in ports.items()}))
        return {
            port: Stream(self.app, Edge(node, port), self.key, self.value, rekeyed=self.rekeyed)
            for port in (*ports, Split.REST)
        }

    def process(self, *stores: StoreSpec) -> Callable[[Function], Stream]:
        """A decorator: the function gets the record and a State of each store, and gives (`yield`) any number
        of values, which keep the record's key."""
        stream = self._grouped(stores[0].name) if stores else self

        def decorate(function: Function) -> Stream:
            return stream._next(Process(stream.edge, function, stores), serdes.JSON)

        return decorate

    # -- the records of a key

    def window(self, windows: Windows | Sessions | Sliding) -> Windowed:
        """Cut time into windows: see `tumbling`, `hopping`, `sliding` and `session`."""
        if not isinstance(windows, Windows | Sessions | Sliding):
            raise TopologyError(
                f"window({windows!r}): give one of tumbling(), hopping(), sliding(), session()"
            )
        return Windowed(self, windows)

    def count(self, name: str) -> Table:
        """How many records each key has had."""
        return self.aggregate(name, counted())

    def reduce(self, name: str, function: Callable[[Any, Any], Any], *, value: Serde = serdes.JSON) -> Table:
        """One value of all of a key's: what the function makes of the value so far and the next one."""
        return self.aggregate(name, reduced(function), value=value)

    def aggregate(self, name: str, aggregate: Aggregate, *, value: Serde = serdes.JSON) -> Table:
        """One value of all of a key's: see `fields`, `sum`, `mean`, `Aggregate`."""
        stream = self._grouped(name)
        spec = StoreSpec(
            name=name, key=stream.key, value=value, view=lambda _, found: aggregate.result(found)
        )
        node = self.app.add(Aggregating(stream.edge, aggregate, self.app._store(spec)))
        return Table(self.app, Edge(node), spec, view=spec.view)

    def to_table(self, name: str, *, value: Serde | None = None) -> Table:
        """The last value of each key."""
        stream = self._grouped(name)
        spec = self.app._store(StoreSpec(name=name, key=stream.key, value=value or stream.value))
        return Table(self.app, Edge(self.app.add(Keep(stream.edge, stores=(spec,)))), spec)

    # -- joins

    def join(
        self,
        other: Table | Stream,
        function: Callable[[Any, Any], Any],
        *,
        missing: Missing = "skip",
        name: str | None = None,
        within_s: float | None = None,
        grace_s: float = 0,
        how: Literal["inner", "left", "outer"] = "inner",
    ) -> Stream:
        """With a table: each record with the row of its key; `missing` says what becomes of one that has no
        row ("none": the function gets None). With a stream: each two records of a key that are at most
        `within_s` apart; `name` is that of the stores in which records wait, and with "left" and "outer"
        those without a partner come, too."""
        if isinstance(other, Table):
            if within_s is not None or how != "inner":
                raise TopologyError(
                    "within_s and how are for joins of streams; for a left join with a table: missing='none'"
                )
            if missing not in MISSING_RULES:
                raise TopologyError(f"missing={missing!r}: it is one of {', '.join(MISSING_RULES)}")
            if missing == "dlq" and self.app.dlq is None:
                raise TopologyError('missing="dlq" needs a topic: App(…, dlq="NAME")')
            stream = self._grouped(name or other.spec.name)
            return stream._next(
                TableJoin(stream.edge, other.spec, function, missing, other.view), serdes.JSON
            )
        if name is None or within_s is None:
            raise TopologyError("a join of streams needs name= and within_s=")
        if how not in HOWS:
            raise TopologyError(f"how={how!r}: it is one of {', '.join(HOWS)}")
        within_ms, grace_ms = round(within_s * 1000), round(grace_s * 1000)
        left, right = self._grouped(f"{name}-left"), other._grouped(f"{name}-right")
        stores = (
            self._waiting(f"{name}-left", left, within_ms + grace_ms),
            self._waiting(f"{name}-right", right, within_ms + grace_ms),
        )
        node = StreamJoin(
            left.edge, right.edge, function, within_ms=within_ms, grace_ms=grace_ms, how=how, stores=stores
        )
        return left._next(node, serdes.JSON)

    def _waiting(self, name: str, stream: Stream, lasts_ms: int) -> StoreSpec:
        value = waiting(stream.value)
        lasts_ms += 1  # exactly at the end a partner may still come
        spec = StoreSpec(name=name, key=stream.key, value=value, lasts_ms=lasts_ms, by_key=True)
        return self.app._store(spec)

    # -- where records go

    def to(self, topic: str, *, key: Serde | None = None, value: Serde | None = None) -> None:
        """Into a topic, which must be there: the partition is chosen by the key, as by any Kafka client."""
        self.app.add(Sink(self.edge, topic, key or self.key, value or self.value))

    def through(self, name: str) -> Stream:
        """Through a topic of the app's own: what follows is a task of its own."""
        return self.app.repartitioned(self, name)

    def _grouped(self, name: str) -> Stream:
        return self.app.repartitioned(self, name) if self.rekeyed else self

    def __repr__(self) -> str:
        return f"<Stream {self.edge.node!r} {self.key.name} {self.value.name}>"


@dataclass(frozen=True)
class Windowed(Handle):
    """A stream cut into windows, to be counted or aggregated."""

    stream: Stream
    windows: Windows | Sessions | Sliding

    def count(self, name: str) -> Results:
        """How many records of each key: results have `start`, `end` and `count`."""
        return self.aggregate(name, counted())

    def reduce(
        self, name: str, function: Callable[[Any, Any], Any], *, value: Serde = serdes.JSON
    ) -> Results:
        """What the function makes of the value so far and the next: results have `start`, `end` and
        `value`."""
        return self.aggregate(name, reduced(function), value=value)

    def aggregate(self, name: str, aggregate: Aggregate, *, value: Serde = serdes.JSON) -> Results:
        """An aggregate a window: results have `start`, `end`, and its members."""
        windows = self.windows
        if not isinstance(windows, Windows) and aggregate.merge is None:
            raise TopologyError(f"{windows}: windows grow together, the aggregate needs a merge")
        stream = self.stream._grouped(name)
        app, view = stream.app, view_of(windows, aggregate)

        def store(
            name: str, lasts_ms: int, *, by_key: bool = False, view: Function | None = view
        ) -> StoreSpec:
            return app._store(
                StoreSpec(name=name, key=stream.key, value=value, lasts_ms=lasts_ms, by_key=by_key, view=view)
            )

        node: Node
        match windows:
            case Sessions(gap_ms, grace_ms):
                node = Sessioning(
                    stream.edge, windows, aggregate, store(name, gap_ms + grace_ms, by_key=True)
                )
            case Sliding(size_ms, grace_ms):
                # At its very end a window still takes records.
                stores = (
                    store(name, grace_ms + 1),
                    store(f"{name}-parts", size_ms + grace_ms, by_key=True, view=None),
                )
                node = Overlooking(stream.edge, windows, aggregate, stores)
            case Windows():
                node = Windowing(
                    stream.edge, windows, aggregate, store(name, windows.size_ms + windows.grace_ms)
                )
        return Results(app.add(node), stream)


@dataclass(frozen=True)
class Results(Handle):
    """What comes of windows."""

    node: Node
    stream: Stream

    def changes(self) -> Stream:
        """Each window that has changed, once a commit. Of sessions that grew together, the old ones come with
        `"gone": true`."""
        return self._port(CHANGES, serdes.JSON)

    def final(self) -> Stream:
        """Each window once, when it is over: in the order of end and key."""
        return self._port(FINAL, serdes.JSON)

    def late(self) -> Stream:
        """The records that came too late for a window of theirs."""
        return self._port(LATE, self.stream.value)

    def _port(self, port: str, value: Serde) -> Stream:
        return Stream(self.stream.app, Edge(self.node, port), self.stream.key, value)


class Table(Handle):
    """The present value of each key. Made by `App.table`, `Stream.count`, `reduce`, `aggregate` and
    `to_table`."""

    def __init__(
        self, app: App, edge: Edge, spec: StoreSpec, *, view: Callable[[Any, Any], Any] | None = None
    ) -> None:
        self.app = app
        self.edge = edge
        self.spec = spec
        self.view = view

    def map(self, function: Function) -> Table:
        """The table with other values, worked out when a row is looked at; None is no row."""
        inner, outer = self.view, of_both(function)
        view = (
            outer
            if inner is None
            else lambda key, row: None if (seen := inner(key, row)) is None else outer(key, seen)
        )
        return Table(self.app, Edge(self.app.add(Map(self.edge, unless_none(outer)))), self.spec, view=view)

    def filter(self, function: Function) -> Table:
        """The table with only those rows for which the function is true."""
        wanted = of_both(function)
        return self.map(lambda key, value: value if wanted(key, value) else None)

    def changes(self) -> Stream:
        """Rows that have changed; the value is None for one that is gone. Of a count or aggregate, once a
        commit."""
        return Stream(self.app, self.edge, self.spec.key, serdes.JSON if self.view else self.spec.value)

    def __repr__(self) -> str:
        return f"<Table {self.spec.name}>"


def _name(what: str, name: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise TopologyError(f"{what} name {name!r}: up to 80 letters, digits, dots, underscores and hyphens")
    return name
