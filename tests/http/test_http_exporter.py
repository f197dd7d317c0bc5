"""/metrics/kafka beside kafka_exporter itself, unmodified, on the same cluster (scenario 5).

The exporter is a program of its own that no index of packages has: it is used where it is on the PATH, or
where RAFTLOG_TEST_KAFKA_EXPORTER says. What it writes was recorded, too: names and labels are held to that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

import raftlog
from raftlog.http.kafka_metrics import FAMILIES
from raftlog.testing.processes import BrokerProcess, ClusterProcesses, free_port
from tests.http.raw import ask
from tests.waiting import until

PATIENCE_S: Final = 300.0
"""For the offsets of a partition that nobody leads the exporter asks again and again, for a minute."""

_PARTITION: Final = ("topic", "partition")
_PLACE: Final = ("consumergroup", "topic", "partition")
RECORDED: Final = {
    "kafka_brokers": (),
    "kafka_broker_info": ("id", "address"),
    "kafka_topic_partitions": ("topic",),
    "kafka_topic_partition_current_offset": _PARTITION,
    "kafka_topic_partition_oldest_offset": _PARTITION,
    "kafka_topic_partition_leader": _PARTITION,
    "kafka_topic_partition_replicas": _PARTITION,
    "kafka_topic_partition_in_sync_replica": _PARTITION,
    "kafka_topic_partition_leader_is_preferred": _PARTITION,
    "kafka_topic_partition_under_replicated_partition": _PARTITION,
    "kafka_consumergroup_members": ("consumergroup",),
    "kafka_consumergroup_current_offset": _PLACE,
    "kafka_consumergroup_lag": _PLACE,
    "kafka_consumergroup_current_offset_sum": ("consumergroup", "topic"),
    "kafka_consumergroup_lag_sum": ("consumergroup", "topic"),
}
"""What kafka_exporter 1.9 writes of a cluster without ZooKeeper, all of it gauges."""

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def test_names_and_labels_are_those_of_kafka_exporter() -> None:
    assert {one.name: (one.kind, set(one.labels)) for one in FAMILIES} == {
        name: ("gauge", set(labels)) for name, labels in RECORDED.items()
    }


def series(text: str) -> Series:
    """What is about the cluster, and not about the exporter."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name.startswith("kafka_") and not family.name.startswith("kafka_exporter_")
    }


@contextmanager
def exporter(bootstrap: str, log: Path) -> Iterator[str]:
    """The address of one that looks at these brokers."""
    path = os.environ.get("RAFTLOG_TEST_KAFKA_EXPORTER") or shutil.which("kafka_exporter")
    if path is None:
        pytest.skip("kafka_exporter is not on the PATH, nor where RAFTLOG_TEST_KAFKA_EXPORTER says")
    address = f"127.0.0.1:{free_port()}"
    command = [path, f"--web.listen-address={address}", "--refresh.metadata=1s"]
    command += ["--concurrent.enable"]  # without it the last line of an answer is lost now and then
    command += [f"--kafka.server={one}" for one in bootstrap.split(",")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield f"http://{address}/metrics"
    finally:
        process.kill()
        process.wait()


def exported(url: str) -> Series:
    """Nothing while it starts."""
    try:
        with urlopen(url, timeout=PATIENCE_S) as answer:
            return series(answer.read().decode())
    except URLError:
        return {}


def ours(broker: BrokerProcess) -> Series:
    return series(ask(broker, "/metrics/kafka").body.decode())


def agree(url: str, brokers: list[BrokerProcess]) -> None:
    """The exporter and each broker come to say the same of a cluster in which nothing happens any more."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        theirs, differ = exported(url), list[str]()
        for broker in brokers:
            mine = ours(broker)
            for key in sorted(theirs.keys() | mine.keys(), key=str):
                if theirs.get(key) != mine.get(key):
                    name, labels = key
                    shown = ",".join(f"{label}={value}" for label, value in sorted(labels))
                    differ.append(
                        f"broker {broker.node_id}: {name}{{{shown}}} {theirs.get(key)} {mine.get(key)}"
                    )
        if theirs and not differ:
            return
        assert time.monotonic() < deadline, "exporter, raftlog:\n" + "\n".join(differ)
        time.sleep(1)


async def fill(cluster: ClusterProcesses, topic: str, replicas: int) -> None:
    """Records, some of them deleted; a group that has committed in some partitions, and has gone."""
    async with raftlog.open_client(cluster.bootstrap) as client:
        await client.admin.create_topic(topic, partitions=3, replication_factor=replicas)
        async with client.producer() as producer:
            for number in range(30):
                await producer.send(topic, b"x", partition=number % 3)
        await client.admin.delete_records({raftlog.TopicPartition(topic, 0): 4})
        places = {raftlog.TopicPartition(topic, number): 6 + number for number in (1, 2)}
        await client.admin.alter_group_offsets("gone", places)


@pytest.mark.slow
async def test_5_the_unmodified_exporter_says_the_same_line_by_line(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path / "cluster", http=True) as cluster:
        cluster.start()
        brokers = list(cluster.brokers.values())
        await fill(cluster, "shared", 3)
        with exporter(cluster.bootstrap, tmp_path / "exporter.log") as url:
            until("the exporter serves", lambda: exported(url))
            agree(url, brokers)
            async with (
                raftlog.open_client(cluster.bootstrap) as client,
                client.consumer("shared", group="reading", auto_offset_reset="earliest") as consumer,
            ):
                while not await consumer.poll(10, max_wait_ms=500):
                    pass
                await consumer.commit()
                agree(url, brokers)
            brokers.pop().kill()
            agree(url, brokers)


@pytest.mark.slow
@pytest.mark.long
async def test_5_the_exporter_says_the_same_of_a_partition_that_nobody_leads(tmp_path: Path) -> None:
    """One of three: the exporter asks a minute for what such a partition has not."""
    with ClusterProcesses(tmp_path / "cluster", http=True) as cluster:
        cluster.start()
        brokers = list(cluster.brokers.values())
        await fill(cluster, "alone", 1)
        with exporter(cluster.bootstrap, tmp_path / "exporter.log") as url:
            until("the exporter serves", lambda: exported(url))
            agree(url, brokers)
            brokers.pop().kill()
            agree(url, brokers)
