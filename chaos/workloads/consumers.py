"""Readers by themselves, members of groups, and who asks where logs end."""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from chaos.history import Bounds, Commit, Outcome, Read
from chaos.values import name_of
from chaos.workloads.producers import CONFLUENT, REQUEST_MS, TRIO
from chaos.workloads.worker import Target, TrioWorker, Worker
from raftlog import ClientError, RebalanceListener
from raftlog import TopicPartition as Place
from raftlog.client.settings import IsolationLevel

POLL_S: Final = 0.1
ASK_EVERY_S: Final = 0.1
SESSION_MS: Final = 6_000
BATCH_MAX: Final = 500


class Reading:
    """Enters what a client was handed, by partition; knows which partitions it has just been given."""

    def __init__(self, name: str, target: Target, group: str = "") -> None:
        self.name, self.target, self.group = name, target, group
        self.fresh: set[int] = set(range(target.partitions))

    def given(self, partitions: list[int]) -> None:
        self.fresh |= set(partitions)

    def enter(self, began: float, records: list[tuple[int, int, bytes | None]]) -> dict[int, int]:
        """Partition, offset, value of what was handed out; the next offset by partition."""
        handed: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for partition, offset, value in records:
            handed[partition].append((offset, name_of(value)))
        for partition, each in handed.items():
            read = Read(
                client=self.name,
                log=self.target.name,
                partition=partition,
                records=each,
                is_fresh=partition in self.fresh,
                group=self.group,
            )
            self.fresh.discard(partition)
            self.target.history.enter(read, began)
        return {partition: each[-1][0] + 1 for partition, each in handed.items()}

    def commits(self, offsets: dict[int, int]) -> list[Commit]:
        """Enter commits that are about to be tried."""
        return [
            self.target.history.begin(
                Commit(
                    client=self.name,
                    group=self.group,
                    log=self.target.name,
                    partition=partition,
                    offset=offset,
                )
            )
            for partition, offset in offsets.items()
        ]

    def confirm(self, commits: list[Commit], outcome: Outcome, why: str = "") -> None:
        for commit in commits:
            self.target.history.end(commit, outcome, why)


def _confluent(name: str, target: Target, group: str, **more: Any) -> Consumer:
    return Consumer(
        {
            **target.access.librdkafka(),
            "client.id": name,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
            **CONFLUENT,
            **more,
        }
    )


def _handed(messages: list[Any]) -> list[tuple[int, int, bytes | None]]:
    return [(m.partition(), m.offset(), m.value()) for m in messages if m.error() is None]


class ConfluentReader(Worker):
    """Reads every partition from its beginning, and commits nothing."""

    def __init__(self, name: str, target: Target) -> None:
        super().__init__(name, target.history)
        self._reading = Reading(name, target)
        self._target = target

    def work(self) -> None:
        consumer = _confluent(self.name, self._target, "none")
        partitions = range(self._target.partitions)
        consumer.assign([TopicPartition(self._target.topic, one, OFFSET_BEGINNING) for one in partitions])
        try:
            while not self.stopping.is_set():
                began = self.history.now()
                self._reading.enter(began, _handed(consumer.consume(BATCH_MAX, POLL_S)))
        finally:
            consumer.close()


class TrioReader(TrioWorker):
    """As ConfluentReader, with raftlog's own client."""

    def __init__(self, name: str, target: Target, isolation: IsolationLevel = "read_uncommitted") -> None:
        super().__init__(name, target.history)
        self._reading = Reading(name, target)
        self._target, self._isolation = target, isolation

    async def run(self) -> None:
        target = self._target
        places = [(target.topic, number) for number in range(target.partitions)]
        async with (
            target.access.open_client(client_id=self.name, **TRIO) as client,
            client.consumer(
                partitions=places,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=100,
                isolation_level=self._isolation,
            ) as consumer,
        ):
            while not self.stopping.is_set():
                began = self.history.now()
                records = await consumer.poll(BATCH_MAX, max_wait_ms=1000 * POLL_S)
                self._reading.enter(began, [(r.partition, r.offset, r.value) for r in records])


class BoundsAsker(Worker):
    """Asks in turn where each partition begins and ends, of whomever it takes for the leader."""

    def __init__(self, name: str, target: Target) -> None:
        super().__init__(name, target.history)
        self._target = target

    def work(self) -> None:
        target = self._target
        consumer = _confluent(self.name, target, "none")
        try:
            for partition in itertools.cycle(range(target.partitions)):
                if self.stopping.wait(ASK_EVERY_S):
                    return
                asked = self.history.begin(Bounds(client=self.name, log=target.name, partition=partition))
                try:
                    place = TopicPartition(target.topic, partition)
                    asked.low, asked.high = consumer.get_watermark_offsets(place, REQUEST_MS / 1000)
                except KafkaException as error:
                    self.history.end(asked, Outcome.UNKNOWN, str(error))
                else:
                    self.history.end(asked, Outcome.OK)
        finally:
            consumer.close()


