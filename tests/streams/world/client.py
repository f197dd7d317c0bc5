"""The Trio client's calls, as far as a worker makes them, on a log in memory.

Chance is here: each call takes its time, may be lost before it has an effect, and may have its effect and
lose its answer. A client that was killed has no effect any more; nor has one that is paused, until it goes
on.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import groupby
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import trio

from raftlog.client.assignors import Assignor
from raftlog.client.consumer import RebalanceListener
from raftlog.client.delivery import RecordMetadata
from raftlog.client.errors import (
    CommitUnknown,
    DeliveryError,
    ProducerFenced,
    RebalanceNeeded,
    TransactionAborted,
    UnknownTopic,
)
from raftlog.client.metadata import TopicPartition
from raftlog.client.offsets import CommittedOffset
from raftlog.client.partitioner import murmur2_partition
from raftlog.client.record import Record
from raftlog.records.record import Columns
from tests.streams.world.group import SESSION_SECONDS, Group, Member
from tests.streams.world.log import COMMITTED, OPEN, Entry, Fenced, Log, NotAMember

TRANSACTION_SECONDS_MAX = 10.0


class Weather:
    """How likely what goes wrong is."""

    def __init__(self, rng: random.Random, *, lost: float = 0.0, unanswered: float = 0.0) -> None:
        self.rng = rng
        self.lost = lost
        self.unanswered = unanswered

    def calm(self) -> None:
        """From now on all goes well."""
        self.lost = self.unanswered = 0.0


class WorldClient:
    """One process's client."""

    def __init__(self, log: Log, group: Group, weather: Weather) -> None:
        self.log = log
        self.group = group
        self.weather = weather
        self.is_dead = False
        self.awake = trio.Event()
        self.awake.set()
        self.joined: list[Member] = []
        self.admin = WorldAdmin(self)

    async def call(self) -> None:
        """A request under way: it takes its time, and may never arrive."""
        await trio.sleep(self.weather.rng.expovariate(200))
        while not self.awake.is_set():
            await self.awake.wait()
        if self.is_dead:
            await trio.sleep_forever()

    def is_member(self) -> bool:
        """Whether the group still counts on this process."""
        members = self.group.members
        return any(member in members and member.generation == self.group.generation for member in self.joined)

    def is_lost(self) -> bool:
        return self.weather.rng.random() < self.weather.lost

    def is_unanswered(self) -> bool:
        return self.weather.rng.random() < self.weather.unanswered

    @asynccontextmanager
    async def producer(self, *, transactional_id: str | None, **_: Any) -> AsyncIterator[WorldProducer]:
        producer = WorldProducer(self, transactional_id)
        if transactional_id is not None:
            await self.call()
            producer.epoch = self.log.begin_life(transactional_id)
        yield producer

    @asynccontextmanager
    async def consumer(
        self,
        *topics: str,
        partitions: Iterable[TopicPartition] = (),
        group: str | None = None,
        listener: RebalanceListener | None = None,
        assignor: Assignor | None = None,
        isolation_level: str = "read_uncommitted",
        **_: Any,
    ) -> AsyncIterator[WorldConsumer]:
        consumer = WorldConsumer(self, committed=isolation_level == "read_committed")
        if group is None:
            consumer.hold(partitions)
            yield consumer
            return
        assert listener is not None
        member = Member(consumer, listener, self, frozenset(topics), assignor)
        if assignor is not None:
            assignor.rejoin = self.group.shake
        self.joined.append(member)
        self.group.join(member)
        consumer.member = member
        try:
            yield consumer
        finally:
            if not self.is_dead:
                self.group.leave(member)


class WorldAdmin:
    """What a worker asks at start."""

    def __init__(self, client: WorldClient) -> None:
        self._client = client

    async def create_topic(self, name: str, *, partitions: int, **_: Any) -> None:
        await self._client.call()
        self._client.log.create(name, partitions)

    async def describe_topic(self, name: str) -> Any:
        return (await self.describe_topics([name]))[name]

    async def describe_topics(self, names: list[str]) -> dict[str, Any]:
        await self._client.call()
        topics = self._client.log.topics
        for name in names:
            if name not in topics:
                raise UnknownTopic(3, name)  # UNKNOWN_TOPIC_OR_PARTITION
        return {name: SimpleNamespace(partitions=topics[name], topic_id=name.encode()) for name in names}

    async def group_offsets(self, group: str) -> dict[TopicPartition, CommittedOffset]:
        await self._client.call()
        return dict(self._client.log.committed)

    async def end_offsets(self, topic: str) -> dict[TopicPartition, int]:
        await self._client.call()
        log = self._client.log
        keys = [TopicPartition(topic, partition) for partition in range(len(log.topics[topic]))]
        return {key: log.end(key, committed=False) for key in keys}


