"""Members of groups that are watched: what they were given and lost, and whether their commits go on.

Each runs in a thread of its own, as an application does: it polls, and commits whatever it has.
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Final

import trio
from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as ConfluentPartition

import raftlog
from raftlog import TopicPartition
from tests import secured

SESSION_MS: Final = 10_000
HEARTBEAT_MS: Final = 500
POLL_S: Final = 0.1
JOIN_S: Final = 1.5
STOP_S: Final = 60.0


class Watched(ABC):
    """`events` are ("assigned" | "revoked" | "lost", partitions); `committed_at` when the last commit worked,
    `refused` what commits met."""

    def __init__(self, bootstrap: str, topic: str, group: str, instance_id: str | None) -> None:
        self.bootstrap, self.topic, self.group, self.instance_id = bootstrap, topic, group, instance_id
        self.events: list[tuple[str, frozenset[int]]] = []
        self.assigned: frozenset[int] = frozenset()
        self.identity: object = None
        """What the client tells of its membership: the same as long as it has not joined again."""
        self.committed_at = 0.0
        self.refused: list[str] = []
        self.stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name=f"member of {group}", daemon=True)

    def __repr__(self) -> str:
        said = f"{sorted(self.assigned)} {self.identity} {self.events} {self.refused}"
        return f"<{type(self).__name__} {self.group} {said}>"

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Nothing of it runs on beside other tests."""
        self.stopping.set()
        self._thread.join(STOP_S)

    def stop(self) -> None:
        """Raises what it failed of."""
        self.end()
        assert not self._thread.is_alive(), f"{self} hangs"
        self.check()

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def saw(self, event: str, partitions: Iterable[int]) -> None:
        numbers = frozenset(partitions)
        if numbers:
            self.events.append((event, numbers))

    def commits(self, error: Exception | None) -> None:
        if error is None:
            self.committed_at = time.monotonic()
        else:
            self.refused.append(repr(error))

    def _guarded(self) -> None:
        try:
            self.run()
        except BaseException as failure:
            self._failure = failure

    @abstractmethod
    def run(self) -> None:
        """Until `stopping`."""


class OfConfluent(Watched):
    def run(self) -> None:
        settings: dict[str, Any] = {
            **secured.librdkafka(self.bootstrap),
            "group.id": self.group,
            "enable.auto.commit": False,
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": HEARTBEAT_MS,
            "log_level": 0,
        }
        if self.instance_id is not None:
            settings["group.instance.id"] = self.instance_id
        consumer = ConfluentConsumer(settings)
        consumer.subscribe(
            [self.topic],
            on_assign=lambda _, places: self.saw("assigned", (place.partition for place in places)),
            on_revoke=lambda _, places: self.saw("revoked", (place.partition for place in places)),
            on_lost=lambda _, places: self.saw("lost", (place.partition for place in places)),
        )
        try:
            while not self.stopping.is_set():
                consumer.poll(POLL_S)
                places = consumer.assignment()
                self.assigned, self.identity = frozenset(one.partition for one in places), consumer.memberid()
                if places:
                    try:
                        consumer.commit(
                            offsets=[ConfluentPartition(self.topic, one.partition, 0) for one in places],
                            asynchronous=False,
                        )
                        self.commits(None)
                    except KafkaException as error:
                        self.commits(error)
        finally:
            consumer.close()


class OfKafkaPython(Watched):
    def run(self) -> None:
        from kafka import ConsumerRebalanceListener, KafkaConsumer  # it warns when it is imported
        from kafka.errors import KafkaConnectionError, KafkaError, UnknownBrokerIdError
        from kafka.structs import OffsetAndMetadata

        member = self

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
            def on_partitions_assigned(self, assigned: Any) -> None:
                member.saw("assigned", (place.partition for place in assigned))

            def on_partitions_revoked(self, revoked: Any) -> None:
                member.saw("revoked", (place.partition for place in revoked))

        consumer = KafkaConsumer(
            **secured.kafka_python(self.bootstrap),
            group_id=self.group,
            group_instance_id=self.instance_id,
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
        )
        try:
            # Without the topic's metadata its first join may assign nothing and stay so for good.
            consumer.partitions_for_topic(self.topic)
            consumer.subscribe([self.topic], listener=Listener())
            while not self.stopping.is_set():
                # A join that is not answered within a poll is forgotten, with the partitions that it brings.
                # A broker that ends just then makes it raise, and not only log.
                with contextlib.suppress(KafkaConnectionError, UnknownBrokerIdError):
                    consumer.poll(JOIN_S * 1000)
                places = consumer.assignment()
                # The generation is told nowhere else.
                generation = consumer._coordinator.generation_if_stable()
                self.assigned = frozenset(place.partition for place in places)
                self.identity = generation and (generation.member_id, generation.generation_id)
                if places:
                    try:
                        consumer.commit({place: OffsetAndMetadata(0, "", -1) for place in places})
                        self.commits(None)
                    except KafkaError as error:
                        self.commits(error)
        finally:  # its thread would go on beside other tests
            consumer.close()


class OfRaftlog(Watched):
    def run(self) -> None:
        trio.run(self._consume)

    async def _consume(self) -> None:
        member = self

        class Listener(raftlog.RebalanceListener):
            async def on_assigned(self, consumer: Any, partitions: frozenset[TopicPartition]) -> None:
                member.saw("assigned", (place.partition for place in partitions))

            async def on_revoked(self, consumer: Any, partitions: frozenset[TopicPartition]) -> None:
                member.saw("revoked", (place.partition for place in partitions))

        async with (
            secured.open_client(self.bootstrap) as client,
            client.consumer(
                self.topic,
                group=self.group,
                listener=Listener(),
                group_instance_id=self.instance_id,
                enable_auto_commit=False,
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=HEARTBEAT_MS,
            ) as consumer,
        ):
            while not self.stopping.is_set():
                await consumer.poll(max_wait_ms=POLL_S * 1000)
                places = consumer.assignment
                self.assigned = frozenset(place.partition for place in places)
                self.identity = consumer.statistics().rebalances
                if places:
                    try:
                        await consumer.commit(dict.fromkeys(places, 0))
                        self.commits(None)
                    except raftlog.RaftlogError as error:
                        self.commits(error)


KINDS: Final[tuple[type[Watched], ...]] = (OfConfluent, OfKafkaPython, OfRaftlog)
