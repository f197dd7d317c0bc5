"""Bits that turn over in the files of broker processes: never served, and repaired from the other brokers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from raftlog.storage.disk import RealDisk
from raftlog.storage.inspect import verify
from tests import secured
from tests.secured import BrokerProcess, ClusterProcesses

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("cluster")]

PATIENCE_S: Final = 90.0
RECORDS: Final = [b"record %06d" % number * 20 for number in range(400)]


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ClusterProcesses]:
    """Broker 3 leads partition 0 of topic t, which holds RECORDS; `param` are further options."""
    with ClusterProcesses(tmp_path, options=request.param) as cluster:
        cluster.start()
        admin = AdminClient(secured.librdkafka(cluster.bootstrap))
        topic = NewTopic("t", num_partitions=1, replica_assignment=[[3, 2, 1]])
        admin.create_topics([topic])["t"].result(30)
        producer = Producer(
            {**secured.librdkafka(cluster.bootstrap), "linger.ms": 0, "batch.num.messages": 10}
        )
        for record in RECORDS:
            producer.produce("t", record, partition=0)
        assert producer.flush(30) == 0
        until(lambda: leader(cluster) == 3)
        yield cluster


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def leader(cluster: ClusterProcesses) -> int:
    admin = AdminClient(secured.librdkafka(cluster.bootstrap))
    return int(admin.list_topics("t", timeout=10).topics["t"].partitions[0].leader)


def flip(broker: BrokerProcess, byte: int) -> None:
    """Turn over a bit of the records, as whoever reads the file next will see it."""
    folder = Path(broker.data_dir)
    until(lambda: any(path.stat().st_size > byte for path in folder.glob("t-0.*/*.log")))
    (path,) = folder.glob("t-0.*/*.log")
    with path.open("r+b") as file:
        file.seek(byte)
        (value,) = file.read(1)
        file.seek(byte)
        file.write(bytes([value ^ 1]))


def read_all(cluster: ClusterProcesses) -> list[bytes]:
    """All records; a client that repeats a fetch that was refused waits for the repair."""
    consumer = Consumer({**secured.librdkafka(cluster.bootstrap), "group.id": "g", "check.crcs": False})
    consumer.assign([TopicPartition("t", 0, 0)])
    records: list[bytes] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(records) < len(RECORDS):
        assert time.monotonic() < deadline, f"{len(records)} of {len(RECORDS)}"
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            records.append(message.value())
    consumer.close()
    return records


def says(broker: BrokerProcess, text: str) -> bool:
    return text in broker.log_tail(10_000)


def is_sound(cluster: ClusterProcesses) -> bool:
    cluster.stop()
    return not any(verify(RealDisk(), str(broker.data_dir)).findings for broker in cluster.brokers.values())


SLEEPING: Final = {"raftlog.scrub.bytes.per.second": 0}


@pytest.mark.parametrize("cluster", [SLEEPING], indirect=True)
def test_one_flipped_bit_and_one_emptied_disk_leave_a_partition_that_is_led_and_whole(
    cluster: ClusterProcesses,
) -> None:
    one, three = cluster.brokers[1], cluster.brokers[3]
    three.stop()
    flip(three, 2000)
    three.start()
    until(lambda: leader(cluster) == 3)
    one.kill()
    shutil.rmtree(one.data_dir)
    one.start()
    until(lambda: says(three, "is damaged") and says(three, "repaired with what broker"))
    assert read_all(cluster) == RECORDS
    until(lambda: leader(cluster) == 3)
    assert is_sound(cluster)


@pytest.mark.parametrize("cluster", [SLEEPING], indirect=True)
def test_a_bit_that_turns_over_under_a_running_leader_is_never_served(cluster: ClusterProcesses) -> None:
    assert read_all(cluster) == RECORDS
    flip(cluster.brokers[3], 2000)
    assert read_all(cluster) == RECORDS
    assert says(cluster.brokers[3], "byte ") and says(cluster.brokers[3], "repaired with what broker")
    assert is_sound(cluster)


@pytest.mark.parametrize("cluster", [{"raftlog.scrub.interval.ms": 1000}], indirect=True)
def test_the_scrub_finds_what_nobody_reads(cluster: ClusterProcesses) -> None:
    for node_id in (1, 2):
        flip(cluster.brokers[node_id], 2000 * node_id)
    for node_id in (1, 2):
        until(lambda broker=cluster.brokers[node_id]: says(broker, "repaired with what broker"))  # type: ignore[misc]
    assert is_sound(cluster)
