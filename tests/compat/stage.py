"""What a scenario has at hand: one client under test, a broker, and fresh names."""

from __future__ import annotations

import importlib
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka.admin import AdminClient, NewTopic

from tests.compat.clients.base import (
    PATIENCE_S,
    Can,
    Client,
    Consumer,
    Message,
    Record,
    sent_and_closed,
)
from tests.waiting import until

ADAPTERS: Final = {
    "kafka-python": ("kafka_python", "KafkaPython"),
    "confluent-kafka": ("confluent", "Confluent"),
    "aiokafka": ("aio", "Aiokafka"),
    "kcat": ("kcat", "Kcat"),
}
"""Module and class of each client; imported on use, as importing the clients is slow and not silent."""


def adapter(name: str) -> type[Client]:
    module, attribute = ADAPTERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kafka-python's import uses what Python 3.11 deprecates
        found: type[Client] = getattr(importlib.import_module(f"tests.compat.clients.{module}"), attribute)
    return found


@dataclass(slots=True)
class Stage:
    client: Client
    bootstrap: str
    admin: AdminClient
    _open: list[Consumer] = field(default_factory=list)

    def name(self, prefix: str = "t") -> str:
        """A name that nobody has used before."""
        return f"{prefix}-{uuid.uuid4().hex[:12]}"

    def topic(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        """A new topic, made by a client that is not under test."""
        name = self.name("topic")
        new = NewTopic(name, partitions, 1, config=dict(configs or {}))
        self.admin.create_topics([new], request_timeout=PATIENCE_S)[name].result(PATIENCE_S)
        return name

    def make_again(self, topic: str) -> None:
        """Delete a topic and create it again, by a client that is not under test."""
        self.admin.delete_topics([topic], request_timeout=PATIENCE_S)[topic].result(PATIENCE_S)
        until("it is gone", lambda: topic not in self.admin.list_topics(timeout=PATIENCE_S).topics)
        new = NewTopic(topic, 1, 1)
        self.admin.create_topics([new], request_timeout=PATIENCE_S)[topic].result(PATIENCE_S)

    def produce(self, topic: str, *messages: Message, **settings: object) -> list[int]:
        return sent_and_closed(self.client.producer(**settings), topic, messages)  # type: ignore[arg-type]

    @contextmanager
    def consumer(self, topic: str, **settings: object) -> Iterator[Consumer]:
        consumer = self.client.consumer(topic, **settings)  # type: ignore[arg-type]
        try:
            yield consumer
        finally:
            consumer.close()

    def read(self, topic: str, count: int, partition: int = 0) -> list[Record]:
        """The first `count` records of a partition, by a consumer without a group."""
        with self.consumer(topic, partition=partition) as consumer:
            return read(consumer, count)


def read(consumer: Consumer, count: int) -> list[Record]:
    """Poll until `count` records came; more than that is an error."""
    records: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records within {PATIENCE_S} s"
        records += consumer.poll(0.5)
    assert len(records) == count, f"{len(records)} records instead of {count}"
    return records


@dataclass(frozen=True, slots=True)
class Scenario:
    """One test for every client that can do what it needs."""

    name: str
    needs: Can
    run: Callable[[Stage], None]


def scenario(table: list[Scenario], needs: Can = Can.BASICS, **variants: object) -> Callable[..., object]:
    """Enter the function in a table; `variants` is one parameter and its values, an entry each."""

    def enter_variant(function: Callable[..., None], name: str, arguments: dict[str, object]) -> None:
        table.append(Scenario(name, needs, lambda stage: function(stage, **arguments)))

    def enter(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__.replace("_", "-")
        if not variants:
            table.append(Scenario(name, needs, function))
        for parameter, values in variants.items():
            assert isinstance(values, tuple)
            for value in values:
                enter_variant(function, f"{name}-{value}", {parameter: value})
        return function

    return enter
