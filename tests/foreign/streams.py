"""An input that flows, and an output that is read as it is committed, while brokers are killed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Consumer, Producer

PAUSE_S: Final = 0.02
WORDS: Final = 17


class Committed:
    """Reads what is committed in a topic, in a thread."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.read: list[tuple[float, str, str]] = []
        """When, key, value."""
        self._bootstrap, self._topic = bootstrap, topic
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()

    def has_read_since(self, moment: float) -> Callable[[], bool]:
        return lambda: bool(self.read) and self.read[-1][0] > moment

    def _read(self) -> None:
        settings = {
            "bootstrap.servers": self._bootstrap,
            "group.id": f"reader-of-{self._topic}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "log_level": 0,
        }
        consumer = Consumer(settings)
        consumer.subscribe([self._topic])
        while not self._closing.is_set():
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                key, value = message.key(), message.value()
                assert isinstance(value, bytes)
                self.read.append((time.monotonic(), (key or b"").decode(), value.decode()))
        consumer.close()


class Flow(Committed):
    """Writes words to one topic, at a steady rate, and reads what comes of them from another, in threads."""

    def __init__(self, bootstrap: str, source: str, sink: str) -> None:
        super().__init__(bootstrap, sink)
        self.sent: Counter[str] = Counter()
        self._source = source
        self._ending = threading.Event()
        self._writer = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._writer.start()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.end()
        super().__exit__(kind, error, where)

    def end(self) -> int:
        """Write no more; how many words were written."""
        self._ending.set()
        self._writer.join()
        return self.sent.total()

    def _write(self) -> None:
        producer = Producer(
            {"bootstrap.servers": self._bootstrap, "enable.idempotence": True, "log_level": 0}
        )
        while not self._ending.is_set():
            number = self.sent.total()
            word = f"w{number % WORDS}"
            producer.produce(self._source, word, key=str(number))
            self.sent[word] += 1
            producer.poll(0)
            time.sleep(PAUSE_S)
        assert producer.flush(60) == 0
