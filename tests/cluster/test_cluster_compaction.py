"""Compacted topics on broker processes, with confluent-kafka: what stays is the last value of each key."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from raftlog.storage.disk import RealDisk
from raftlog.storage.inspect import verify
from tests import secured
from tests.cluster.compacted import (
    OPTIONS,
    PATIENCE_S,
    TOPIC,
    Writer,
    create,
    folded,
    is_shrunk,
    offset_of,
    read,
    until,
)
from tests.secured import BrokerProcess, ClusterProcesses

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("cluster")]


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
                behind = [message for message in left if offset_of(message) >= start]
                again = read(broker.bootstrap, start)
                # Another pass may have taken more meanwhile, but not a key's last value.
                assert {offset_of(each) for each in again} <= {offset_of(each) for each in behind}
                assert folded(again) == folded(behind)
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
        producer = Producer({**secured.librdkafka(broker.bootstrap), "linger.ms": 500})
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
        admin = AdminClient(secured.librdkafka(broker.bootstrap))
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
