"""The load that brokers are taken from: producers at a steady rate, and a group that commits.

Its clients only record; others judge.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.cluster.gaps import Ack
from tests.crash.history import History, Send, Traits
from tests.crash.workload import Worker

RATE: Final = 100.0
"""Records a second of each producer."""
BEHIND_MAX_S: Final = 0.5
"""A producer that was held up for longer does not make up for all of it."""
GIVE_UP_MS: Final = 120_000
"""When a client calls a record's outcome unknown: later than any fault lasts."""
STOP_TIMEOUT_S: Final = 60.0
GROUP: Final = "watchers"

PRODUCERS: Final = {"confluent": Traits(idempotent=True), "kafka-python": Traits(idempotent=True)}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Of every client of librdkafka, and what each producer has besides."""

    confluent: Mapping[str, Any]
    confluent_producer: Mapping[str, Any]
    kafka_python_producer: Mapping[str, Any]
    kafka_python_connection: Mapping[str, Any]
    """Settings that kafka-python 3.0 has, and that its producer does not take: it takes them of a class."""


DEFAULTS: Final = ClientSettings(
    {"log_level": 0},
    {"acks": "all", "enable.idempotence": True, "message.timeout.ms": GIVE_UP_MS},
    {"acks": "all", "enable_idempotence": True, "delivery_timeout_ms": GIVE_UP_MS},
    {"socket_connection_setup_timeout_ms": 10_000, "socket_connection_setup_timeout_max_ms": 30_000},
)
"""What must be said, and nothing else."""

RECOMMENDED: Final = ClientSettings(
    {
        **DEFAULTS.confluent,
        # A request that a broker does not answer is asked elsewhere; one that was down is tried again soon.
        "socket.timeout.ms": 500,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        "retry.backoff.ms": 50,
    },
    {
        **DEFAULTS.confluent_producer,
        "request.timeout.ms": 500,
        "retry.backoff.max.ms": 500,
        "linger.ms": 2,
    },
    {
        **DEFAULTS.kafka_python_producer,
        "request_timeout_ms": 500,
        "reconnect_backoff_ms": 50,
        "reconnect_backoff_max_ms": 500,
        "retry_backoff_ms": 50,
        "linger_ms": 2,
    },
    {"socket_connection_setup_timeout_ms": 250, "socket_connection_setup_timeout_max_ms": 500},
)
"""docs/reliability.md says what for."""

PATIENT: Final = ClientSettings(
    {**RECOMMENDED.confluent, "socket.timeout.ms": 5_000},
    {**RECOMMENDED.confluent_producer, "request.timeout.ms": 5_000},
    {**RECOMMENDED.kafka_python_producer, "request_timeout_ms": 5_000},
    RECOMMENDED.kafka_python_connection,
)
"""Where gaps do not matter and the machine may be busy: kafka-python's producer is at its end when it gets no
producer id in its first request."""


class TimedHistory(History):
    """A history that also knows when things were acknowledged and committed."""

    def __init__(self) -> None:
        super().__init__(PRODUCERS)
        self.acks: list[Ack] = []
        self.commits: list[float] = []

    def acknowledge(self, sent: Send, offset: int) -> None:
        super().acknowledge(sent, offset)
        self.acks.append(Ack(time.monotonic(), sent.producer, sent.partition))

    def confirm_commit(self, offsets: Mapping[int, int]) -> None:
        super().confirm_commit(offsets)
        self.commits.append(time.monotonic())


class _SteadyProducer(Worker):
    """One record at a time, to all partitions in turn, at RATE."""

    def __init__(self, name: str, history: TimedHistory, topic: str, partitions: int) -> None:
        super().__init__(name, history)
        self.topic = topic
        self._partitions = partitions

    def work(self) -> None:
        due = time.monotonic()
        number = 0
        while not self.stopping.is_set():
            now = time.monotonic()
            if now >= due:
                self.produce(self.history.send(self.name, number, number % self._partitions))
                number += 1
                due = max(due + 1 / RATE, now - BEHIND_MAX_S)
            self.idle(max(0.001, min(due - now, 0.01)))
        self.finish()

    def produce(self, send: Send) -> None:
        raise NotImplementedError

    def idle(self, seconds: float) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def failed(self, send: Send, error: object) -> None:
        self.history.note(f"{self.name}:{send.number} to partition {send.partition} ended with {error}")


class ConfluentProducer(_SteadyProducer):
    def __init__(
        self, history: TimedHistory, topic: str, partitions: int, at: str, settings: ClientSettings
    ) -> None:
        super().__init__("confluent", history, topic, partitions)
        self._producer = Producer(
            {"bootstrap.servers": at, **settings.confluent, **settings.confluent_producer}
        )

    def produce(self, send: Send) -> None:
        self._producer.produce(
            self.topic,
            value=send.value,
            key=self.name.encode(),
            partition=send.partition,
            on_delivery=self._report(send),
        )

    def idle(self, seconds: float) -> None:
        self._producer.poll(seconds)

    def finish(self) -> None:
        self._producer.flush(STOP_TIMEOUT_S)

    def _report(self, send: Send) -> Callable[[KafkaError | None, Message], None]:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.failed(send, error)
                return
            # None: librdkafka knows that the record was written, not where (DUPLICATE_SEQUENCE_NUMBER).
            self.history.acknowledge(send, -1 if (offset := message.offset()) is None else offset)

        return report


class KafkaPythonProducer(_SteadyProducer):
    def __init__(
        self, history: TimedHistory, topic: str, partitions: int, at: str, settings: ClientSettings
    ) -> None:
        super().__init__("kafka-python", history, topic, partitions)
        from kafka import KafkaProducer
        from kafka.net.manager import KafkaConnectionManager

        KafkaConnectionManager.DEFAULT_CONFIG.update(settings.kafka_python_connection)
        self._producer = KafkaProducer(bootstrap_servers=at.split(","), **settings.kafka_python_producer)

    def produce(self, send: Send) -> None:
        future = self._producer.send(
            self.topic, value=send.value, key=self.name.encode(), partition=send.partition
        )
        future.add_callback(self._acknowledged, send)
        future.add_errback(self.failed, send)

    def idle(self, seconds: float) -> None:
        self.stopping.wait(seconds)

    def finish(self) -> None:
        self._producer.close(timeout=STOP_TIMEOUT_S)

    def _acknowledged(self, send: Send, report: Any) -> None:
        self.history.acknowledge(send, report.offset)


class GroupMember(Worker):
    """The only member of a group: reads, and commits what it has read, again and again."""

    def __init__(self, history: TimedHistory, topic: str, at: str, settings: ClientSettings) -> None:
        super().__init__("group member", history)
        self._topic = topic
        self._consumer = Consumer(
            {
                "bootstrap.servers": at,
                **settings.confluent,
                "group.id": GROUP,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 300,
                "fetch.wait.max.ms": 100,
            }
        )

    def work(self) -> None:
        self._consumer.subscribe([self._topic])
        try:
            while not self.stopping.is_set():
                self._read_and_commit()
        finally:
            self._consumer.close()

    def _read_and_commit(self) -> None:
        offsets: dict[int, int] = {}
        for message in self._consumer.consume(500, 0.05):
            partition, offset = message.partition(), message.offset()
            if message.error() is None and partition is not None and offset is not None:
                offsets[partition] = offset + 1
        if not offsets:
            return
        self.history.try_commit(offsets)
        try:
            committed = self._consumer.commit(
                offsets=[TopicPartition(self._topic, *place) for place in offsets.items()],
                asynchronous=False,
            )
        except KafkaException:
            return  # unknown
        if all(place.error is None for place in committed or ()):
            self.history.confirm_commit(offsets)


class Load:
    """Both producers and the group member. A context manager: on the way out they stop, whatever happened."""

    def __init__(self, topic: str, partitions: int, at: str, settings: ClientSettings) -> None:
        self.history = TimedHistory()
        self.topic = topic
        self.partitions = partitions
        self._workers: list[Worker] = [
            ConfluentProducer(self.history, topic, partitions, at, settings),
            KafkaPythonProducer(self.history, topic, partitions, at, settings),
            GroupMember(self.history, topic, at, settings),
        ]

    def __enter__(self) -> Load:
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._workers:
            worker.stopping.set()
        for worker in self._workers:
            worker.stop(0.1)

    def stop(self) -> None:
        """No new records; returns when those under way are answered, or the time is up, which is noted."""
        for worker in self._workers:
            worker.stopping.set()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for worker in self._workers:
            worker.stop(max(0.1, deadline - time.monotonic()))
