"""Scenarios of consuming without a group: where to begin, where things are."""

from __future__ import annotations

import time
from typing import Final

from tests.compat.clients.base import Can, Message, Record
from tests.compat.stage import Scenario, Stage, read, scenario
from tests.waiting import until

SCENARIOS: Final[list[Scenario]] = []
HOUR_MS: Final = 3_600_000


def _numbered(count: int, first: int = 0) -> list[Message]:
    return [Message(b"%d" % n) for n in range(first, first + count)]


def _values(records: list[Record]) -> list[bytes | None]:
    return [record.value for record in records]


@scenario(SCENARIOS, Can.SEEK)
def seek(stage: Stage) -> None:
    """Also into the middle of a batch: the client gets the whole batch and drops its beginning."""
    topic = stage.topic()
    stage.produce(topic, *_numbered(100), linger_ms=50)
    with stage.consumer(topic, partition=0) as consumer:
        assert _values(read(consumer, 100)) == [m.value for m in _numbered(100)]
        for offset in (40, 0, 99, 73):
            consumer.seek(0, offset)
            records = read(consumer, 100 - offset)
            assert [record.offset for record in records] == list(range(offset, 100))
            assert _values(records) == [m.value for m in _numbered(100 - offset, offset)]
        assert consumer.position(0) == 100


@scenario(SCENARIOS)
def read_from_the_end(stage: Stage) -> None:
    """A consumer that starts at the end gets what comes after it began, and nothing older."""
    topic = stage.topic()
    stage.produce(topic, *_numbered(5))
    producer = stage.client.producer()
    with stage.consumer(topic, partition=0, start="latest") as consumer:
        # When a client has settled at the end differs, so write until something arrives.
        sent = 5
        records: list[Record] = []
        while not records:
            assert producer.send(topic, _numbered(1, sent)) == [sent]
            sent += 1
            assert sent < 200, "nothing arrives"
            records = consumer.poll(0.3)
        records += read(consumer, sent - 1 - records[-1].offset) if records[-1].offset < sent - 1 else []
        first = records[0].offset
        assert first >= 5
        assert _values(records) == [m.value for m in _numbered(sent - first, first)]
    producer.close()


@scenario(SCENARIOS)
def waiting_for_records(stage: Stage) -> None:
    """Fetches at the end of the log wait, and are woken by what is produced."""
    topic = stage.topic()
    producer = stage.client.producer()
    with stage.consumer(topic, partition=0) as consumer:
        for number in range(5):
            assert producer.send(topic, _numbered(1, number)) == [number]
            assert _values(read(consumer, 1)) == [b"%d" % number]
    producer.close()


@scenario(SCENARIOS, Can.SET_TIMESTAMPS)
def offsets_by_timestamp(stage: Stage) -> None:
    topic = stage.topic()
    base = _now_ms() - HOUR_MS  # retention.ms looks at these timestamps, too
    times = [base + 1_000 * n for n in range(20)]
    producer = stage.client.producer(codec="gzip", linger_ms=20)
    for half in (times[:10], times[10:]):
        producer.send(topic, [Message(b"v", timestamp=at) for at in half])
    producer.close()
    ask = stage.client.offset_for_time
    assert ask(topic, 0, base - 5) == 0
    assert ask(topic, 0, base + 3_000) == 3
    assert ask(topic, 0, base + 3_001) == 4
    assert ask(topic, 0, base + 12_999) == 13
    assert ask(topic, 0, base + 19_000) == 19
    # Later than everything: none, which librdkafka says as the end of the log.
    assert ask(topic, 0, base + 19_001) in (None, 20)


@scenario(SCENARIOS)
def offset_of_now(stage: Stage) -> None:
    """Offsets by timestamp for clients that cannot set one: the producer's clock gives it."""
    topic = stage.topic()
    stage.produce(topic, *_numbered(3))
    last = stage.read(topic, 3)[-1]
    until("the clock moves on", lambda: stage.read(topic, 3)[-1].timestamp < _now_ms())
    stage.produce(topic, *_numbered(3, 3))
    assert stage.client.offset_for_time(topic, 0, last.timestamp + 1) == 3
    assert stage.client.offset_for_time(topic, 0, 1) == 0


@scenario(SCENARIOS)
def log_bounds(stage: Stage) -> None:
    topic = stage.topic()
    assert stage.client.log_bounds(topic, 0) == (0, 0)
    stage.produce(topic, *_numbered(7))
    assert stage.client.log_bounds(topic, 0) == (0, 7)


@scenario(SCENARIOS, Can.SEEK)
def reset_when_out_of_range(stage: Stage) -> None:
    topic = stage.topic()
    stage.produce(topic, *_numbered(3))
    with stage.consumer(topic, partition=0, start="earliest") as consumer:
        read(consumer, 3)
        consumer.seek(0, 1_000)
        assert [record.offset for record in read(consumer, 3)] == [0, 1, 2]


@scenario(SCENARIOS)
def small_and_large(stage: Stage) -> None:
    """Records far larger than a fetch's usual share among small ones."""
    topic = stage.topic()
    values = [b"s", b"L" * 900_000, b"s", b"L" * 700_000, b"s"]
    producer = stage.client.producer()
    for value in values:
        producer.send(topic, [Message(value)])
    producer.close()
    assert _values(stage.read(topic, 5)) == values


def _now_ms() -> int:
    return int(time.time() * 1000)
