"""What is done to the cluster while its loops are measured. A scene leaves its state behind for the next."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.badinput import requests
from tests.badinput.batches import batch
from tests.badinput.wire import OFFSET_COMMIT, Raw, Reader, array, i32, i64, string
from tests.loop_time.cluster import COUNT, MeasuredCluster

RECORD: Final = bytes(100)
NOT_COORDINATOR: Final = 16
COORDINATOR_NOT_AVAILABLE: Final = 15
COORDINATOR_PATIENCE_S: Final = 60.0
TRICKLE_PAUSE_S: Final = 0.01
COMMITTERS: Final = 32
AT_ONCE: Final = 10
"""Commits that a committer sends before it reads an answer."""
FIRST_AT_ONCE: Final = 200
"""The same of who has all groups commit for the first time."""
FRAMES_EACH: Final = 1_000


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
    commits_per_second: float = 5_000.0


Scene = Callable[[MeasuredCluster, Sizes], None]


def create(cluster: MeasuredCluster, topic: str, partitions: int) -> None:
    """Unless an earlier scene has made it."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    for future in admin.create_topics([NewTopic(topic, partitions, COUNT)], request_timeout=120).values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


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
    coordinator = _coordinator(raws)
    for first in range(0, sizes.groups, FIRST_AT_ONCE):
        groups = range(first, min(first + FIRST_AT_ONCE, sizes.groups))
        frames = [_commit_frame(f"group-{number}", sizes.offsets_each) for number in groups]
        while errors := {*map(_first_error, coordinator.ask_many(OFFSET_COMMIT, 2, frames))} - {0}:
            assert errors <= {NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE}, errors
            coordinator = _coordinator(raws)
    for raw in raws:
        raw.close()
    with trickle(cluster, "steady", 1):
        time.sleep(sizes.seconds)


def many_commits(cluster: MeasuredCluster, sizes: Sizes) -> None:
    """Groups commit without a pause, each one offset, over many kept ones; and a record now and then."""
    many_offsets(cluster, replace(sizes, seconds=0))
    without = _delays(cluster, sizes.seconds)
    raws = [Raw(("127.0.0.1", port)) for port in cluster.ports]
    leader = raws.index(_coordinator(raws))
    for raw in raws:
        raw.close()
    ended, counts, refused = threading.Event(), [0] * COMMITTERS, list[int]()

    def commit(committer: int) -> None:
        raw, number = Raw(("127.0.0.1", cluster.ports[leader])), 0
        frames = [
            _commit_frame(f"group-{(committer + COMMITTERS * at) % sizes.groups}", 1)
            for at in range(FRAMES_EACH)
        ]
        begun = time.monotonic()
        while not ended.is_set():
            asked = [frames[(number + at) % FRAMES_EACH] for at in range(AT_ONCE)]
            for body in raw.ask_many(OFFSET_COMMIT, 2, asked):
                if error := _first_error(body):  # the coordinator has changed: this committer is done
                    refused.append(error)
                    return
            number += AT_ONCE
            counts[committer] = number
            ahead = number / (sizes.commits_per_second / COMMITTERS) - (time.monotonic() - begun)
            if ahead > 0:
                ended.wait(ahead)
        raw.close()

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(COMMITTERS)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    beside = _delays(cluster, sizes.seconds)
    ended.set()
    for thread in threads:
        thread.join()
    rate = sum(counts) / (time.monotonic() - begun)
    print(
        f"\n{rate:.0f} commits a second over {sizes.groups * sizes.offsets_each} kept offsets;"
        f" a record alone takes {without[0]:.1f} ms (p50) and {without[1]:.1f} (p99) without them,"
        f" {beside[0]:.1f} and {beside[1]:.1f} beside them; {len(refused)} committers lost their coordinator"
    )


def _delays(cluster: MeasuredCluster, seconds: float) -> tuple[float, float]:
    """p50 and p99 of un-batched records, milliseconds."""
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "linger.ms": 0})
    delays: list[float] = []
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        producer.produce("steady", RECORD, partition=0)
        assert producer.flush(60) == 0
        delays.append(1000 * (time.monotonic() - begun))
        time.sleep(TRICKLE_PAUSE_S)
    cuts = statistics.quantiles(delays, n=100)
    return cuts[49], cuts[98]


def _coordinator(raws: list[Raw]) -> Raw:
    """Who takes commits."""
    deadline = time.monotonic() + COORDINATOR_PATIENCE_S
    while time.monotonic() < deadline:
        for raw in raws:
            if _commit(raw, "first", 1) == 0:
                return raw
        time.sleep(0.1)
    raise AssertionError("nobody coordinates")


def _commit(raw: Raw, group: str, partitions: int) -> int:
    """The first error among the partitions, 0 for none."""
    return _first_error(raw.ask(OFFSET_COMMIT, 2, _commit_frame(group, partitions)))


def _commit_frame(group: str, partitions: int) -> bytes:
    rows = [i32(number) + i64(7) + string("") for number in range(partitions)]
    return string(group) + i32(-1) + string("") + i64(-1) + array([string("read") + array(rows)])


def _first_error(body: bytes) -> int:
    reader = Reader(body)
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
    "commits": many_commits,
    "death": a_broker_dies,
    "return": a_broker_returns,
}
