"""Clients of a broker that is cut off from the others: it sends them on, and they go on with a majority."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from raftlog.testing.cluster import EmbeddedCluster

pytestmark = pytest.mark.slow

QUIET: Final = {"log_level": 0}
PATIENCE_S: Final = 60.0


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap, **QUIET})
        admin.create_topics([NewTopic("t", 1, 3)])["t"].result(PATIENCE_S)
        yield cluster


def test_a_producer_that_knows_that_broker_alone_goes_on_with_the_others(cluster: EmbeddedCluster) -> None:
    """Found by chaos: librdkafka asks for metadata where it last sent something. It was told of no leader,
    again and again, until the broker was healed."""
    errors: list[Any] = []
    leader = cluster.leader("t")
    producer = Producer({"bootstrap.servers": leader.bootstrap, "enable.idempotence": True, **QUIET})
    for number in range(3):
        producer.produce("t", b"%d" % number, on_delivery=lambda error, message: errors.append(error))
        assert producer.flush(PATIENCE_S) == 0
        if number == 0:
            cluster.faults.isolate(leader)
    assert errors == [None, None, None]
    cluster.faults.heal()


def test_a_consumer_that_knows_that_broker_alone_goes_on_with_the_others(cluster: EmbeddedCluster) -> None:
    leader = cluster.leader("t")
    producer = Producer({"bootstrap.servers": cluster.bootstrap, **QUIET})
    settings = {"group.id": "g", "auto.offset.reset": "earliest", "session.timeout.ms": 6000}
    consumer = Consumer({"bootstrap.servers": leader.bootstrap, **settings, **QUIET})
    consumer.subscribe(["t"])
    for number in range(3):
        producer.produce("t", b"%d" % number)
        assert producer.flush(PATIENCE_S) == 0
        assert next_of(consumer) == b"%d" % number
        if number == 0:
            cluster.faults.isolate(leader)
    consumer.commit(asynchronous=False)
    consumer.close()
    cluster.faults.heal()


def next_of(consumer: Consumer) -> bytes | None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            return message.value()
    return None
