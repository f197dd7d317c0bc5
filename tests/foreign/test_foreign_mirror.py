"""MirrorMaker 2 between two clusters: records arrive, and so does how far a group is."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from raftlog.testing.processes import ClusterProcesses
from tests.foreign.commands import Background, JavaTools
from tests.foreign.conftest import OPTIONS

COUNT: Final = 500
READ: Final = 200
PATIENCE_S: Final = 60.0


def commit(bootstrap: str, group: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    consumer.commit(offsets=[TopicPartition("lines", 0, offset)], asynchronous=False)
    consumer.close()


def committed(bootstrap: str, group: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    try:
        (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=PATIENCE_S)
        return int(found.offset)
    finally:
        consumer.close()


def read(bootstrap: str, topic: str) -> list[bytes]:
    settings = {"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "log_level": 0}
    consumer = Consumer({**settings, "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        return [one.value() for one in consumer.consume(10 * COUNT, timeout=3) if one.error() is None]
    finally:
        consumer.close()


@pytest.mark.slow
def test_a_topic_and_its_group_arrive_at_another_cluster(
    apps: JavaTools, java: JavaTools, tmp_path: Path
) -> None:
    with (
        ClusterProcesses(tmp_path / "a", 1, options=OPTIONS).start() as a,
        ClusterProcesses(tmp_path / "b", 1, options=OPTIONS).start() as b,
    ):
        java("TopicCommand", "--bootstrap-server", a.bootstrap, "--create", "--topic", "lines")
        producer = Producer({"bootstrap.servers": a.bootstrap, "log_level": 0})
        values = [b"%d" % number for number in range(COUNT)]
        for value in values:
            producer.produce("lines", value)
        assert producer.flush(PATIENCE_S) == 0
        settings = {
            "clusters": "a, b",
            "a.bootstrap.servers": a.bootstrap,
            "b.bootstrap.servers": b.bootstrap,
            "a->b.enabled": "true",
            "b->a.enabled": "false",
            "a->b.topics": "lines",
            "a->b.sync.group.offsets.enabled": "true",
            "sync.group.offsets.interval.seconds": "1",
            "emit.checkpoints.interval.seconds": "1",
            "refresh.topics.interval.seconds": "1",
            "refresh.groups.interval.seconds": "1",
            "b.exactly.once.source.support": "enabled",
            "dedicated.mode.enable.internal.rest": "true",
            "listeners": "http://127.0.0.1:0",
            # The default looks through all jars, three times: a minute on a busy machine.
            "plugin.discovery": "service_load",
        }
        for what in ("", "checkpoints.topic.", "heartbeats.topic.", "offset-syncs.topic."):
            settings[f"{what}replication.factor"] = "1"
        for what in ("offset", "status", "config"):
            settings[f"{what}.storage.replication.factor"] = "1"
        properties = tmp_path / "mirror.properties"
        properties.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        mirror = Background(apps.program("org.apache.kafka.connect.mirror.MirrorMaker", properties))
        try:
            mirror.until("all is there", lambda: len(read(b.bootstrap, "a.lines")) >= COUNT)
            commit(a.bootstrap, "readers", READ)
            # A group is put where the mirror knows that both logs are alike, at its offset or before.
            mirror.until(
                "the group is known", lambda: 0 < committed(b.bootstrap, "readers", "a.lines") <= READ
            )
        finally:
            mirror.stop()
        assert read(b.bootstrap, "a.lines") == values, "each once, in order"
