"""The load that a broker is killed under: producers that live through every kill, and a group consumer
that commits. They only record; `checker` judges."""

from __future__ import annotations

import random
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from tests.crash.history import History, Send, Traits

IN_FLIGHT_MAX: Final = 1_000
"""Records of a producer that wait for their answer; more wait for the broker to come back."""
PAUSE_S: Final = 0.004
AT_ONCE_MAX: Final = 4
GIVE_UP_MS: Final = 120_000
"""When a client calls a record's outcome unknown: later than any restart takes."""

PRODUCERS: Final = {
    "idem1": Traits(idempotent=True),
    "idem2": Traits(idempotent=True),
    "kpy": Traits(idempotent=True),
    "plain": Traits(idempotent=False),
}
GROUP: Final = "watchers"

_COMMON: Final = {
    "acks": "all",
    "linger.ms": 2,
    "message.timeout.ms": GIVE_UP_MS,
    "retry.backoff.ms": 20,
    "retry.backoff.max.ms": 200,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
    "log_level": 0,
}
_CONFLUENT: Final[dict[str, dict[str, Any]]] = {
    "idem1": {"enable.idempotence": True},
    "idem2": {"enable.idempotence": True, "compression.type": "lz4"},
    # One request at a time keeps the order; what was written before its answer got lost is written again.
    "plain": {"enable.idempotence": False, "max.in.flight.requests.per.connection": 1},
}
_SURE_FAILURES: Final = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.RECORD_LIST_TOO_LARGE,
}


class Worker:
    """A thread that works until it is told to stop; what it raises is a note in the history."""

    def __init__(self, name: str, history: History) -> None:
        self.name = name
        self.history = history
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self.stopping.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.history.note(f"{self.name} hangs")

    def _run(self) -> None:
        try:
            self.work()
        except Exception as error:
            self.history.note(f"{self.name} gave up: {error!r}")

    def work(self) -> None:
        raise NotImplementedError


class ProducerWorker(Worker):
    """Sends a few records at a time, to all partitions in turn."""

    def __init__(self, name: str, history: History, topic: str, partitions: int, seed: int) -> None:
        super().__init__(name, history)
        self.topic = topic
        self._partitions = partitions
        self._rng = random.Random(f"{seed} {name}")
        self._number = 0
        self.waiting = 0
        self.is_paused = False
        self._lock = threading.Lock()

    def next_sends(self) -> list[Send]:
        sends = []
        for _ in range(self._rng.randint(1, AT_ONCE_MAX)):
            partition = self._rng.randrange(self._partitions)
            sends.append(self.history.send(self.name, self._number, partition))
            self._number += 1
        with self._lock:
            self.waiting += len(sends)
        return sends

    def ended(self) -> None:
        with self._lock:
            self.waiting -= 1

    def may_send(self) -> bool:
        return not self.is_paused and self.waiting < IN_FLIGHT_MAX


class ConfluentWorker(ProducerWorker):
    def __init__(self, name: str, history: History, topic: str, partitions: int, seed: int, at: str) -> None:
        super().__init__(name, history, topic, partitions, seed)
        self._producer = Producer({"bootstrap.servers": at, **_COMMON, **_CONFLUENT[name]})

    def work(self) -> None:
        while not self.stopping.is_set():
            if self.may_send():
                for send in self.next_sends():
                    self._produce(send)
            self._producer.poll(PAUSE_S)
        self._producer.flush(GIVE_UP_MS / 1000)

    def _produce(self, send: Send) -> None:
        self._producer.produce(
            self.topic,
            value=send.value,
            key=self.name.encode(),
            partition=send.partition,
            on_delivery=self._report(send),
        )

    def _report(self, send: Send) -> Callable[[KafkaError | None, Message], None]:
        def report(error: KafkaError | None, message: Message) -> None:
            self.ended()
            if error is None:
                offset = message.offset()
                assert offset is not None
                self.history.acknowledge(send, offset)
            elif error.code() in _SURE_FAILURES:
                self.history.fail(send)
            elif self.history.producers[self.name].idempotent and not self.stopping.is_set():
                self.history.note(f"{self.name}:{send.number} ended with {error}")

        return report


