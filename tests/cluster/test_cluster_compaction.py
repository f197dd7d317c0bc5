"""Compacted topics on broker processes, with confluent-kafka: what stays is the last value of each key."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from raftlog.storage.disk import RealDisk
from raftlog.storage.inspect import verify
from raftlog.testing.processes import BrokerProcess, ClusterProcesses

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]

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
    admin = AdminClient({"bootstrap.servers": bootstrap})
    named = {name.replace("_", "."): value for name, value in configs.items()}
    topic = NewTopic(TOPIC, 1, replicas, config=COMPACTED | named)
    admin.create_topics([topic])[TOPIC].result(30)


class Writer:
    """Writes random values and tombstones, and knows the last acknowledged one of each key."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2}
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
        "bootstrap.servers": bootstrap,
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


def test_one_broker_keeps_the_last_value_of_each_key_also_over_a_kill(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", options=OPTIONS)
    broker.start()
    try:
        create(broker.bootstrap)
        writer = Writer(broker.bootstrap)
        for _ in range(3):
            writer.write(2000)
            until(is_shrunk(broker.bootstrap, writer))
            left = read(broker.bootstrap)
            assert folded(left) == writer.table
            assert offset_of(left[-1]) == writer.offset
            offsets = [offset_of(message) for message in left]
            for start in (1, offsets[0] + 1, offsets[len(offsets) // 2] + 1, offsets[-1]):
                assert [offset_of(each) for each in read(broker.bootstrap, start)] == [
                    o for o in offsets if o >= start
                ]
            broker.kill()
            broker.start()
            assert folded(read(broker.bootstrap)) == writer.table
    finally:
        broker.kill()
    assert verify(RealDisk(), str(tmp_path / "data")).findings == []
    assert list((tmp_path / "data").glob(f"{TOPIC}-0.*/*.[0-9]*.log"))


def test_three_brokers_compact_while_they_are_killed(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path, options=OPTIONS) as cluster:
        cluster.start()
        create(cluster.bootstrap, replicas=3)
        writer = Writer(cluster.bootstrap)
        for number in (1, 2, 3):
            writer.write(1500)
            broker = cluster.brokers[number]
            broker.kill()
            writer.write(500)
            broker.start()
        writer.write(1000)
        until(is_shrunk(cluster.bootstrap, writer))
        assert folded(read(cluster.bootstrap)) == writer.table
        folders = [next(Path(broker.data_dir).glob(f"{TOPIC}-0.*")) for broker in cluster.brokers.values()]
        until(lambda: all(list(folder.glob("*.[0-9]*.log")) for folder in folders))
        for number in (1, 2):  # each that leads in the end serves the same
            cluster.brokers[number].kill()
            assert folded(read(cluster.bootstrap)) == writer.table
            cluster.brokers[number].start()
        cluster.stop()
        for broker in cluster.brokers.values():
            assert verify(RealDisk(), str(broker.data_dir)).findings == []


def test_a_member_that_is_away_stops_the_cleaning(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path, options=OPTIONS) as cluster:
        cluster.start()
        create(cluster.bootstrap, replicas=3)
        writer = Writer(cluster.bootstrap)
        away = cluster.brokers[3]
        away.kill()
        writer.write(3000)
        time.sleep(3)  # many times what the cleaner waits for
        assert len(read(cluster.bootstrap)) == writer.offset + 1
        away.start()
        until(is_shrunk(cluster.bootstrap, writer))
        assert folded(read(cluster.bootstrap)) == writer.table


def test_a_record_without_a_key_is_refused_with_its_batch(tmp_path: Path) -> None:
    """Scenario 62."""
    broker = BrokerProcess(tmp_path / "data", options=OPTIONS)
    broker.start()
    try:
        create(broker.bootstrap)
        producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 500})
        errors: list[KafkaError | None] = []
        for key in (b"a", None, b"b"):
            producer.produce(TOPIC, b"v", key, partition=0, on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(PATIENCE_S) == 0
        assert [error and error.code() for error in errors] == [KafkaError.INVALID_RECORD] * 3
        assert read(broker.bootstrap) == []
    finally:
        broker.kill()


def test_a_policy_may_change_there_and_back(tmp_path: Path) -> None:
    """Scenario 63."""
    broker = BrokerProcess(tmp_path / "data", options=OPTIONS)
    broker.start()

    def alter(policy: str) -> None:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(30)

    try:
        create(broker.bootstrap, cleanup_policy="delete")
        writer = Writer(broker.bootstrap)
        writer.write(3000)
        assert len(read(broker.bootstrap)) == 3000
        alter("compact")
        until(is_shrunk(broker.bootstrap, writer))
        alter("delete")
        left = [offset_of(message) for message in read(broker.bootstrap)]
        writer.write(1000)
        assert [offset_of(message) for message in read(broker.bootstrap)] == [*left, *range(3000, 4000)]
        assert folded(read(broker.bootstrap)) == writer.table
    finally:
        broker.kill()
