"""An ordinary client that produces and consumes all the while, on connections of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from tests.badinput.wire import ANSWER_S

TOPIC = "bystander"
PAUSE_S = 0.02


class Bystander:
    """A thread that writes a number and reads it back, again and again.

    `rounds` counts; `check` says whether it goes on, and raises what went wrong: an error of its clients
    (a closed connection among them), or a record that is not the one that was written.
    """

    def __init__(
        self, bootstrap: str, *, may_reconnect: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        """`may_reconnect`: the broker closes idle connections so soon that ordinary ones are among them.
        `settings`: of clients that log in."""
        self._may_reconnect = may_reconnect
        self.rounds = 0
        self.slowest_s = 0.0
        self._failures: list[str] = []
        self._stopping = threading.Event()
        common: dict[str, Any] = {"bootstrap.servers": bootstrap, "error_cb": self._failed, "log_level": 0}
        common |= settings or {}
        self._producer = Producer({**common, "acks": "all", "linger.ms": 0})
        self._consumer = Consumer(
            {**common, "group.id": "none", "enable.auto.commit": False, "fetch.wait.max.ms": 100}
        )
        self._thread = threading.Thread(target=self._run, name="bystander", daemon=True)

    def start(self) -> Bystander:
        self._produce(0)  # creates the topic
        self._consumer.assign([TopicPartition(TOPIC, 0, OFFSET_BEGINNING)])
        self._read(0)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(3 * ANSWER_S)
        self._consumer.close()

    def check(self) -> None:
        """Wait until it has done two more rounds from now on."""
        enough = self.rounds + 2
        deadline = time.monotonic() + 2 * ANSWER_S
        while self.rounds < enough and not self._failures:
            assert time.monotonic() < deadline, f"the bystander stands still at {self.rounds}"
            time.sleep(0.005)
        assert not self._failures, self._failures

    def _failed(self, error: KafkaError) -> None:
        if not self._may_reconnect:
            self._failures.append(str(error))

    def _run(self) -> None:
        number = 1
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                self._produce(number)
                self._read(number)
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.rounds = number
                number += 1
                self._stopping.wait(PAUSE_S)
        except Exception as error:
            self._failures.append(repr(error))

    def _produce(self, number: int) -> None:
        self._producer.produce(TOPIC, str(number).encode(), partition=0, on_delivery=self._delivered)
        assert self._producer.flush(ANSWER_S) == 0, f"{number} was not delivered within {ANSWER_S} s"

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._failures.append(f"not delivered: {error}")

    def _read(self, number: int) -> None:
        message = self._consumer.poll(ANSWER_S)
        assert message is not None, f"{number} did not come within {ANSWER_S} s"
        assert message.error() is None, message.error()
        assert message.value() == str(number).encode(), (message.value(), number)
