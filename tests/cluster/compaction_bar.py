"""What compaction comes to: how small a log gets that is written to all the time, and what an ack waits for
it.

Two topics on three brokers get the same records, turn by turn: one is compacted, the other is not. One record
in hundred is of a key that nobody has had before and lives; all others are of a few keys, again and again.
Meanwhile a third producer has one record in flight, to one topic and to the other in turns, and its acks are
timed: those that came while a pass ran on any broker, and those that came while none did.

Nothing is judged before all is written: then the compacted topic's files must come under a share of what was
written. Blocking; it is a command (`python -m tests.cluster compaction`), not a test.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from raftlog.storage.meta import SCRATCH_NAME
from tests import secured
from tests.secured import ClusterProcesses

VALUE_BYTES: Final = 1000
LIVE_SHARE: Final = 0.01
TURN: Final = 500
"""Records of one topic before the other's turn."""
SETTLED_S: Final = 300.0
"""What the last passes may take once nothing is written any more."""
SETTINGS: Final = {
    "segment.bytes": "16777216",
    "min.cleanable.dirty.ratio": "0.3",
    "delete.retention.ms": "1000",
}
COMPACTED: Final = "compacted"
PLAIN: Final = "plain"
OPTIONS: Final = {"log.cleaner.backoff.ms": 1000}


@dataclass(slots=True)
class Bar:
    """`acks_ms` of single records, by topic, and `beside_ms`, by whether a pass ran meanwhile; bytes on the
    disk of the broker that keeps most."""

    written_bytes: int = 0
    most_bytes: int = 0
    """The most that the compacted topic took at once, while it was written to."""
    left_bytes: int = 0
    acks_ms: dict[str, list[float]] = field(default_factory=lambda: {COMPACTED: [], PLAIN: []})
    beside_ms: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    took_s: float = 0.0

    def add(self, topic: str, took_ms: float, before: bool, after: bool) -> None:
        """`before` and `after` the ack: whether a pass ran."""
        self.acks_ms[topic].append(took_ms)
        if before == after:
            self.beside_ms[after].append(took_ms)

    @property
    def share(self) -> float:
        return self.left_bytes / self.written_bytes

    @property
    def topics_ratio(self) -> float:
        """Of the p99: the compacted topic's to the other's."""
        return p99(self.acks_ms[COMPACTED]) / p99(self.acks_ms[PLAIN])

    @property
    def ratio(self) -> float:
        """Of the p99: while a pass ran to while none did."""
        return p99(self.beside_ms[True]) / p99(self.beside_ms[False])


def p99(acks: list[float]) -> float:
    return statistics.quantiles(acks, n=100)[98]


def measure(cluster: ClusterProcesses, size: int, share: float) -> Bar:
    """On a running cluster that was started with OPTIONS: write `size` bytes to each topic, and wait until
    the compacted one takes less than `share` of that, or for SETTLED_S."""
    _create(cluster)
    bar, rng, began = Bar(), random.Random(7), time.monotonic()
    bulk = Producer({**secured.librdkafka(cluster.bootstrap), "linger.ms": 5})
    single = Producer({**secured.librdkafka(cluster.bootstrap), "linger.ms": 0})
    values = [rng.randbytes(VALUE_BYTES) for _ in range(100)]
    lives = 0
    while bar.written_bytes < size:
        first = lives
        for topic in (COMPACTED, PLAIN):
            lives = first
            for number in range(TURN):
                key = b"%d" % (number % 10)
                if number % round(1 / LIVE_SHARE) == 0:
                    lives += 1
                    key = b"live-%d" % lives
                bulk.produce(topic, values[number % 100], key)
            assert bulk.flush(60) == 0
            before = _is_passing(cluster)
            took_ms = _ack(single, topic)
            bar.add(topic, took_ms, before, _is_passing(cluster))
        bar.written_bytes += TURN * VALUE_BYTES
        if bar.written_bytes % (50 * TURN * VALUE_BYTES) == 0:
            bar.most_bytes = max(bar.most_bytes, _size(cluster))
    end = time.monotonic() + SETTLED_S
    number = 0
    while (left := _size(cluster)) > share * bar.written_bytes and time.monotonic() < end:
        number += 1  # the last segment is never compacted: what is in it has to be closed
        bulk.produce(COMPACTED, values[0], b"%d" % (number % 10))
        assert bulk.flush(60) == 0
        time.sleep(0.2)
    bar.left_bytes, bar.took_s = left, time.monotonic() - began
    return bar


def _create(cluster: ClusterProcesses) -> None:
    admin = AdminClient(secured.librdkafka(cluster.bootstrap))
    topics = [
        NewTopic(COMPACTED, 1, 3, config={"cleanup.policy": "compact", **SETTINGS}),
        NewTopic(PLAIN, 1, 3, config={"segment.bytes": SETTINGS["segment.bytes"]}),
    ]
    for future in admin.create_topics(topics).values():
        future.result(60)


def _ack(producer: Producer, topic: str) -> float:
    """One record in flight: ms until its ack."""
    began = time.perf_counter()
    producer.produce(topic, b"v", b"single")
    assert producer.flush(60) == 0
    return 1000 * (time.perf_counter() - began)


def _is_passing(cluster: ClusterProcesses) -> bool:
    """Whether a broker compacts just now: each pass has a folder."""
    return any(any(Path(broker.data_dir, SCRATCH_NAME).glob("*")) for broker in cluster.brokers.values())


def _size(cluster: ClusterProcesses) -> int:
    """Bytes of the compacted topic's log files, on the broker that has most of them."""
    return max(_size_on(Path(broker.data_dir)) for broker in cluster.brokers.values())


def _size_on(folder: Path) -> int:
    sizes = 0
    for path in folder.glob(f"{COMPACTED}-0.*/*.log"):
        try:
            sizes += path.stat().st_size
        except FileNotFoundError:  # a pass has replaced it
            continue
    return sizes
