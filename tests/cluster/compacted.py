"""Compacted topics on broker processes: what writes them, what reads them, and what they should hold."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests import secured

PATIENCE_S: Final = 90.0
TOPIC: Final = "t"
KEYS: Final = 20
OPTIONS: Final = {"log.cleaner.backoff.ms": 200}
COMPACTED: Final = {
    "cleanup.policy": "compact",
    "segment.bytes": "20000",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "3600000",
}

Table = dict[bytes | str | None, bytes | str | None]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def create(bootstrap: str, replicas: int = 1, **configs: str) -> None:
    admin = AdminClient(secured.librdkafka(bootstrap))
    named = {name.replace("_", "."): value for name, value in configs.items()}
    topic = NewTopic(TOPIC, 1, replicas, config=COMPACTED | named)
    admin.create_topics([topic])[TOPIC].result(30)


class Writer:
    """Writes random values and tombstones, and knows the last acknowledged one of each key."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {**secured.librdkafka(bootstrap), "enable.idempotence": True, "linger.ms": 2}
        )
        self._rng = random.Random(5)
        self._count = 0
        self.table: Table = {}
        self.offset = -1

    def write(self, count: int) -> None:
        for _ in range(count):
            self._count += 1
            key = b"key-%d" % self._rng.randrange(KEYS)
            value = None if self._rng.random() < 0.1 else b"%d" % self._count * 20
            self._producer.produce(TOPIC, value, key, partition=0, on_delivery=self._delivered)
            if self._count % 50 == 0:  # else all of it is one batch
                assert self._producer.flush(PATIENCE_S) == 0
        assert self._producer.flush(PATIENCE_S) == 0

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        assert offset_of(message) > self.offset
        self.offset = offset_of(message)
        self.table[message.key()] = message.value()


def offset_of(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset


def read(bootstrap: str, start: int = 0) -> list[Message]:
    """All records from offset `start` to the end."""
    settings = {
        **secured.librdkafka(bootstrap),
        "group.id": "g",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
    }
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(TOPIC, 0, start)])
    found: list[Message] = []
    deadline = time.monotonic() + PATIENCE_S
    try:
        while True:
            assert time.monotonic() < deadline, len(found)
            message = consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                return found
            else:
                raise KafkaException(error)
    finally:
        consumer.close()


def folded(messages: list[Message]) -> Table:
    return {message.key(): message.value() for message in messages}


def is_shrunk(bootstrap: str, writer: Writer) -> Callable[[], bool]:
    """Most of what was written is gone."""
    return lambda: len(read(bootstrap)) < (writer.offset + 1) / 4