class ConfluentMember(Worker):
    """A member of a group: reads, and commits what it has read, again and again. `leaves_after_s`: it leaves
    and joins again after so long, so that the group is rebalanced."""

    def __init__(self, name: str, target: Target, group: str, *, leaves_after_s: float = 0.0) -> None:
        super().__init__(name, target.history)
        self._target, self._group = target, group
        self._leaves_after_s = leaves_after_s

    def work(self) -> None:
        while not self.stopping.is_set():
            self._be_member(self.history.now() + (self._leaves_after_s or float("inf")))

    def _be_member(self, until: float) -> None:
        reading = Reading(self.name, self._target, self._group)
        consumer = _confluent(
            self.name,
            self._target,
            self._group,
            **{"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 500},
        )

        def given(_: Consumer, places: list[TopicPartition]) -> None:
            reading.given([place.partition for place in places])

        consumer.subscribe([self._target.topic], on_assign=given)
        try:
            while not self.stopping.is_set() and self.history.now() < until:
                began = self.history.now()
                offsets = reading.enter(began, _handed(consumer.consume(BATCH_MAX, POLL_S)))
                if offsets:
                    self._commit(consumer, reading, offsets)
        finally:
            consumer.close()

    def _commit(self, consumer: Consumer, reading: Reading, offsets: dict[int, int]) -> None:
        commits = reading.commits(offsets)
        places = [TopicPartition(self._target.topic, *each) for each in offsets.items()]
        try:
            answered = consumer.commit(offsets=places, asynchronous=False) or []
        except KafkaException as error:
            reading.confirm(commits, Outcome.UNKNOWN, str(error))
            return
        wrong = [str(place.error) for place in answered if place.error is not None]
        reading.confirm(commits, Outcome.UNKNOWN if wrong else Outcome.OK, "; ".join(wrong))


class KafkaPythonMember(Worker):
    """As ConfluentMember, with kafka-python."""

    def __init__(self, name: str, target: Target, group: str) -> None:
        super().__init__(name, target.history)
        self._target, self._group = target, group

    def work(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata
            from kafka import TopicPartition as KafkaPlace
            from kafka.errors import KafkaError as KafkaPythonError

        reading = Reading(self.name, self._target, self._group)

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
            def on_partitions_revoked(self, revoked: Any) -> None:
                pass

            def on_partitions_assigned(self, assigned: Any) -> None:
                reading.given([place.partition for place in assigned])

        consumer = KafkaConsumer(
            **self._target.access.kafka_python(),
            client_id=self.name,
            group_id=self._group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=500,
            request_timeout_ms=SESSION_MS + REQUEST_MS,
            reconnect_backoff_max_ms=500,
            fetch_max_wait_ms=100,
        )
        consumer.subscribe([self._target.topic], listener=Listener())
        try:
            while not self.stopping.is_set():
                began = self.history.now()
                polled = consumer.poll(timeout_ms=1000 * POLL_S, max_records=BATCH_MAX)
                handed = [(r.partition, r.offset, r.value) for each in polled.values() for r in each]
                offsets = reading.enter(began, handed)
                if not offsets:
                    continue
                commits = reading.commits(offsets)
                places = {
                    KafkaPlace(self._target.topic, partition): OffsetAndMetadata(offset, "", -1)
                    for partition, offset in offsets.items()
                }
                try:
                    consumer.commit(places)
                except KafkaPythonError as error:
                    reading.confirm(commits, Outcome.UNKNOWN, repr(error))
                else:
                    reading.confirm(commits, Outcome.OK)
        finally:
            consumer.close(autocommit=False)


class TrioMember(TrioWorker, RebalanceListener):
    """As ConfluentMember, with raftlog's own client."""

    def __init__(self, name: str, target: Target, group: str) -> None:
        super().__init__(name, target.history)
        self._target, self._group = target, group
        self._reading = Reading(name, target, group)

    async def on_assigned(self, consumer: Any, partitions: frozenset[Place]) -> None:
        self._reading.given([place.partition for place in partitions])

    async def run(self) -> None:
        target = self._target
        async with (
            target.access.open_client(client_id=self.name, **TRIO) as client,
            client.consumer(
                target.topic,
                group=self._group,
                listener=self,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=500,
                fetch_max_wait_ms=100,
            ) as consumer,
        ):
            while not self.stopping.is_set():
                began = self.history.now()
                records = await consumer.poll(BATCH_MAX, max_wait_ms=1000 * POLL_S)
                handed = [(r.partition, r.offset, r.value) for r in records]
                offsets = self._reading.enter(began, handed)
                if not offsets:
                    continue
                commits = self._reading.commits(offsets)
                try:
                    await consumer.commit({Place(target.topic, p): offset for p, offset in offsets.items()})
                except ClientError as error:
                    self._reading.confirm(commits, Outcome.UNKNOWN, repr(error))
                else:
                    self._reading.confirm(commits, Outcome.OK)
