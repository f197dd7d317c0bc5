"""What TLS costs a broker: CPU of its process for a megabyte, and memory of connections.

    python -m tests.security.cost

One broker has a listener in plain text and one in TLS. Rounds of both take turns, so that what else the
machine does falls on both alike; the ratio is that of a round and its neighbour. Exit code 0: TLS takes no
more than 2.5 times the CPU of plain text, written and read, and 1,000 connections no more than 40 MiB.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from raftlog.testing.processes import BrokerProcess, free_port
from tests.certificates import client_context, write_authority, write_certificate

MB: Final = 1_000_000
RATIO_MAX: Final = 2.5
MEMORY_MAX: Final = 40 << 20
PATIENCE_S: Final = 120.0
HELLO: Final = b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\xff\xff"
"""ApiVersions 0, without a client id."""
WAYS: Final = ("plain", "TLS")


@dataclass(slots=True)
class Cost:
    """CPU milliseconds of the broker for a megabyte, by round."""

    plain: list[float] = field(default_factory=list)
    tls: list[float] = field(default_factory=list)

    def add(self, way: str, cpu_ms: float) -> None:
        (self.plain if way == "plain" else self.tls).append(cpu_ms)

    @property
    def ratios(self) -> list[float]:
        return [tls / plain for plain, tls in zip(self.plain, self.tls, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        def spread(values: list[float]) -> str:
            return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

        return f"plain {spread(self.plain)}, TLS {spread(self.tls)}, ratio {spread(self.ratios)}"


class TwoWays:
    """A broker with both listeners."""

    def __init__(self, folder: Path, *, connections_max: int = 5000) -> None:
        plain_port, port = free_port(), free_port()
        self.trusted = write_authority(folder)
        self.ports = {"plain": plain_port, "TLS": port}
        options = {
            "listeners": f"PLAINTEXT://127.0.0.1:{plain_port},SSL://127.0.0.1:{port}",
            "ssl.keystore.location": write_certificate(folder, "localhost", "127.0.0.1"),
            "max.connections": connections_max,
        }
        self.broker = BrokerProcess(folder / "data", port=plain_port, options=options)

    def settings(self, way: str) -> dict[str, Any]:
        found: dict[str, Any] = {"bootstrap.servers": f"127.0.0.1:{self.ports[way]}"}
        if way == "TLS":
            found |= {"security.protocol": "SSL", "ssl.ca.location": str(self.trusted)}
        return found

    def cpu_ms(self) -> float:
        """Of all threads of the broker, to the microsecond: Linux numbers the clock of a process so."""
        return time.clock_gettime_ns((~self.broker.pid << 3) | 2) / 1e6

    def cost_of(self, what: Callable[[], int]) -> float:
        """CPU ms for a megabyte of what is done, which tells how many bytes it were."""
        before = self.cpu_ms()
        size = what()
        return (self.cpu_ms() - before) / (size / MB)


def write(ways: TwoWays, way: str, topic: str, record: bytes, count: int) -> int:
    producer = Producer(
        {**ways.settings(way), "linger.ms": 5, "batch.size": 1_000_000, "queue.buffering.max.kbytes": 1 << 20}
    )
    for _ in range(count):
        producer.produce(topic, record)
        producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0
    return count * len(record)


def read(ways: TwoWays, way: str, topic: str, count: int) -> int:
    consumer = Consumer({**ways.settings(way), "group.id": "g", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    size = seen = 0
    end = time.monotonic() + PATIENCE_S
    while seen < count:
        assert time.monotonic() < end, seen
        for message in consumer.consume(1000, timeout=1.0):
            assert message.error() is None, message.error()
            seen, size = seen + 1, size + len(message.value() or b"")
    consumer.close()
    return size


def connect(ways: TwoWays, way: str, count: int) -> list[socket.socket]:
    """Connections that have been served once."""
    context, found = client_context(), []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", ways.ports[way]), timeout=PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if way == "TLS":
            sock = context.wrap_socket(sock, server_hostname="127.0.0.1")
        say_hello(sock)
        found.append(sock)
    return found


def say_hello(sock: socket.socket) -> None:
    """Asks what a broker serves, and takes the answer whole."""
    sock.sendall(HELLO)
    with sock.makefile("rb") as answers:
        size = int.from_bytes(answers.read(4))
        assert len(answers.read(size)) == size > 0


def measure_cpu(ways: TwoWays, rounds: int, round_mb: int, record_bytes: int) -> tuple[Cost, Cost]:
    """To write, and to read. The first round of each is not counted."""
    writing, reading = Cost(), Cost()
    record, count = os.urandom(record_bytes), round_mb * MB // record_bytes
    for number in range(rounds + 1):
        for way in WAYS if number % 2 else reversed(WAYS):
            topic = f"{way}-{number}-{record_bytes}"
            admin = AdminClient(ways.settings(way))
            admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(PATIENCE_S)
            written = ways.cost_of(lambda: write(ways, way, topic, record, count))  # noqa: B023
            got = ways.cost_of(lambda: read(ways, way, topic, count))  # noqa: B023
            if number:
                writing.add(way, written)
                reading.add(way, got)
    return writing, reading


def allow_open_files(count: int) -> int:
    """How many this process may have open, which is so many if the system lets it; a broker that it starts
    raises its own."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        soft = count if most == resource.RLIM_INFINITY else min(count, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
    return soft


def measure_memory(ways: TwoWays, count: int) -> dict[str, int]:
    """Bytes that so many connections take."""
    taken = {}
    for way in WAYS:
        before = ways.broker.memory_bytes()
        connections = connect(ways, way, count)
        taken[way] = ways.broker.memory_bytes() - before
        for connection in connections:
            connection.close()
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.security.cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each way, after one that is not counted")
    parser.add_argument("--round-mb", type=int, default=100)
    parser.add_argument("--record-bytes", type=int, action="append", help="several times; 10000 and 1000")
    parser.add_argument("--connections", type=int, default=1000)
    arguments = parser.parse_args()
    allow_open_files(4096)
    failures = []
    print(f"{ssl.OPENSSL_VERSION}; CPU of the broker, ms a MB: the median round, and from least to most")
    with tempfile.TemporaryDirectory(prefix="raftlog-cost-") as folder:
        ways = TwoWays(Path(folder))
        ways.broker.start()
        try:
            memory = measure_memory(ways, arguments.connections)
            for record_bytes in arguments.record_bytes or (10_000, 1_000):
                costs = measure_cpu(ways, arguments.rounds, arguments.round_mb, record_bytes)
                for what, cost in zip(("write", "read"), costs, strict=True):
                    print(f"{what}, records of {record_bytes} bytes: {cost}", flush=True)
                    if cost.ratio > RATIO_MAX:
                        failures.append(f"{what}, {record_bytes} bytes: {cost.ratio:.2f} times plain")
        finally:
            ways.broker.kill()
    said = ", ".join(f"{way} {size / (1 << 20):.1f} MiB" for way, size in memory.items())
    print(f"memory of {arguments.connections} connections: {said}")
    if memory["TLS"] > MEMORY_MAX:
        failures.append(f"{arguments.connections} TLS connections take {memory['TLS'] / (1 << 20):.1f} MiB")
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
