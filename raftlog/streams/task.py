"""A task: one sub-topology on one partition. It decides; it does no I/O but to its own database.

Who runs it hands it records (`add`), has it work (`run`), tells it the time (`advance`), sends what it gives
(`take_outputs`), answers its `questions`, and commits: `emit`, `prepare`, then `committed` once the commit is
known to have succeeded, then `flush` at times. After a commit that failed a task is closed, and a new one
goes on from what is committed.

A record is processed as a whole or not at all: when a function raises, what it has changed and sent is taken
back (`failing.py`).
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from raftlog.streams.database import Database
from raftlog.streams.errors import StateError, StreamsError
from raftlog.streams.failing import Failing
from raftlog.streams.inputs import (
    METADATA_FORMAT,
    NO_TIME,
    WATERMARK,
    Input,
    Row,
    next_of,
    read_metadata,
    time_of,
)
from raftlog.streams.lookups import AsyncMap, Question
from raftlog.streams.nodes import Push, Sink, Source
from raftlog.streams.outputs import Output, Prepared, Restore
from raftlog.streams.plan import Plan, SubTopology, changelog
from raftlog.streams.restoring import Begin
from raftlog.streams.room import Hooks, RoomOf
from raftlog.streams.serdes import BYTES
from raftlog.streams.stores import Store, Timed, store_of
from raftlog.streams.telling import Telling
from raftlog.streams.ways import Ways, changes_last, delays_of, told_at_commits


class Task:
    """One sub-topology on one partition."""

    def __init__(
        self,
        plan: Plan,
        part: SubTopology,
        partition: int,
        database: Database,
        *,
        writers: Mapping[str, int],
        now_ms: int,
        checks: bool = False,
    ) -> None:
        """With `checks` what a store cannot keep is found when a record sets it, and not only at the commit:
        then the record is one that failed. It costs each change of a key its encoding."""
        self.plan = plan
        self.part = part
        self.partition = partition
        self.watermark = NO_TIME
        self.dropped: Counter[str] = Counter()
        """How many records went no further, by reason."""
        self.inputs = {s.topic: Input(s, partition, writers.get(s.topic, 1), now_ms) for s in part.sources}
        self._now = now_ms
        self._database = database
        self._stores = {spec.name: store_of(spec, database, checks=checks) for spec in part.stores}
        undoes = checks or not changes_last(part)
        self._undos = [store.undoable for store in self._stores.values()] if undoes else []
        self._is_alone = len(self.inputs) == 1 and not part.sources[0].internal and not part.sources[0].table
        """It reads one topic of records: its time is that of the last one."""
        self._is_of_tables = all(source.table for source in part.sources)
        """It reads no stream: then the time is that of its tables."""
        self._outputs: list[Output] = []
        self.questions: deque[Question] = deque()
        """What asynchronous functions are to be called with, in order; see `lookups`."""
        self._questions_max = sum(node.concurrency for node in part.nodes if isinstance(node, AsyncMap))
        self._failing = Failing(
            *(plan.app, (part.number, partition), self._outputs, self.questions, self.dropped),
            list(self._stores.values()) if undoes else [],
            asks=self._questions_max > 0,
        )
        self._hooks = Hooks(now_ms, self._send, self._failing, undoes=undoes)
        self.telling = Telling(part, partition, self._hooks)
        self._delays = delays_of(part)
        self._pushes = self._build()
        self._changelogs: dict[str, tuple[str, int]] = {}
        self._seen: dict[str, int] = {}
        """By store: when its rows were all that its changelog had then."""
        self._committed: Mapping[str, tuple[int, str]] = {}
        self._tables_at: dict[str, int] = {}
        """While tables are restored: up to where the rows have each one's topic."""
        self._begin_from_disk()
        self._on_disk = self._position()

    # -- before it runs

    def _build(self) -> dict[str, Push]:
        downs: dict[tuple[int, str], list[Push]] = {}
        pushes: dict[str, Push] = {}
        for node in reversed(self.part.nodes):
            ways = Ways({port: ps for (number, port), ps in downs.items() if number == node.number})
            if (port := told_at_commits(node)) in ways:
                ways[port] = self._failing.told(self._hooks, node, ways[port])
            built = node.build(RoomOf(self, self._hooks, node, self._delays[node.number]), ways)
            for edge, push in zip(node.parents, built, strict=False):
                downs.setdefault((edge.node.number, edge.port), []).append(push)
            if isinstance(node, Source):
                pushes[node.topic] = built[0]
        self._hooks.sort()
        return pushes

    def _begin_from_disk(self) -> None:
        position = self._database.position()
        whose = {"app": self.plan.app.name, "fingerprint": self.part.fingerprint, "partition": self.partition}
        if position:
            found = {name: position.get(name) for name in whose}
            if found != whose:
                raise StateError(
                    f"{self._database.path} is the state of {found}, and this is {whose}: give each app a "
                    "folder of its own; after a change of the topology, remove the folder, and the state is "
                    "made again from the changelogs"
                )
            self._changelogs = {name: (at[0], at[1]) for name, at in position["changelogs"].items()}
            for topic, progress in position["inputs"].items():
                self.inputs[topic].position = progress["at"]
                self.inputs[topic].resume(progress)
            self.watermark = position["watermark"]
            self._seen = position.get("seen", {})

    def restores(self, committed: Mapping[str, tuple[int, str]]) -> list[Restore]:
        """Where the task goes on, by topic: offset and metadata, as they were committed. Gives what must be
        read first. Raises StateError when another topology has committed them."""
        found, self._committed = [], committed
        uncommitted, once = () if committed else self.part.topics, self.plan.app.guarantee == "exactly_once"
        for spec in self.part.stores:
            seen_ms = self._seen.get(spec.name, 0)
            if spec.source is not None:
                if spec.source in committed:
                    start = self._tables_at[spec.source] = self.inputs[spec.source].position
                    end = committed[spec.source][0]
                    found.append(Restore(spec.name, spec.source, start, end, "", seen_ms=seen_ms))
            elif spec.changelog:
                topic_id, start = self._changelogs.get(spec.name, ("", 0))
                topic = changelog(self.plan.app, spec)
                found.append(Restore(spec.name, topic, start, None, topic_id, uncommitted, once, seen_ms))
        self._go_on()
        return found

    def _go_on(self) -> None:
        """Where the group was when it committed."""
        for topic, (offset, metadata) in self._committed.items():
            told = read_metadata(metadata)
            if told and told["f"] != self.part.fingerprint:
                raise StateError(
                    f"{topic}-{self.partition} was committed by a sub-topology {told['f']}, and this one is "
                    f"{self.part.fingerprint}: give the changed app a new name, or reset its group"
                )
            self.inputs[topic].position = offset
            self.inputs[topic].resume(told)
            self.watermark = max(self.watermark, told.get("w", NO_TIME))

    def begin(self, store: str, begin: Begin) -> None:
        """How a store's restore begins: on its rows, or anew. What a changelog that was made anew has is of
        another time than the disk: then inputs, too, are where the group has committed, and no further."""
        if begin.is_other:
            for each in self.inputs.values():
                each.forget()
            self.watermark = NO_TIME
            self._go_on()
        if begin.anew:
            self._seen.pop(store, None)
            source = self._stores[store].spec.source
            if source is None:
                self._changelogs.pop(store, None)
            else:
                self._tables_at[source] = begin.position
            self._on_disk = self._position()
            self._database.clear(store, self._on_disk)

    def restore(self, store: str, key: bytes, value: bytes | None, timestamp: int) -> None:
        """A record of a changelog."""
        self._stores[store].restored(key, value, timestamp)

    def restored(self, store: str, topic_id: str, position: int, seen_ms: int) -> None:
        """A store is what its changelog says up to a position. Every so often, and at the end. `seen_ms` is
        when that was all."""
        self._seen[store] = seen_ms
        source = self._stores[store].spec.source
        if source is None:
            self._changelogs[store] = (topic_id, position)
        else:
            self._tables_at[source] = position
        self._on_disk = self._position()
        self.flush()

    def start(self, load_to: Mapping[str, int]) -> None:
        """The stores are restored. `load_to` is the end of each topic, as of now: tables are read up to there
        first."""
        self._tables_at.clear()
        for _, delay, store, _ in self._hooks.closings:
            store.load(self.watermark - delay)
        for topic, end in load_to.items():
            self.inputs[topic].load_to = end

    # -- work

    def add(self, topic: str, records: Iterable[Row]) -> None:
        """Records that were read, in the order of their offsets."""
        self.inputs[topic].records.extend(records)

    @property
    def changed(self) -> int:
        """How many keys and outputs the next commit has to write."""
        return sum(len(store.dirty) for store in self._stores.values()) + len(self._outputs)

    def run(self, limit: int = 1 << 30) -> int:
        """Process up to so many records, those with the least time first. Gives how many. Raises
        RecordFailed, and TimeFailed when what the time of one has brought fails: that record is left."""
        if self._questions_max:
            limit = min(limit, self._questions_max - len(self.questions))
        if len(self.inputs) == 1 and not self._is_of_tables:
            (only,) = self.inputs.values()
            return self._take(only, max(0, min(limit, len(only.records))))
        done = 0
        inputs, wait_ms = self.inputs.values(), self.plan.app.wait_ms
        while done < limit and (chosen := next_of(inputs, self._now, wait_ms)) is not None:
            done += self._take(chosen, 1)
        return done

    def _take(self, each: Input, count: int) -> int:
        """The next records of an input. Most of a worker's time is spent in this loop."""
        source, following, push = each.source, each.records.popleft, self._pushes[each.topic]
        decode_key, timestamp_of = source.key.decode, source.timestamp
        decode_value = None if source.value is BYTES else source.value.decode
        hooks, latest, outputs, undos = (
            self._hooks,
            self._now + source.max_ahead_ms,
            self._outputs,
            self._undos,
        )
        is_internal, is_only = source.internal, len(self.inputs) == 1
        ends_something = (
            not self._is_alone or self._hooks.closings or self._hooks.timers.event or self._questions_max
        )
        hooks.topic = each.topic
        for _ in range(count):
            read = hooks.read = following()
            offset, timestamp, key, value, headers = read
            sent = len(outputs)
            try:
                if is_internal and key is None and headers and headers[0][0] == WATERMARK:
                    each.hear(headers[0][1] or b"")
                    self._time_passes()
                else:
                    if key is not None:
                        key = decode_key(key)
                    if decode_value is not None and value is not None:
                        value = decode_value(value)
                    if timestamp_of is not None and value is not None:
                        timestamp = timestamp_of(value)
                    if timestamp > latest and source.table is None:
                        self.dropped["ahead of the clock"] += 1
                    else:
                        push(key, value, timestamp)
                        if timestamp <= each.stream_time or timestamp > latest:
                            pass
                        elif is_internal and is_only:  # its time is what it hears
                            each.stream_time = timestamp
                        elif ends_something:
                            self._time_of(each, timestamp)
                        else:
                            each.stream_time = timestamp
                            self.watermark = max(self.watermark, timestamp)
            except Exception as error:
                each.position = offset
                self._failing.take_back(sent, sum(question.read is not read for question in self.questions))
                try:
                    self._failing.failed(each.topic, read, error)
                except StreamsError:
                    each.records.appendleft(read)
                    raise
            else:
                for undo in undos:
                    undo.clear()
        if count:
            each.position = offset + 1
            each.quiet_since = self._now
        return count

    def take_answer(self) -> None:
        """Go on with the answer to the oldest question. Raises RecordFailed when there is none, or what
        follows fails: then do not commit, for what came after that record has been processed."""
        question = self.questions.popleft()
        topic, read = self._hooks.topic, self._hooks.read = question.topic, question.read
        outputs, questions = len(self._outputs), len(self.questions)
        try:
            if question.error is not None:
                raise question.error
            question.down(question.key, question.answer, question.timestamp)
        except Exception as error:
            self._failing.take_back(outputs, questions)
            self._failing.failed(topic, read, error)
        for undo in self._undos:
            undo.clear()

    # -- time

    def advance(self, now_ms: int, caught_up: Collection[str]) -> None:
        """The wall clock, and which topics have been read to their end: an input that is silent for `idle_ms`
        holds up no window. Raises TimeFailed."""
        self._now = now_ms
        for each in self.inputs.values():
            each.is_caught_up = each.topic in caught_up
            if each.records:
                each.quiet_since = now_ms
        outputs, questions, watermark = len(self._outputs), len(self.questions), self.watermark
        try:
            self._time_passes()
            for at_ms, fire in self._hooks.timers.due_by_clock(now_ms):
                fire(at_ms)
        except Exception:
            self._failing.take_back(outputs, questions)
            self.watermark = watermark
            raise
        for undo in self._undos:
            undo.clear()

    def _time_of(self, each: Input, timestamp: int) -> None:
        """An input's time is later now, unless that ends the app."""
        before, each.stream_time = each.stream_time, timestamp
        try:
            self._time_passes(timestamp if self._is_alone else None)
        except BaseException:
            each.stream_time = before
            raise

    def _time_passes(self, watermark: int | None = None) -> None:
        if watermark is None:
            idle_ms = self.plan.app.idle_ms
            inputs = [each for each in self.inputs.values() if self._is_of_tables or not each.source.table]
            watermark = time_of(inputs, self._now, idle_ms)
        if watermark <= self.watermark or self.questions:
            return
        before = self.watermark
        try:
            for at_ms, fire in self._hooks.timers.due(before, watermark) if self._hooks.timers.event else ():
                self._windows_close(at_ms)
                self.watermark, self.telling.moved = at_ms, True
                fire(at_ms)
            self._windows_close(watermark)
        except BaseException:
            self.watermark = before
            self.questions.clear()  # there were none
            raise
        self.watermark = watermark

    def _windows_close(self, watermark: int) -> None:
        for _, delay, store, give in self._hooks.closings:
            if over := store.over(watermark - delay):
                store.close(over, give)
                self.telling.moved = True

    # -- what comes of it

    def take_outputs(self) -> list[Output]:
        """Records to be sent since the last call, in order."""
        outputs = self._outputs[:]
        self._outputs.clear()
        return outputs

    def _send(self, sink: Sink, key: Any, value: Any, timestamp: int) -> None:
        """A record to a topic, for the nodes."""
        try:
            encoded = None if key is None else sink.key.encode(key)
            self._outputs.append(
                Output(sink.topic, encoded, None if value is None else sink.value.encode(value), timestamp)
            )
        except Exception as error:
            raise sink.refusal(key, value, error) from error

    # -- commits

    def emit(self) -> Iterator[None]:
        """What is told once a commit becomes outputs. At each step all questions must be answered first: a
        table may be changed by what another one has told. Raises TimeFailed."""
        self._hooks.read = None
        for _, emit in self._hooks.emits:
            yield
            emit()
        yield

    def prepare(self) -> Prepared:
        """What a commit has to write, besides the outputs. Comes after `emit`. Raises NotEncoded: do not
        commit, and begin a new task with `checks`, which finds the record."""
        assert not self.questions, f"{self!r} has {len(self.questions)} open questions"
        changes = {}
        for name, store in self._stores.items():
            store.assert_unchanged()
            found = store.changes()
            if found and store.spec.changelog and store.spec.source is None:
                changes[changelog(self.plan.app, self._stores[name].spec)] = found
        return Prepared(
            changes, {topic: (each.position, self._metadata(each)) for topic, each in self.inputs.items()}
        )

    def committed(self, ends: Mapping[str, tuple[str, int]]) -> None:
        """The commit that was prepared has succeeded. `ends` is where each changelog goes on, by its topic:
        its id, and the offset behind what was written."""
        for name, store in self._stores.items():
            store.committed()
            if (source := store.spec.source) is None or self.inputs[source].is_read:
                self._seen[name] = self._now
            topic = changelog(self.plan.app, store.spec)
            if topic in ends:
                self._changelogs[name] = ends[topic]
        self.telling.moved = False
        self._on_disk = self._position()

    def flush(self) -> None:
        """Write what is committed to the disk. Raises OSError when that is full: nothing is lost, and the
        task goes on; StateDamaged when the file is not what it was."""
        self._database.write(
            {name: store.unflushed for name, store in self._stores.items() if store.unflushed},
            {
                name: store.dropped
                for name, store in self._stores.items()
                if isinstance(store, Timed) and store.dropped
            },
            self._on_disk,
        )
        for store in self._stores.values():
            store.flushed()

    def _position(self) -> dict[str, Any]:
        """Where the task stands, to be written beside its rows."""
        return {
            "app": self.plan.app.name,
            "fingerprint": self.part.fingerprint,
            "partition": self.partition,
            "changelogs": dict(self._changelogs),
            "inputs": {
                topic: {"at": self._tables_at.get(topic, each.position), **each.progress()}
                for topic, each in self.inputs.items()
            },
            "watermark": self.watermark,
            "seen": dict(self._seen),
        }

    def _metadata(self, each: Input) -> str:
        told = {
            "v": METADATA_FORMAT,
            "f": self.part.fingerprint,
            "w": self.watermark,
            "u": self.telling.awaits,
        }
        told |= each.progress()
        return json.dumps(told, separators=(",", ":"))

    # -- looking into it

    def store(self, name: str) -> Store:
        """One of its stores."""
        return self._stores[name]

    def close(self) -> None:
        """Close the database. What is not committed is forgotten."""
        self._database.close()

    def __repr__(self) -> str:
        buffered = sum(len(each.records) for each in self.inputs.values())
        return f"<Task {self.part.number}-{self.partition} watermark={self.watermark} buffered={buffered}>"
