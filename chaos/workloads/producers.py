"""Producers of three libraries. Each writes at a steady rate until it is told to stop, and then waits until
everything that is under way was answered."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Final

import trio
from confluent_kafka import KafkaError, Message, Producer

from chaos.history import Outcome, Send
from chaos.workloads.worker import Sender, Target, TrioWorker, Worker
from raftlog import DeliveryError

GIVE_UP_MS: Final = 90_000
"""When a client calls a record's outcome unknown: later than any fault lasts."""
REQUEST_MS: Final = 2_000
"""A request that a broker does not answer is asked elsewhere after that; not less, since a busy machine is
slow by itself."""
FLUSH_S: Final = 60.0

CONFLUENT: Final[dict[str, Any]] = {
    "socket.timeout.ms": REQUEST_MS,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "retry.backoff.ms": 50,
    "log_level": 0,
}
"""Of every client of librdkafka. docs/reliability.md says what for."""
SURE_FAILURES: Final = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.RECORD_LIST_TOO_LARGE,
)
TRIO: Final[dict[str, Any]] = {
    "request_timeout_ms": REQUEST_MS,
    "reconnect_backoff_max_ms": 500,
    "retry_backoff_ms": 50,
    "retry_backoff_max_ms": 500,
    "socket_connection_setup_timeout_ms": 1_000,
    "default_api_timeout_ms": GIVE_UP_MS,
}


class ConfluentProducer(Worker):
    """confluent-kafka. One that is not idempotent sends a request at a time, which keeps the order."""

    def __init__(
        self, name: str, target: Target, rate: float, *, idempotent: bool = True, keys: int = 0
    ) -> None:
        super().__init__(name, target.history)
        self.sender = Sender(name, target, rate, keys)
        own: dict[str, Any] = {"enable.idempotence": idempotent}
        if not idempotent:
            own["max.in.flight.requests.per.connection"] = 1
        self._producer = Producer(
            {
                **target.access.librdkafka(),
                "client.id": name,
                "acks": "all",
                "linger.ms": 2,
                "message.timeout.ms": GIVE_UP_MS,
                "request.timeout.ms": REQUEST_MS,
                "retry.backoff.max.ms": 500,
                **CONFLUENT,
                **own,
            }
        )

    def work(self) -> None:
        while not self.stopping.is_set():
            due = self.sender.next()
            if isinstance(due, float):
                self._producer.poll(due)
                continue
            send, value = due
            self._producer.produce(
                self.sender.target.topic,
                value=value,
                key=(send.key or self.name).encode(),
                partition=send.partition,
                on_delivery=self._report(send),
            )
        self._producer.flush(FLUSH_S)

    def _report(self, send: Send) -> Callable[[KafkaError | None, Message], None]:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                # None: librdkafka knows that it was written, not where (DUPLICATE_SEQUENCE_NUMBER).
                offset = message.offset()
                self.sender.ended(send, Outcome.OK, -1 if offset is None else offset)
            else:
                sure = error.code() in SURE_FAILURES
                self.sender.ended(send, Outcome.FAILED if sure else Outcome.UNKNOWN, why=str(error))

        return report


class KafkaPythonProducer(Worker):
    """kafka-python, which is idempotent by default."""

    def __init__(self, name: str, target: Target, rate: float) -> None:
        super().__init__(name, target.history)
        self.sender = Sender(name, target, rate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its import uses what Python 3.11 deprecates
            from kafka import KafkaProducer
            from kafka.net.manager import KafkaConnectionManager

        # Its producer does not take these (docs/reliability.md).
        KafkaConnectionManager.DEFAULT_CONFIG.update(
            socket_connection_setup_timeout_ms=500, socket_connection_setup_timeout_max_ms=1_000
        )
        self._producer = KafkaProducer(
            **target.access.kafka_python(),
            client_id=name,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=GIVE_UP_MS,
            request_timeout_ms=REQUEST_MS,
            reconnect_backoff_ms=50,
            reconnect_backoff_max_ms=500,
            retry_backoff_ms=50,
            linger_ms=2,
            compression_type="gzip",
        )

    def work(self) -> None:
        while not self.stopping.is_set():
            due = self.sender.next()
            if isinstance(due, float):
                self.stopping.wait(due)
                continue
            send, value = due
            future = self._producer.send(
                self.sender.target.topic, value=value, key=self.name.encode(), partition=send.partition
            )
            future.add_callback(self._acknowledged, send)
            future.add_errback(self._failed, send)
        self._producer.close(timeout=FLUSH_S)

    def _acknowledged(self, send: Send, report: Any) -> None:
        self.sender.ended(send, Outcome.OK, report.offset)

    def _failed(self, send: Send, error: BaseException) -> None:
        self.sender.ended(send, Outcome.UNKNOWN, why=repr(error))


class TrioProducer(TrioWorker):
    """raftlog's own client."""

    def __init__(self, name: str, target: Target, rate: float, keys: int = 0) -> None:
        super().__init__(name, target.history)
        self.sender = Sender(name, target, rate, keys)

    async def run(self) -> None:
        target = self.sender.target
        async with (
            target.access.open_client(client_id=self.name, **TRIO) as client,
            client.producer(linger_ms=2, delivery_timeout_ms=GIVE_UP_MS) as producer,
            trio.open_nursery() as nursery,
        ):
            async for send, value in self.sender.until(self.stopping):
                delivery = await producer.send_soon(
                    target.topic, value, key=(send.key or self.name).encode(), partition=send.partition
                )
                nursery.start_soon(self._await, send, delivery)

    async def _await(self, send: Send, delivery: Any) -> None:
        try:
            written = await delivery
        except DeliveryError as error:
            outcome = Outcome.UNKNOWN if error.may_be_written else Outcome.FAILED
            self.sender.ended(send, outcome, why=f"{error}: {error.__cause__!r}")
        else:
            self.sender.ended(send, Outcome.OK, written.offset)
