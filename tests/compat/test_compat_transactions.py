"""Transactions as three client libraries use them, and as they read them. Numbers are those of scenarios."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator

import confluent_kafka
import pytest
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests import secured
from tests.compat.clients.base import PATIENCE_S
from tests.compat.transactional import PRODUCERS, Transactional, read
from tests.waiting import until

Start = Callable[..., Transactional]
NAMES = list(PRODUCERS)


@pytest.fixture
def topic(bootstrap: str) -> str:
    name = f"tx-{uuid.uuid4().hex[:12]}"
    admin = AdminClient({**secured.librdkafka(bootstrap), "log_level": 0})
    for made in admin.create_topics([NewTopic(name, 2, 1)]).values():
        made.result(PATIENCE_S)
    return name


@pytest.fixture
def start(bootstrap: str) -> Iterator[Start]:
    """Starts a producer of a library under a transactional id."""
    started: list[Transactional] = []

    def start(name: str, transactional_id: str, timeout_ms: int = 60_000) -> Transactional:
        producer = PRODUCERS[name](bootstrap, transactional_id, timeout_ms)
        started.append(producer)
        producer.init()
        return producer

    yield start
    for producer in started:
        try:
            producer.close()
        except Exception:  # one that was fenced says so again
            pass


def end_offset(bootstrap: str, topic: str, *, committed: bool) -> int:
    admin = AdminClient({**secured.librdkafka(bootstrap), "log_level": 0})
    at = confluent_kafka.TopicPartition(topic, 0)
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    found = admin.list_offsets({at: OffsetSpec.latest()}, isolation_level=level)
    return int(found[at].result(PATIENCE_S).offset)


@pytest.mark.parametrize("reader", NAMES)
@pytest.mark.parametrize("writer", NAMES)
def test_scenarios_31_and_35_each_reads_what_each_has_committed(
    bootstrap: str, topic: str, start: Start, writer: str, reader: str
) -> None:
    producer = start(writer, topic)
    for number, commit in enumerate((False, True, False, True, True, False)):
        producer.write(topic, b"%d" % number, b"%d again" % number, commit=commit)
    producer.write(topic, b"end", commit=True)
    wanted = [b"1", b"1 again", b"3", b"3 again", b"4", b"4 again", b"end"]
    assert read(reader, bootstrap, topic, last=b"end") == wanted
    assert len(read(reader, bootstrap, topic, committed=False, last=b"end")) == 13


@pytest.mark.parametrize("name", NAMES)
def test_scenario_1_the_next_producer_fences_the_one_before(
    bootstrap: str, topic: str, start: Start, name: str
) -> None:
    first = start(name, topic)
    first.begin()
    first.send(topic, b"zombie")
    second = start(name, topic)
    second.write(topic, b"second", commit=True)
    with pytest.raises(Exception, match=r"(?i)fenced|epoch"):
        first.commit()
    second.write(topic, b"end", commit=True)
    assert read("confluent-kafka", bootstrap, topic, last=b"end") == [b"second", b"end"]


@pytest.mark.parametrize("name", NAMES)
def test_scenario_13_a_transaction_that_is_open_for_too_long_is_aborted(
    bootstrap: str, topic: str, start: Start, name: str
) -> None:
    silent = start(name, topic, timeout_ms=1000)
    silent.begin()
    silent.send(topic, b"too late")
    until("it is aborted", lambda: end_offset(bootstrap, topic, committed=True) == 2)
    with pytest.raises(Exception, match=r"(?i)fenced|epoch"):
        silent.commit()
    start(name, topic).write(topic, b"end", commit=True)
    assert read(name, bootstrap, topic, last=b"end") == [b"end"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_commit", [True, False])
def test_scenario_41_offsets_are_committed_with_the_transaction(
    bootstrap: str, topic: str, start: Start, name: str, is_commit: bool
) -> None:
    group = f"group of {topic}"
    consumer = confluent_kafka.Consumer({**secured.librdkafka(bootstrap), "group.id": group})
    at = confluent_kafka.TopicPartition(topic, 0)
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, 3)], asynchronous=False)
    producer = start(name, topic)
    producer.begin()
    producer.send(topic, b"x")
    producer.send_offset(topic, 7, group)
    with pytest.raises(confluent_kafka.KafkaException):  # it asks for stable ones, and again
        consumer.committed([at], timeout=1)
    if is_commit:
        producer.commit()
    else:
        producer.abort()
    assert consumer.committed([at], timeout=PATIENCE_S)[0].offset == (7 if is_commit else 3)
    consumer.close()


def test_scenario_37_a_reader_that_waits_wakes_with_the_commit(
    bootstrap: str, topic: str, start: Start
) -> None:
    producer = start("confluent-kafka", topic)
    producer.begin()
    producer.send(topic, b"x")
    consumer = confluent_kafka.Consumer(
        {
            **secured.librdkafka(bootstrap),
            "group.id": topic,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20_000,
        }
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    assert consumer.poll(2) is None
    committed: list[float] = []

    def commit() -> None:
        committed.append(time.monotonic())
        producer.commit()

    timer = threading.Timer(1, commit)
    timer.start()
    message = consumer.poll(PATIENCE_S)
    assert message is not None and message.value() == b"x"
    assert 0 <= time.monotonic() - committed[0] < 10, "it did not wait for its fetch to end"
    timer.join()
    consumer.close()


def test_scenario_38_where_the_log_ends(bootstrap: str, topic: str, start: Start) -> None:
    producer = start("confluent-kafka", topic)
    producer.write(topic, b"a", commit=True)
    producer.begin()
    producer.send(topic, b"b")
    assert end_offset(bootstrap, topic, committed=True) == 2
    assert end_offset(bootstrap, topic, committed=False) == 3
    producer.abort()
    until("it is stable", lambda: end_offset(bootstrap, topic, committed=True) == 4)


@pytest.mark.parametrize("reader", NAMES)
def test_scenario_36_a_reader_gets_past_what_was_aborted(
    bootstrap: str, topic: str, start: Start, reader: str
) -> None:
    producer = start("confluent-kafka", topic)
    producer.begin()
    for _ in range(60):
        producer.send(topic, bytes(500_000))
    producer.abort()
    producer.write(topic, b"end", commit=True)
    assert read(reader, bootstrap, topic, last=b"end") == [b"end"]


@pytest.mark.parametrize("name", NAMES)
def test_transactions_over_several_partitions(bootstrap: str, topic: str, start: Start, name: str) -> None:
    producer = start(name, topic)
    for number in range(3):
        producer.begin()
        producer.send(topic, b"%d" % number, 0)
        producer.send(topic, b"%d" % number, 1)
        producer.commit()
    assert read(name, bootstrap, topic, last=b"2") == [b"0", b"1", b"2"]
