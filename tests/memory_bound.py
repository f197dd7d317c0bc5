"""`python -m tests.memory_bound`: what brokers hold in memory when no majority takes what producers send.

Three brokers, a topic of 1,000 partitions with three replicas, and producers that send records of 1 KiB to
1 MB as fast as the sockets take them and heed no error. A few seconds in, two brokers are stopped (SIGSTOP,
or SIGKILL with --kill); the third goes on being sent to; then the two come back. Prints the brokers' resident
memory at its highest and what the clients were answered. The exit code says whether memory stayed below the
limit, every error was one after which a producer comes again, nothing was acknowledged without a majority,
everything acknowledged is there, and every partition takes a record afterwards.
"""

from __future__ import annotations

import argparse
import random
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from raftlog.protocol.errors import ErrorCode
from raftlog.testing.processes import BrokerProcess, ClusterProcesses
from tests.badinput.batches import batch, record
from tests.badinput.requests import PRODUCE_VERSION, produce_body
from tests.badinput.wire import PRODUCE, Reader, framed, header

MIB: Final = 1 << 20
TOPIC: Final = "memory"
SURVIVOR: Final = 3
UNANSWERED_MAX: Final = 64
"""Requests that a producer sends before it waits for an answer."""
PATIENCE_S: Final = 120.0
SETTLED_S: Final = 2.0
"""How long after the majority is gone an acknowledgement may still be under way."""
COME_AGAIN: Final = frozenset(
    (
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.KAFKA_STORAGE_ERROR,
    )
)
NOISE: Final = random.Random(0).randbytes(2 * MIB)


class Flow:
    """A producer: one connection that is always full."""

    def __init__(self, name: str, broker: BrokerProcess, partitions: list[int], rng: random.Random) -> None:
        self.name = name
        self.partitions = partitions
        self.unanswered: deque[tuple[int, bytes]] = deque()
        self.is_closed = False
        self.sent = 0
        self._rng = rng
        self._out = memoryview(b"")
        self._in = bytearray()
        self._sock = socket.create_connection((broker.host, broker.port))
        self._sock.setblocking(False)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def wants_to_send(self) -> bool:
        return bool(self._out) or len(self.unanswered) < UNANSWERED_MAX

    def send(self, size_min: int, size_max: int) -> None:
        """Some of the request under way, or of the next; sizes are as often in one octave as in another."""
        if not self._out:
            size = int(size_min * (size_max / size_min) ** self._rng.random())
            begin = self._rng.randrange(len(NOISE) - size)
            key = f"{self.name}:{self.sent}".encode()
            partition = self._rng.choice(self.partitions)
            body = produce_body(TOPIC, batch(record(NOISE[begin : begin + size], key)), partition=partition)
            self._out = memoryview(framed(header(PRODUCE, PRODUCE_VERSION, correlation=self.sent) + body))
            self.unanswered.append((partition, key))
            self.sent += 1
        with suppress(BlockingIOError):
            self._out = self._out[self._sock.send(self._out) :]

    def answers(self) -> Iterable[tuple[int, int, int, bytes]]:
        """Error, offset, partition and key of what has been answered."""
        with suppress(BlockingIOError):
            piece = self._sock.recv(65536)
            if not piece:
                raise ConnectionResetError("the broker closed the connection")
            self._in += piece
        while len(self._in) >= 4 and len(self._in) >= (end := 4 + int.from_bytes(self._in[:4], "big")):
            reader = Reader(bytes(self._in[4:end]))
            del self._in[:end]
            reader.i32(), reader.i32(), reader.string(), reader.i32(), reader.i32()
            partition, key = self.unanswered.popleft()
            yield reader.i16(), reader.i64(), partition, key

    def close(self) -> None:
        self.is_closed = True
        self._sock.close()


