"""An app in a test: no broker, no clock, no event loop.

    with rs.driver(app) as d:
        d.feed("lines", "to be or not to be", at=1_000)
        assert d.store("counts")["be"] == 2

It runs the tasks that a worker runs, on a log in memory. Whatever is fed is processed at once, and committed
unless `autocommit=False`. The wall clock stands still but for `advance`, and for records that are later than
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import trio

from raftlog.client.nursery import background
from raftlog.client.partitioner import murmur2_partition
from raftlog.client.record import Record as Read
from raftlog.streams.counts import task_counts
from raftlog.streams.database import MEMORY, Database
from raftlog.streams.errors import TopologyError
from raftlog.streams.lookups import Lookups
from raftlog.streams.nodes import Sink, Source
from raftlog.streams.outputs import Output
from raftlog.streams.plan import SubTopology, plan
from raftlog.streams.restoring import Changelog, OnLost, Restoring
from raftlog.streams.task import Task
from raftlog.streams.telling import ALL_PARTITIONS
from raftlog.streams.topology import App

ROUNDS_MAX: Final = 1000
"""After so many rounds a topology that feeds itself is given up."""


class Got(NamedTuple):
    """A record that the app has written."""

    key: Any
    value: Any
    timestamp: int
    partition: int
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass
class Topic:
    """A topic of the log in memory. A test may cut it off (`trim`), or put another in its place."""

    partitions: int
    topic_id: str
    logs: list[list[Read]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.logs = [[] for _ in range(self.partitions)]
        self.starts = [0] * self.partitions

    def end(self, partition: int) -> int:
        """The offset behind the last record."""
        return self.starts[partition] + len(self.logs[partition])

    def read(self, partition: int, offset: int) -> list[Read]:
        """What there is from an offset on."""
        return self.logs[partition][max(0, offset - self.starts[partition]) :]

    def append(self, output: Output, partition: int) -> None:
        """One more record."""
        self.logs[partition].append(
            Read(
                output.topic,
                partition,
                self.end(partition),
                output.timestamp,
                output.key,
                output.value,
                output.headers,
            )
        )

    def trim(self, partition: int, offset: int) -> None:
        """What is before an offset is gone."""
        del self.logs[partition][: offset - self.starts[partition]]
        self.starts[partition] = offset


class StoreView:
    """A store over all partitions, to be looked at."""

    def __init__(self, tasks: list[Task], name: str) -> None:
        self._stores = [task.store(name) for task in tasks]

    def get(self, key: Any, default: Any = None) -> Any:
        """A key's value; that of a window's at `(key, start_ms)`."""
        timed = self._stores[0].spec.lasts_ms is not None
        place = (key[1], key[0]) if timed else key
        found = [value for store in self._stores if (value := store.get(place)) is not None]
        return found[0] if found else default

    def __getitem__(self, key: Any) -> Any:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def items(self) -> dict[Any, Any]:
        """All keys with their values."""
        timed = self._stores[0].spec.lasts_ms is not None
        pairs = [pair for store in self._stores for pair in store.scan()]
        return {(key[1], key[0]) if timed else key: value for key, value in pairs}

    def __len__(self) -> int:
        return len(self.items())


@contextmanager
def driver(
    app: App,
    *,
    partitions: int | Mapping[str, int] = 1,
    autocommit: bool = True,
    flush: bool = True,
    changes_max: int | None = None,
    on_changelog_lost: OnLost = "fail",
) -> Iterator[Driver]:
    """An app, ready to be fed. `partitions` are those of each topic, or of all. Without `autocommit` call
    `commit`, which also comes by itself once so many keys and outputs have changed, if `changes_max` is
    given; without `flush`, call that to bring state to the disk. Raises TopologyError when the app cannot
    run."""
    driven = Driver(app, partitions, autocommit, flush, changes_max, on_changelog_lost)
    try:
        yield driven
    finally:
        driven.close()


class Driver:
    """An app that is driven by a test."""

    def __init__(
        self,
        app: App,
        partitions: int | Mapping[str, int],
        autocommit: bool,
        flush: bool,
        changes_max: int | None,
        on_changelog_lost: OnLost,
    ) -> None:
        self.plan = plan(app)
        self.now_ms = 0
        self.topics: dict[str, Topic] = {}
        self.committed: dict[tuple[str, int], tuple[int, str]] = {}
        """Offset and metadata by topic and partition, as the app's group has them."""
        self.tasks: list[Task] = []
        self._partitions = partitions
        self._autocommit = autocommit
        self._flush = flush
        self._changes_max = changes_max
        self._on_changelog_lost = on_changelog_lost
        self._databases: dict[tuple[int, int], Database] = {}
        self._read: Counter[tuple[str, int]] = Counter()
        self._positions: dict[tuple[str, int], int] = {}
        self._sinks = {node.topic: node for node in app.nodes if isinstance(node, Sink)}
        self._sources = {node.topic: node for node in app.nodes if isinstance(node, Source)}
        for topic in self.plan.sources:
            self._topic(topic)
        self._counts = task_counts(self.plan, {t: self.topics[t].partitions for t in self.plan.sources})
        for topic in self.plan.repartitions:
            self.topics[topic] = Topic(self._counts[self.plan.part_reading(topic).number], topic)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    # -- in and out

    def feed(
        self, topic: str, value: Any, *, key: Any = None, at: int | None = None, partition: int | None = None
    ) -> None:
        """A record into a topic that the app reads, with its own serdes; bytes go in as they are. `at` is its
        timestamp in milliseconds: now unless it is given."""
        source = self._sources.get(topic)
        if source is None or source.internal:
            raise TopologyError(f"the app does not read {topic!r}; it reads {', '.join(self.plan.sources)}")
        encoded = key if key is None or isinstance(key, bytes) else source.key.encode(key)
        data = value if value is None or isinstance(value, bytes) else source.value.encode(value)
        at = self.now_ms if at is None else at
        self._be_at(at)
        self._append(Output(topic, encoded, data, at, partition))
        self.settle()

    def read(self, topic: str) -> list[Got]:
        """What was written to a topic since the last call, partition by partition, decoded as the app encoded
        it."""
        sink = self._sinks.get(topic)
        if sink is None and topic != self.plan.app.dlq:
            raise TopologyError(f"the app does not write {topic!r}; it writes {', '.join(self._sinks)}")
        found = []
        for partition in range(self._topic(topic).partitions):
            records = self.topics[topic].read(partition, self._read[topic, partition])
            self._read[topic, partition] += len(records)
            for each in records:
                key, value = each.key, each.value
                if sink is not None:
                    key = None if key is None else sink.key.decode(key)
                    value = None if value is None else sink.value.decode(value)
                found.append(Got(key, value, each.timestamp, partition, each.headers))
        return found

    def store(self, name: str) -> StoreView:
        """A store. Raises KeyError for one that the app does not have."""
        return StoreView([task for task in self.tasks if name in {s.name for s in task.part.stores}], name)

    @property
    def dropped(self) -> Counter[str]:
        """How many records went no further, by reason."""
        return sum((task.dropped for task in self.tasks), Counter())

    # -- time, commits, crashes

    def advance(self, seconds: float) -> None:
        """Let the wall clock go on: inputs fall silent, and windows close."""
        self.now_ms += round(seconds * 1000)
        self.settle()

    def commit(self, *, until: str | None = None) -> None:
        """Commit all tasks. With `until` stop before a step, for a crash there: "outputs", "changelog",
        "offsets", "committed", "flush"."""
        for task in self.tasks:
            for step, run in self._commit_steps(task):
                if step == until:
                    return
                run()

    def flush(self) -> None:
        """Bring what is committed to the disk."""
        for task in self.tasks:
            task.flush()

    def crash(self) -> None:
        """The worker ends, without a goodbye."""
        self.tasks = []
        self._positions.clear()

    def restart(self, *, lose_state: bool = False) -> None:
        """A worker starts, on the disk that the last one had, or on an empty one."""
        if lose_state:
            for database in self._databases.values():
                database.close()
            self._databases.clear()
        self._start()

    def close(self) -> None:
        """Let go of the state."""
        for database in self._databases.values():
            database.close()

    def settle(self) -> None:
        """Process what there is, until nothing is left."""
        for _ in range(ROUNDS_MAX):
            moved = [self._step(task) for task in self.tasks]
            if self.tasks and (self._autocommit or self._is_full()):
                before = self._ends()
                self.commit()
                moved.append(self._ends() != before)
            if not any(moved):
                return
        raise TopologyError(
            f"after {ROUNDS_MAX} rounds records still come: does the app write a topic that it reads?"
        )

    # -- inside

    def _is_full(self) -> bool:
        """Whether a commit is due before its time, as for a worker."""
        return self._changes_max is not None and sum(t.changed for t in self.tasks) >= self._changes_max

    def _be_at(self, now_ms: int) -> None:
        """Let the wall clock be at least so far. That is no silence of the inputs: only `advance` is."""
        passed = max(0, now_ms - self.now_ms)
        self.now_ms += passed
        for task in self.tasks:
            for each in task.inputs.values():
                each.quiet_since += passed

    def _start(self) -> None:
        self.tasks = [
            self._task(part, partition)
            for part in self.plan.parts
            for partition in range(self._counts[part.number])
        ]
        self.settle()

    def _task(self, part: SubTopology, partition: int) -> Task:
        place = part.number, partition
        if place not in self._databases:
            self._databases[place] = Database(MEMORY, [spec.name for spec in part.stores])
        database = self._databases[place]
        writers = {
            source.topic: self._counts[self.plan.part_writing(source.topic).number]
            for source in part.sources
            if source.internal
        }
        task = Task(self.plan, part, partition, database, writers=writers, now_ms=self.now_ms, checks=True)
        committed = {
            topic: self.committed[topic, partition]
            for topic in part.topics
            if (topic, partition) in self.committed
        }
        for restore in task.restores(committed):
            topic = self._topic(restore.topic, self._counts[part.number])
            found = Changelog(topic.topic_id, topic.starts[partition], topic.end(partition), self.now_ms)
            restoring = Restoring(task, restore, found, self._on_changelog_lost)
            if not restoring.is_done:
                restoring.take(topic.read(partition, restoring.position), topic.end(partition))
            restoring.keep()
        task.start({topic: self.topics[topic].end(partition) for topic in part.topics})
        for spec in part.stores:
            task.store(spec.name).guard()
        return task

    def _step(self, task: Task) -> bool:
        for topic, each in task.inputs.items():
            at = self._positions.get((topic, task.partition), each.position)
            records = self.topics[topic].read(task.partition, at)
            task.add(topic, (read[2:] for read in records))
            self._positions[topic, task.partition] = max(at, self.topics[topic].end(task.partition))
        task.advance(self.now_ms, task.inputs.keys())
        done = task.run(self._changes_max or 1 << 30)
        _answer(task)
        task.advance(self.now_ms, task.inputs.keys())
        _answer(task)
        if self.plan.app.guarantee == "at_least_once":
            for output in task.take_outputs():
                self._append(output)
        return done > 0

    def _commit_steps(self, task: Task) -> Iterator[tuple[str, Callable[[], None]]]:
        for _ in task.emit():
            _answer(task)
        prepared = task.prepare()
        written: dict[str, tuple[str, int]] = {}

        def outputs() -> None:
            for output in (*task.take_outputs(), *task.telling.take(task.watermark)):
                self._append(output)

        def changelogs() -> None:
            for name, changes in prepared.changes.items():
                topic = self._topic(name, self._counts[task.part.number])
                for change in changes:
                    self._append(Output(name, change.key, change.value, change.timestamp, task.partition))
                written[name] = topic.topic_id, topic.end(task.partition)

        def offsets() -> None:
            for topic, place in prepared.offsets.items():
                self.committed[topic, task.partition] = place

        if self.plan.app.guarantee == "exactly_once":

            def all_at_once() -> None:
                outputs()
                changelogs()
                offsets()

            yield "offsets", all_at_once
        else:
            yield "outputs", outputs
            yield "changelog", changelogs
            yield "offsets", offsets
        yield "committed", lambda: task.committed(written)
        if self._flush:
            yield "flush", task.flush

    def _append(self, output: Output) -> None:
        topic = self._topic(output.topic)
        if output.partition == ALL_PARTITIONS:
            for partition in range(topic.partitions):
                topic.append(output, partition)
        elif output.partition is not None:
            topic.append(output, output.partition)
        else:
            topic.append(output, 0 if output.key is None else murmur2_partition(output.key, topic.partitions))

    def _ends(self) -> int:
        """How much there is in the topics that the app reads: commits add watermarks."""
        return sum(
            self.topics[topic].end(partition)
            for topic in (*self.plan.sources, *self.plan.repartitions)
            for partition in range(self.topics[topic].partitions)
        )

    def _topic(self, name: str, count: int | None = None) -> Topic:
        if name not in self.topics:
            if count is None:
                count = (
                    self._partitions if isinstance(self._partitions, int) else self._partitions.get(name, 1)
                )
            self.topics[name] = Topic(count, f"{name}/{len(self.topics)}")
        return self.topics[name]

    def __repr__(self) -> str:
        return f"<Driver {self.plan.app.name} tasks={len(self.tasks)} now={self.now_ms}>"


def _answer(task: Task) -> None:
    """Call the asynchronous functions that a task asks for, in virtual time. Raises RecordFailed."""
    if not task.questions:
        return
    if trio.lowlevel.in_trio_run():
        raise TopologyError("an app with async_map is driven by a test that is not async itself")

    async def main() -> None:
        async with background() as nursery:
            await Lookups(nursery, lambda: None).finish(task)

    from trio.testing import MockClock  # not at the top: an app that runs needs no tests' clock

    trio.run(main, clock=MockClock(autojump_threshold=0))
