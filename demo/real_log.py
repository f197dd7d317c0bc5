"""A real log: published with confluent-kafka while a broker is killed, read back with another client."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, Message, Producer

from demo.source import Line

TOPIC = "real-log"
PARTITIONS = 3
PATIENCE_S = 120
BATCHES = 200
"""How many batches the lines make at least, so that some are on their way when the broker dies."""
WHILE_DOWN = 1000
"""Lines that are handed over while there is no broker: fewer than the client keeps waiting."""


class DemoFailed(Exception):
    """Something did not work at all; the message says what."""


def create_topic(bootstrap: str, replicas: int) -> None:
    command = [sys.executable, "-m", "raftlog", "topic", "create", TOPIC, "-p", str(PARTITIONS)]
    command += ["-r", str(replicas), "--bootstrap", bootstrap]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)


class Publishing:
    """Publishes lines, and has a broker killed while some are acknowledged and others on their way."""

    def __init__(self, bootstrap: str, lines: int) -> None:
        self.acknowledged: list[Line] = []
        self.partitions: Counter[int] = Counter()
        """How many lines were acknowledged in each partition."""
        self._failures: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 1,
                "batch.num.messages": max(20, lines // BATCHES),
                "reconnect.backoff.max.ms": 500,
                "message.timeout.ms": 1000 * PATIENCE_S,
                "log_level": 0,  # a broker that is gone is what this is about
            }
        )

    def leader_of_most(self) -> int:
        """The broker that leads the partition in which most lines are."""
        ((partition, _),) = self.partitions.most_common(1) or [(0, 0)]
        topic = self._producer.list_topics(TOPIC, timeout=PATIENCE_S).topics[TOPIC]
        return topic.partitions[partition].leader

    def publish(self, lines: Sequence[Line], strike: Callable[[], None], recover: Callable[[], None]) -> None:
        """Publish all lines, with `strike` after half of them and `recover` a little later.

        Raises DemoFailed when a line is not acknowledged in the end.
        """
        half = (len(lines) + 1) // 2
        self._hand_over(lines[:half])
        while len(self.acknowledged) < half // 2 and len(self._producer) and not self._failures:
            self._producer.poll(0.001)
        strike()
        done = len(self.acknowledged)
        print(f"   SIGKILL with {done:,} lines acknowledged and {half - done:,} on their way", flush=True)
        rest = lines[half:]
        self._hand_over(rest[:WHILE_DOWN])
        recover()
        self._hand_over(rest[WHILE_DOWN:])
        unsent = self._producer.flush(PATIENCE_S)
        if unsent or self._failures:
            reason = self._failures[0] if self._failures else "no answer"
            raise DemoFailed(f"{unsent + len(self._failures):,} lines were not acknowledged: {reason}")

    def _hand_over(self, lines: Sequence[Line]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        for line in lines:
            while True:
                try:
                    self._producer.produce(TOPIC, key=line.key, value=line.text, on_delivery=self._delivered)
                    break
                except BufferError:  # the client's queue is full
                    if time.monotonic() > deadline:
                        raise DemoFailed(f"no line was taken within {PATIENCE_S} s") from None
                    self._producer.poll(0.1)
            self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.acknowledged.append(Line(message.key() or b"", message.value() or b""))
            self.partitions[message.partition() or 0] += 1
        else:
            self._failures.append(str(error))


def reader() -> str:
    """What the log is read back with."""
    return "kcat" if shutil.which("kcat") else "raftlog consume"


def consume(bootstrap: str) -> list[Line]:
    """Everything in the topic, as kcat prints it, or the command line's own consumer."""
    template = "%k\\t%s\\n"
    if kcat := shutil.which("kcat"):
        command = [kcat, "-C", "-q", "-e", "-X", "log_level=0", "-o", "beginning"]
        command += ["-b", bootstrap, "-t", TOPIC, "-f", template]
    else:
        command = [sys.executable, "-m", "raftlog", "consume", TOPIC, "--bootstrap", bootstrap]
        command += ["--from-beginning", "--exit-at-end", "-f", template]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300).stdout
    rows = output.split(b"\n")
    if rows.pop():
        raise DemoFailed(f"{reader()} was cut off in the middle of a line")
    return [Line(key, text) for key, _, text in (row.partition(b"\t") for row in rows)]