class Fleet:
    """All producers, and what they were told."""

    def __init__(self, flows: list[Flow], size_min: int, size_max: int) -> None:
        self.flows = flows
        self.acknowledged: dict[tuple[int, int], bytes] = {}
        self.last_acknowledged = 0.0
        self.told: Counter[str] = Counter()
        self.wrong: set[str] = set()
        self._sizes = (size_min, size_max)
        self._selector = selectors.DefaultSelector()
        for flow in flows:
            self._selector.register(flow, selectors.EVENT_READ | selectors.EVENT_WRITE, flow)

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._round(is_sending=True)

    def wait_answers(self) -> None:
        """Send no more; those that are due come, or the request is given up."""
        end = time.monotonic() + PATIENCE_S / 4
        while time.monotonic() < end and any(f.unanswered for f in self.flows if not f.is_closed):
            self._round(is_sending=False)
        self.told["no answer"] += sum(len(flow.unanswered) for flow in self.flows)
        for flow in self.flows:
            flow.close()

    def _round(self, *, is_sending: bool) -> None:
        for key, events in self._selector.select(0.1):
            flow: Flow = key.data
            try:
                if events & selectors.EVENT_READ:
                    for answer in flow.answers():
                        self._note(*answer)
                if events & selectors.EVENT_WRITE and flow.wants_to_send and is_sending:
                    flow.send(*self._sizes)
            except ConnectionError:
                self.told["connection lost"] += 1
                self._selector.unregister(flow)
                flow.close()
                continue
            wanted = selectors.EVENT_READ | (
                selectors.EVENT_WRITE if flow.wants_to_send and is_sending else 0
            )
            if wanted != key.events:
                self._selector.modify(flow, wanted, flow)

    def _note(self, error: int, offset: int, partition: int, key: bytes) -> None:
        name = ErrorCode(error).name if error else "acknowledged"
        self.told[name] += 1
        if not error:
            self.acknowledged[partition, offset] = key
            self.last_acknowledged = time.monotonic()
        elif error not in COME_AGAIN:
            self.wrong.add(name)


class Peaks:
    """The brokers' resident memory, looked at fifty times a second."""

    def __init__(self, brokers: Iterable[BrokerProcess]) -> None:
        self.peaks: dict[int, dict[str, int]] = {}
        self.phase = "idle"
        self._brokers = list(brokers)
        self._is_over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._is_over.wait(0.02):
            phase = self.phase
            for broker in self._brokers:
                with suppress(OSError, ValueError, IndexError):
                    size = broker.memory_bytes()
                    of = self.peaks.setdefault(broker.node_id, {})
                    of[phase] = max(of.get(phase, 0), size)

    def close(self) -> None:
        self._is_over.set()

    @property
    def highest(self) -> int:
        return max(size for of in self.peaks.values() for size in of.values())


def led_by(bootstrap: str, count: int) -> dict[int, list[int]]:
    """The partitions that each broker leads, once all are led."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    found: dict[int, list[int]] = {}

    def are_led() -> bool:
        found.clear()
        try:
            told = admin.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions
        except KafkaException:  # no broker has answered in that time
            return False
        for partition in told.values():
            found.setdefault(partition.leader, []).append(partition.id)
        return len(told) == count and -1 not in found

    wait_for(are_led, "leaders of all partitions")
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def take_a_record_each(bootstrap: str, count: int) -> int:
    """How many partitions take a record."""
    taken: set[int] = set()
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})
    for partition in range(count):
        producer.produce(
            TOPIC,
            b"afterwards",
            partition=partition,
            on_delivery=lambda error, message: error or taken.add(message.partition()),
        )
    producer.flush(PATIENCE_S)
    return len(taken)


def missing(bootstrap: str, acknowledged: dict[tuple[int, int], bytes], count: int) -> int:
    """How many of the acknowledged records are not where they were said to be."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "memory-bound",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 1,
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(count)])
    left, ended = dict(acknowledged), set[int]()
    quiet_since = time.monotonic()
    while len(ended) < count and time.monotonic() - quiet_since < PATIENCE_S / 2:
        for message in consumer.consume(500, 0.5):
            if message.error() is not None:
                ended.add(message.partition() or 0)
                continue
            quiet_since = time.monotonic()
            place = (message.partition() or 0, message.offset() or 0)
            if place in left and left[place] == message.key():
                del left[place]
    consumer.close()
    return len(left)


