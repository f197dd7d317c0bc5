"""Transactional producers and read_committed consumers of three client libraries, driven alike."""

from __future__ import annotations

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import confluent_kafka

from tests import secured
from tests.compat.clients.base import PATIENCE_S

T = TypeVar("T")


class Transactional(ABC):
    """A producer with a transactional id. `send` returns when the record is acknowledged."""

    def __init__(self, bootstrap: str, transactional_id: str, timeout_ms: int = 60_000) -> None:
        self.bootstrap, self.transactional_id, self.timeout_ms = bootstrap, transactional_id, timeout_ms

    @abstractmethod
    def init(self) -> None: ...
    @abstractmethod
    def begin(self) -> None: ...
    @abstractmethod
    def send(self, topic: str, value: bytes, partition: int = 0) -> None: ...
    @abstractmethod
    def send_offset(self, topic: str, offset: int, group: str) -> None: ...
    @abstractmethod
    def commit(self) -> None: ...
    @abstractmethod
    def abort(self) -> None: ...
    @abstractmethod
    def close(self) -> None: ...

    def write(self, topic: str, *values: bytes, commit: bool) -> None:
        """One transaction."""
        self.begin()
        for value in values:
            self.send(topic, value)
        if commit:
            self.commit()
        else:
            self.abort()


class Confluent(Transactional):
    """librdkafka."""

    def init(self) -> None:
        self._producer = confluent_kafka.Producer(
            {
                **secured.librdkafka(self.bootstrap),
                "transactional.id": self.transactional_id,
                "transaction.timeout.ms": self.timeout_ms,
                "linger.ms": 0,
                "log_level": 0,
            }
        )
        self._producer.init_transactions(PATIENCE_S)

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, topic: str, value: bytes, partition: int = 0) -> None:
        errors: list[Any] = []
        self._producer.produce(
            topic, value, partition=partition, on_delivery=lambda error, message: errors.append(error)
        )
        self._producer.flush(PATIENCE_S)
        assert errors, "no answer"
        if errors[0] is not None:
            raise confluent_kafka.KafkaException(errors[0])

    def send_offset(self, topic: str, offset: int, group: str) -> None:
        consumer = confluent_kafka.Consumer({**secured.librdkafka(self.bootstrap), "group.id": group})
        try:
            self._producer.send_offsets_to_transaction(
                [confluent_kafka.TopicPartition(topic, 0, offset)],
                consumer.consumer_group_metadata(),
                PATIENCE_S,
            )
        finally:
            consumer.close()

    def commit(self) -> None:
        self._producer.commit_transaction(PATIENCE_S)

    def abort(self) -> None:
        self._producer.abort_transaction(PATIENCE_S)

    def close(self) -> None:
        self._producer.flush(1)


class KafkaPython(Transactional):
    def init(self) -> None:
        import kafka  # it warns when it is imported

        self._kafka = kafka
        self._producer = kafka.KafkaProducer(
            **secured.kafka_python(self.bootstrap),
            transactional_id=self.transactional_id,
            transaction_timeout_ms=self.timeout_ms,
        )
        self._producer.init_transactions()

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, topic: str, value: bytes, partition: int = 0) -> None:
        self._producer.send(topic, value, partition=partition).get(PATIENCE_S)

    def send_offset(self, topic: str, offset: int, group: str) -> None:
        at = self._kafka.OffsetAndMetadata(offset, "", -1)
        self._producer.send_offsets_to_transaction({self._kafka.TopicPartition(topic, 0): at}, group)

    def commit(self) -> None:
        self._producer.commit_transaction()

    def abort(self) -> None:
        self._producer.abort_transaction()

    def close(self) -> None:
        self._producer.close(1)


class Aiokafka(Transactional):
    def __init__(self, bootstrap: str, transactional_id: str, timeout_ms: int = 60_000) -> None:
        super().__init__(bootstrap, transactional_id, timeout_ms)
        self._runner = asyncio.Runner()

    def _run(self, waited: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(asyncio.wait_for(waited, PATIENCE_S))

    def init(self) -> None:
        import aiokafka

        async def start() -> None:
            self._producer = aiokafka.AIOKafkaProducer(
                **secured.aiokafka(self.bootstrap),
                transactional_id=self.transactional_id,
                transaction_timeout_ms=self.timeout_ms,
            )
            await self._producer.start()

        self._aiokafka = aiokafka
        self._run(start())

    def begin(self) -> None:
        self._run(self._producer.begin_transaction())

    def send(self, topic: str, value: bytes, partition: int = 0) -> None:
        self._run(self._producer.send_and_wait(topic, value, partition=partition))

    def send_offset(self, topic: str, offset: int, group: str) -> None:
        at = {self._aiokafka.TopicPartition(topic, 0): offset}
        self._run(self._producer.send_offsets_to_transaction(at, group))

    def commit(self) -> None:
        self._run(self._producer.commit_transaction())

    def abort(self) -> None:
        self._run(self._producer.abort_transaction())

    def close(self) -> None:
        try:
            self._run(self._producer.stop())
        finally:
            self._runner.close()


PRODUCERS: Final[dict[str, type[Transactional]]] = {
    "confluent-kafka": Confluent,
    "kafka-python": KafkaPython,
    "aiokafka": Aiokafka,
}


def read(client: str, bootstrap: str, topic: str, *, committed: bool = True, last: bytes) -> list[bytes]:
    """What a consumer of `client` delivers of the topic's first partition, from the begin to `last`."""
    level = "read_committed" if committed else "read_uncommitted"
    return {"confluent-kafka": _confluent, "kafka-python": _kafka_python, "aiokafka": _aiokafka}[client](
        bootstrap, topic, level, last
    )


def _confluent(bootstrap: str, topic: str, level: str, last: bytes) -> list[bytes]:
    consumer = confluent_kafka.Consumer(
        {**secured.librdkafka(bootstrap), "group.id": uuid.uuid4().hex, "isolation.level": level}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    deadline = time.monotonic() + PATIENCE_S
    try:
        while not values or values[-1] != last:
            assert time.monotonic() < deadline, values[-5:]
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                values.append(message.value())
    finally:
        consumer.close()
    return values


def _kafka_python(bootstrap: str, topic: str, level: str, last: bytes) -> list[bytes]:
    import kafka

    consumer = kafka.KafkaConsumer(
        **secured.kafka_python(bootstrap),
        isolation_level=level,
        auto_offset_reset="earliest",
        consumer_timeout_ms=PATIENCE_S * 1000,
    )
    consumer.assign([kafka.TopicPartition(topic, 0)])
    values: list[bytes] = []
    try:
        for message in consumer:
            values.append(message.value)
            if message.value == last:
                return values
    finally:
        consumer.close()
    raise AssertionError(values[-5:])


def _aiokafka(bootstrap: str, topic: str, level: str, last: bytes) -> list[bytes]:
    import aiokafka

    async def consume() -> list[bytes]:
        consumer = aiokafka.AIOKafkaConsumer(
            **secured.aiokafka(bootstrap), isolation_level=level, auto_offset_reset="earliest"
        )
        await consumer.start()
        values: list[bytes] = []
        try:
            consumer.assign([aiokafka.TopicPartition(topic, 0)])
            async for message in consumer:
                values.append(message.value)
                if message.value == last:
                    break
        finally:
            await consumer.stop()
        return values

    return asyncio.run(asyncio.wait_for(consume(), PATIENCE_S))