class KafkaPythonWorker(ProducerWorker):
    def __init__(self, name: str, history: History, topic: str, partitions: int, seed: int, at: str) -> None:
        super().__init__(name, history, topic, partitions, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its import uses what Python 3.11 deprecates
            from kafka import KafkaProducer

        self._producer = KafkaProducer(
            bootstrap_servers=at,
            linger_ms=2,
            compression_type="gzip",
            delivery_timeout_ms=GIVE_UP_MS,
            retry_backoff_ms=20,
            reconnect_backoff_ms=20,
            reconnect_backoff_max_ms=200,
            metadata_max_age_ms=30_000,
        )

    def work(self) -> None:
        while not self.stopping.is_set():
            if self.may_send():
                for send in self.next_sends():
                    future = self._producer.send(
                        self.topic, value=send.value, key=self.name.encode(), partition=send.partition
                    )
                    future.add_callback(self._acknowledged, send)
                    future.add_errback(self._failed, send)
            self.stopping.wait(2 * PAUSE_S)
        self._producer.close(timeout=GIVE_UP_MS / 1000)

    def _acknowledged(self, send: Send, report: Any) -> None:
        self.ended()
        self.history.acknowledge(send, report.offset)

    def _failed(self, send: Send, error: BaseException) -> None:
        self.ended()
        if not self.stopping.is_set():
            self.history.note(f"{self.name}:{send.number} ended with {error!r}")


class GroupWorker(Worker):
    """The only member of a group: reads, and commits what it has read, again and again."""

    def __init__(self, history: History, topic: str, at: str) -> None:
        super().__init__("group member", history)
        self._consumer = Consumer(
            {
                "bootstrap.servers": at,
                "group.id": GROUP,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 300,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
                "socket.timeout.ms": 10_000,
                "log_level": 0,
            }
        )
        self._topic = topic
        self.commits = 0

    def work(self) -> None:
        self._consumer.subscribe([self._topic])
        try:
            while not self.stopping.is_set():
                self._read_and_commit()
        finally:
            self._consumer.close()

    def _read_and_commit(self) -> None:
        messages = [m for m in self._consumer.consume(500, 0.05) if m.error() is None]
        if not messages:
            return
        offsets: dict[int, int] = {}
        for message in messages:
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            offsets[partition] = offset + 1
        self.history.try_commit(offsets)
        try:
            committed = self._consumer.commit(asynchronous=False)
        except KafkaException:
            return  # unknown
        if all(place.error is None for place in committed or ()):
            self.history.confirm_commit(offsets)
            self.commits += 1


class Workload:
    """Everything that runs against the broker while it is killed."""

    def __init__(self, history: History, topic: str, partitions: int, seed: int, bootstrap: str) -> None:
        self.history = history
        self.producers: list[ProducerWorker] = [
            (KafkaPythonWorker if name == "kpy" else ConfluentWorker)(
                name, history, topic, partitions, seed, bootstrap
            )
            for name in PRODUCERS
        ]
        self.group = GroupWorker(history, topic, bootstrap)

    @property
    def _workers(self) -> list[Worker]:
        return [*self.producers, self.group]

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def pause(self, is_paused: bool) -> None:
        """Send nothing new, or go on; what waits for an answer is not held back."""
        for producer in self.producers:
            producer.is_paused = is_paused

    def stop(self, timeout_s: float) -> None:
        """Stop sending; everything that waits for an answer gets it, or the time is up."""
        for worker in self._workers:
            worker.stopping.set()
        deadline = time.monotonic() + timeout_s
        for worker in self._workers:
            worker.stop(max(0.1, deadline - time.monotonic()))