class WorldDelivery:
    """A record on its way: the log has it at once, its sender knows at `flush`."""

    def __init__(self, key: TopicPartition, offset: int) -> None:
        self._at = RecordMetadata(key.topic, key.partition, offset, 0)

    async def wait(self) -> RecordMetadata:
        return self._at


class WorldProducer:
    """A producer, with or without transactions."""

    def __init__(self, client: WorldClient, name: str | None) -> None:
        self.epoch = -1
        self._client = client
        self._name = name
        self._failed = False
        self._unsettled = False

    async def partitions(self, topic: str) -> int:
        return len(self._client.log.topics[topic])

    async def send_soon(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        partition: int | None,
        timestamp_ms: int,
        headers: Any,
    ) -> WorldDelivery:
        client, log = self._client, self._client.log
        if client.weather.rng.random() < 0.02:
            await client.call()
        if client.is_dead or not client.awake.is_set():
            await client.call()
        count = len(log.topics[topic])
        if partition is None:
            partition = 0 if key is None else murmur2_partition(key, count)
        place = TopicPartition(topic, partition)
        entry = Entry(
            key, value, timestamp_ms, tuple(headers or ()), COMMITTED if self._name is None else OPEN
        )
        if self._name is not None:
            try:
                transaction = log.open_in(self._name, self.epoch, trio.current_time())
            except Fenced as error:
                raise ProducerFenced(f"{error}") from error
            transaction.entries.append((place, entry))
        elif client.weather.rng.random() < client.weather.lost / 10:
            self._failed = True
            return WorldDelivery(place, -1)
        elif topic.endswith("-changelog") and not client.is_member():
            log.counts["late"] += 1  # no broker refuses it
        return WorldDelivery(place, log.append(place, entry))

    async def send_many_soon(
        self, topic: str, partition: int, records: Iterable[tuple[bytes | None, bytes | None, int]]
    ) -> WorldDelivery | None:
        delivery = None
        for key, value, timestamp in records:
            delivery = await self.send_soon(
                topic, value, key=key, partition=partition, timestamp_ms=timestamp, headers=None
            )
        return delivery

    async def flush(self) -> None:
        await self._client.call()
        if self._failed:
            self._failed = False
            raise DeliveryError("lost", topic="", partition=-1, records=1, may_be_written=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[WorldTransaction]:
        assert self._name is not None
        client, log = self._client, self._client.log
        if self._unsettled:
            await self.settle()
        transaction = WorldTransaction(self)
        try:
            yield transaction
            await client.call()
            if client.is_lost():
                raise TransactionAborted("a record was not delivered")
        except BaseException:
            if not client.is_dead:
                try:
                    log.finish(self._name, self.epoch, commit=False)
                except Fenced:
                    pass
            raise
        arrives = not (is_unsure := client.is_unanswered()) or client.weather.rng.random() < 0.5
        if arrives:
            self._finish()
        if is_unsure:
            self._unsettled = True
            raise CommitUnknown("no answer")
        await client.call()

    async def settle(self) -> None:
        """Ask once more."""
        await self._client.call()
        if self._client.is_unanswered():
            raise CommitUnknown("again no answer")
        self._finish()
        self._unsettled = False

    def _finish(self) -> None:
        assert self._name is not None
        try:
            self._client.log.finish(self._name, self.epoch, commit=True)
        except Fenced as error:
            raise ProducerFenced(f"{error}") from error

    async def send_offsets(self, offsets: Mapping[TopicPartition, CommittedOffset], member: Any) -> None:
        client = self._client
        await client.call()
        assert self._name is not None
        try:
            client.group.check(member)
            transaction = client.log.open_in(self._name, self.epoch, trio.current_time())
        except NotAMember as error:
            raise RebalanceNeeded(f"{error}") from error
        except Fenced as error:
            raise ProducerFenced(f"{error}") from error
        transaction.offsets.update(offsets)


class WorldTransaction:
    """One transaction."""

    def __init__(self, producer: WorldProducer) -> None:
        self._producer = producer

    async def send_offsets(self, offsets: Mapping[TopicPartition, CommittedOffset], member: Any) -> None:
        await self._producer.send_offsets(offsets, member)

    async def settle(self) -> None:
        await self._producer.settle()


class WorldConsumer:
    """A consumer, of a group or of partitions that it names."""

    settings = SimpleNamespace(session_timeout_ms=1000 * SESSION_SECONDS)

    def __init__(self, client: WorldClient, *, committed: bool) -> None:
        self.member: Member | None = None
        self._client = client
        self._committed = committed
        self._positions: dict[TopicPartition, int | None] = {}
        self._paused: set[TopicPartition] = set()
        self._polled: list[Record] = []

    def hold(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these from now on; those that are kept go on where they are."""
        wanted = set(partitions)
        committed = self._client.log.committed
        self._positions = {
            key: self._positions[key]
            if key in self._positions
            else (committed[key].offset if key in committed and self.member else 0)
            for key in sorted(wanted)
        }
        self._paused &= wanted

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._positions)

    @property
    def paused(self) -> frozenset[TopicPartition]:
        return frozenset(self._paused)

    def pause(self, *keys: TopicPartition) -> None:
        self._paused |= set(keys)

    def resume(self, *keys: TopicPartition) -> None:
        self._paused -= set(keys)

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._positions[TopicPartition(topic, partition)]  # KeyError when it is not assigned
        self._positions[TopicPartition(topic, partition)] = offset

    def positions(self) -> dict[TopicPartition, int]:
        return {key: at for key, at in self._positions.items() if at is not None}

    def lag(self) -> dict[TopicPartition, int]:
        log = self._client.log
        return {key: log.end(key, committed=self._committed) - at for key, at in self.positions().items()}

    def lag_since(self, _: float) -> dict[TopicPartition, int]:
        return self.lag()

    async def poll(self, max_records: int, *, max_wait_ms: float) -> list[Record]:
        await self._client.call()
        found: list[Record] = []
        limit = self._client.weather.rng.choice((1, 3, 20, max_records))
        for key in list(self._positions):
            if key not in self._paused and len(found) < limit:
                found += self._read(key, limit - len(found))
        if not found:
            await trio.sleep(max_wait_ms / 1000)
        return found

    # What `raftlog.client.batched` asks of a consumer.

    async def _wait_for_records(self, deadline: float, wanted: int) -> None:
        self._polled = await self.poll(wanted, max_wait_ms=max(0, deadline - trio.current_time()) * 1000)

    @property
    def _reading(self) -> WorldConsumer:
        return self

    def take_batches(self, _: int, keys_only: Collection[str]) -> list[tuple[TopicPartition, Columns]]:
        found, self._polled = self._polled, []
        if keys_only:
            found = [r._replace(value=None, headers=()) if r.topic in keys_only else r for r in found]
        return [
            (TopicPartition(*place), Columns(*zip(*(record[2:] for record in run), strict=True)))
            for place, run in groupby(found, key=itemgetter(0, 1))
        ]

    def _read(self, key: TopicPartition, limit: int) -> list[Record]:
        log, at = self._client.log, self._positions[key]
        assert at is not None
        found = []
        for offset, entry in log.read(key, at, committed=self._committed):
            if len(found) == limit:
                self._positions[key] = found[-1].offset + 1
                return found
            found.append(Record(*key, offset, entry.timestamp, entry.key, entry.value, entry.headers))
        self._positions[key] = max(at, log.end(key, committed=self._committed))
        return found

    async def committed(self, *keys: TopicPartition) -> dict[TopicPartition, CommittedOffset | None]:
        await self._client.call()
        log = self._client.log
        while log.is_pending(keys):  # noqa: ASYNC110 - as a broker that is asked for stable offsets (KIP-447)
            await trio.sleep(0.05)
        return {key: log.committed.get(key) for key in keys}

    async def beginning_offsets(self, *keys: TopicPartition) -> dict[TopicPartition, int]:
        await self._client.call()
        return dict.fromkeys(keys, 0)

    async def end_offsets(self, *keys: TopicPartition) -> dict[TopicPartition, int]:
        await self._client.call()
        return {key: self._client.log.end(key, committed=self._committed) for key in keys}

    async def commit(self, offsets: Mapping[TopicPartition, CommittedOffset]) -> None:
        client = self._client
        await client.call()
        assert self.member is not None
        try:
            client.group.check(self.group_metadata())
        except NotAMember as error:
            raise RebalanceNeeded(f"{error}") from error
        client.log.commit(offsets)
        await client.call()

    def statistics(self) -> Any:
        silent = 0.0 if self.member is None else trio.current_time() - self.member.heard
        return SimpleNamespace(silent_s=silent)

    def group_metadata(self) -> tuple[Member, int]:
        assert self.member is not None
        return self.member, self.member.generation