def play(cluster: ClusterProcesses, options: argparse.Namespace) -> bool:
    """The whole scene; whether everything held."""
    count = options.partitions
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    for future in admin.create_topics([NewTopic(TOPIC, count, 3)], request_timeout=60).values():
        future.result(60)
    led = led_by(cluster.bootstrap, count)
    print("led by each broker:", {broker: len(found) for broker, found in sorted(led.items())}, flush=True)
    rng = random.Random(options.seed)
    flows = [
        Flow(f"{node_id}.{number}", cluster.brokers[node_id], found, rng)
        for node_id, found in sorted(led.items())
        for number in range(options.producers if node_id == SURVIVOR else options.elsewhere)
    ]
    fleet = Fleet(flows, options.size_min, options.size_max)
    peaks = Peaks(cluster.brokers.values())
    stopped = [broker for broker in cluster.brokers.values() if broker.node_id != SURVIVOR]
    enter(peaks, "with a majority")
    fleet.run(options.warmup)
    for broker in stopped:
        (broker.kill if options.kill else broker.pause)()
    lost_at = time.monotonic()
    enter(peaks, "without")
    fleet.run(options.seconds)
    is_honest = fleet.last_acknowledged < lost_at + SETTLED_S
    enter(peaks, "healed")
    for broker in stopped:
        (broker.launch if options.kill else broker.resume)()
    fleet.wait_answers()
    enter(peaks, "waiting for leaders")
    led_by(cluster.bootstrap, count)
    enter(peaks, "a record for each partition")
    taken = take_a_record_each(cluster.bootstrap, count)
    enter(peaks, "reading all")
    lost = missing(cluster.bootstrap, fleet.acknowledged, count)
    enter(peaks, "end")
    peaks.close()
    print("answers:", dict(fleet.told.most_common()))
    print(f"{len(fleet.acknowledged)} acknowledged, {lost} of them lost; {taken} of {count} partitions serve")
    verdicts = {
        f"memory below {options.limit} MiB": peaks.highest < options.limit * MIB,
        "errors after which producers come again": not fleet.wrong,
        "something acknowledged, and nothing without a majority": bool(fleet.acknowledged) and is_honest,
        "everything acknowledged is there": not lost,
        "every partition serves": taken == count,
        "every broker runs": all(broker.is_running for broker in cluster.brokers.values()),
    }
    for what, holds in verdicts.items():
        print(f"{'ok    ' if holds else 'FAILED'} {what}")
    return all(verdicts.values())


def enter(peaks: Peaks, phase: str) -> None:
    """Say what the phase before took, and begin the next."""
    for broker, of in sorted(peaks.peaks.items()):
        if peaks.phase in of:
            print(f"broker {broker}, {peaks.phase}: {of[peaks.phase] / MIB:.0f} MiB resident at most")
    peaks.phase = phase
    print(f"{time.strftime('%H:%M:%S')} {phase}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.memory_bound", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--producers", type=int, default=200, help="of the broker that goes on")
    parser.add_argument(
        "--elsewhere",
        type=int,
        default=20,
        help="of each other broker, whose logs wait in the memory of the one that goes on",
    )
    parser.add_argument("--size-min", type=int, default=1024, help="bytes of a record")
    parser.add_argument("--size-max", type=int, default=1_000_000)
    parser.add_argument("--warmup", type=float, default=4, help="seconds with a majority")
    parser.add_argument("--seconds", type=float, default=30, help="without one")
    parser.add_argument("--limit", type=int, default=480, help="MiB")
    parser.add_argument("--kill", action="store_true", help="two brokers rather than stop them")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="raftlog-memory-") as folder,
        ClusterProcesses(Path(folder)).start() as cluster,
    ):
        return 0 if play(cluster, options) else 1


if __name__ == "__main__":
    sys.exit(main())
