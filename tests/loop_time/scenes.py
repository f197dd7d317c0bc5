"""What is done to the cluster while its loops are measured. A scene leaves its state behind for the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.badinput import requests
from tests.badinput.batches import batch
from tests.badinput.wire import OFFSET_COMMIT, Raw, Reader, array, i32, i64, string
from tests.loop_time.cluster import COUNT, MeasuredCluster

RECORD: Final = bytes(100)
NOT_COORDINATOR: Final = 16
TRICKLE_PAUSE_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    partitions: int
    producers: int
    groups: int
    offsets_each: int
    behind_partitions: int
    behind_mib: int
    seconds: float


Scene = Callable[[MeasuredCluster, Sizes], None]


def create(cluster: MeasuredCluster, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    for future in admin.create_topics([NewTopic(topic, partitions, COUNT)], request_timeout=120).values():
        future.result()


@contextmanager
def trickle(cluster: MeasuredCluster, topic: str, partitions: int) -> Iterator[None]:
    """A record now and then, to one partition after the other, while the block runs; all must arrive."""
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "linger.ms": 0})
    ended, failures = threading.Event(), list[str]()

    def run() -> None:
        number = 0
        while not ended.is_set():
            producer.produce(topic, RECORD, partition=number % partitions, on_delivery=note)
            producer.poll(0)
            number += 1
            ended.wait(TRICKLE_PAUSE_S)

    def note(error: object, message: object) -> None:
        if error is not None:
            failures.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert producer.flush(60) == 0
    assert not failures, failures[:3]


def idle(cluster: MeasuredCluster, sizes: Sizes) -> None:
    """A trickle on one partition: what there is to compare with."""
    create(cluster, "steady", 1)
    with trickle(cluster, "steady", 1):
        time.sleep(sizes.seconds)


def many_partitions(cluster: MeasuredCluster, sizes: Sizes) -> None:
    """All partitions are written, then some all the time."""
    create(cluster, "many", sizes.partitions)
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for number in range(sizes.partitions):
        producer.produce("many", RECORD, partition=number)
    assert producer.flush(120) == 0
    with trickle(cluster, "many", sizes.partitions):
        time.sleep(sizes.seconds)


def many_producers(cluster: MeasuredCluster, sizes: Sizes) -> None:
    """Idempotent producers on one partition, each with a record; its snapshots hold them all."""
    create(cluster, "shared", 1)
    raws = [Raw(("127.0.0.1", port)) for port in cluster.ports]
    leader = next(raw for raw in raws if requests.produce(raw, "shared", batch()).error == 0)
    for producer_id in range(sizes.producers):
        data = batch(producer_id=1_000_000 + producer_id, producer_epoch=0, base_sequence=0)
        produced = requests.produce(leader, "shared", data)
        assert produced.error == 0, produced
    for raw in raws:
        raw.close()
    with trickle(cluster, "shared", 1):
        time.sleep(sizes.seconds)


def many_offsets(cluster: MeasuredCluster, sizes: Sizes) -> None:
    """Groups that commit, a few partitions each."""
    create(cluster, "read", sizes.offsets_each)
    raws = [Raw(("127.0.0.1", port)) for port in cluster.ports]
    coordinator = next(raw for raw in raws if _commit(raw, "first", 1) == 0)
    for number in range(sizes.groups):
        assert _commit(coordinator, f"group-{number}", sizes.offsets_each) == 0
    for raw in raws:
        raw.close()
    with trickle(cluster, "steady", 1):
        time.sleep(sizes.seconds)


def _commit(raw: Raw, group: str, partitions: int) -> int:
    """The first error among the partitions, 0 for none."""
    rows = [i32(number) + i64(7) + string("") for number in range(partitions)]
    body = string(group) + i32(-1) + string("") + i64(-1) + array([string("read") + array(rows)])
    reader = Reader(raw.ask(OFFSET_COMMIT, 2, body))
    errors = []
    for _ in range(reader.i32()):
        reader.string()
        for _ in range(reader.i32()):
            reader.i32()
            errors.append(reader.i16())
    return next((error for error in errors if error), 0)


def a_broker_dies(cluster: MeasuredCluster, sizes: Sizes) -> None:
    """A broker is killed, and much is written without it."""
    create(cluster, "missed", sizes.behind_partitions)
    cluster.kill(COUNT - 1)
    producer = Producer(
        {"bootstrap.servers": cluster.bootstrap, "linger.ms": 20, "queue.buffering.max.kbytes": 256 << 10}
    )
    value = bytes(16 << 10)
    failures: list[object] = []
    for number in range(sizes.behind_mib * 64 * sizes.behind_partitions):
        while True:
            try:
                producer.produce(
                    "missed",
                    value,
                    partition=number % sizes.behind_partitions,
                    on_delivery=lambda error, _: failures.append(error) if error else None,
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(300) == 0
    assert not failures, failures[:3]


def a_broker_returns(cluster: MeasuredCluster, sizes: Sizes) -> None:
    """It comes back, and lacks that."""
    with trickle(cluster, "steady", 1):
        cluster.launch(COUNT - 1)
        cluster.wait_ready(COUNT - 1)
        time.sleep(sizes.seconds)
    cluster.wait_equal()


SCENES: Final[dict[str, Scene]] = {
    "idle": idle,
    "partitions": many_partitions,
    "producers": many_producers,
    "offsets": many_offsets,
    "death": a_broker_dies,
    "return": a_broker_returns,
}
