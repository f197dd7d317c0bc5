"""`python -m tests.crowd --bootstrap …`: many small producers, each with one record of 100 bytes in flight.

Each has its own connection to the leader of its partition, and no client library: requests are made before
the clock starts, so that next to nothing of what is measured is the client's. Prints what `raftlog bench
--format json` prints; a load of `tests.side_by_side`.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from typing import Final

from confluent_kafka.admin import AdminClient

from raftlog.cli.bench_load import Load, Meter, ensure_topic, find_brokers
from tests.badinput.batches import batch, record
from tests.badinput.requests import PRODUCE_VERSION, produce_body
from tests.badinput.wire import PRODUCE, framed, header

SIZE: Final = 100
ANSWER_BYTES_MAX: Final = 4096


class SmallProducer:
    """Sends the next record when the last one was answered."""

    def __init__(self, address: tuple[str, int], topic: str, partition: int) -> None:
        body = produce_body(topic, batch(record(bytes(SIZE))), partition=partition)
        self._request = framed(header(PRODUCE, PRODUCE_VERSION, correlation=partition) + body)
        self._sock = socket.create_connection(address)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answer = b""
        self._sent_at = 0.0

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self) -> None:
        self._sent_at = time.perf_counter()
        self._sock.sendall(self._request)

    def answered(self) -> float | None:
        """Seconds until the whole answer was there; None while some of it is missing."""
        piece = self._sock.recv(ANSWER_BYTES_MAX)
        if not piece:
            raise SystemExit("a broker closed a connection")
        answer = self._answer = self._answer + piece
        if len(answer) < 4 or len(answer) < 4 + int.from_bytes(answer[:4], "big"):
            return None
        self._answer = b""
        if (error := _error_of(answer)) != 0:
            raise SystemExit(f"a record was answered with error {error}")
        return time.perf_counter() - self._sent_at


def _error_of(answer: bytes) -> int:
    """Of the one partition of an answer, behind its length, its correlation, and the topic's name."""
    name_at = 4 + 4 + 4
    name_bytes = int.from_bytes(answer[name_at : name_at + 2], "big")
    at = name_at + 2 + name_bytes + 4 + 4
    return int.from_bytes(answer[at : at + 2], "big", signed=True)


def drive(producers: list[SmallProducer], seconds: float) -> list[float]:
    """Every answer's latency, in seconds. What is under way at the end is waited for, and left out."""
    selector, latencies = selectors.DefaultSelector(), []
    for producer in producers:
        selector.register(producer, selectors.EVENT_READ, producer)
        producer.send()
    end = time.perf_counter() + seconds
    under_way = len(producers)
    while under_way:
        is_over = time.perf_counter() >= end
        for key, _ in selector.select():
            producer = key.data
            if (latency := producer.answered()) is None:
                continue
            if is_over:
                under_way -= 1
            else:
                latencies.append(latency)
                producer.send()
    return latencies


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crowd", description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", default="crowd")
    parser.add_argument("--producers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds of the same, not counted")
    parser.add_argument("--partitions", "-p", type=int, default=3)
    parser.add_argument("--replication", "-r", type=int, default=3)
    parser.add_argument("--format", choices=["json"], default="json")
    options = parser.parse_args()
    load = Load(
        bootstrap=options.bootstrap,
        topic=options.topic,
        partitions=options.partitions,
        replication=options.replication,
        size=SIZE,
    )
    meter = Meter(find_brokers(load))
    ensure_topic(load)
    topics = AdminClient({"bootstrap.servers": load.bootstrap}).list_topics(load.topic, timeout=10)
    leaders = {number: partition.leader for number, partition in topics.topics[load.topic].partitions.items()}
    addresses = {broker.id: (str(broker.host), broker.port) for broker in topics.brokers.values()}
    producers = [
        SmallProducer(addresses[leaders[number % load.partitions]], load.topic, number % load.partitions)
        for number in range(options.producers)
    ]
    drive(producers, options.warmup)
    meter.start()
    latencies = drive(producers, options.seconds)
    run = meter.run(records=len(latencies), payload_bytes=SIZE * len(latencies), latencies=latencies)
    print(json.dumps({"runs": [run.figures()]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
