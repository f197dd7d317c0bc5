"""Scenarios of producing: what is sent comes back as it was."""

from __future__ import annotations

import time
from typing import Final

import pytest

from tests.compat.clients.base import Can, Message, Refused, sent_and_closed
from tests.compat.stage import Scenario, Stage, scenario
from tests.waiting import until

SCENARIOS: Final[list[Scenario]] = []
MEGABYTE: Final = 1_000_000
MESSAGE_TOO_LARGE: Final = 10


@scenario(SCENARIOS)
def keys_and_values(stage: Stage) -> None:
    topic = stage.topic()
    messages = [Message(f"value {n}".encode(), f"key {n % 3}".encode()) for n in range(10)]
    assert stage.produce(topic, *messages) == list(range(10))
    records = stage.read(topic, 10)
    assert [record.offset for record in records] == list(range(10))
    assert [(record.key, record.value) for record in records] == [(m.key, m.value) for m in messages]


@scenario(SCENARIOS)
def nulls(stage: Stage) -> None:
    topic = stage.topic()
    messages = [Message(b"no key"), Message(None, b"tombstone"), Message(b"value", b"key")]
    stage.produce(topic, *messages)
    assert [record.content for record in stage.read(topic, 3)] == [(m.key, m.value, ()) for m in messages]


@scenario(SCENARIOS)
def headers(stage: Stage) -> None:
    topic = stage.topic()
    names = (("trace", b"1"), ("trace", b"2"), ("ünï", "grüße".encode()))
    stage.produce(topic, Message(b"v", b"k", names))
    assert [record.headers for record in stage.read(topic, 1)] == [names]


@scenario(SCENARIOS, Can.MIXED_HEADERS)
def odd_headers(stage: Stage) -> None:
    topic = stage.topic()
    messages = [
        Message(b"0", headers=(("empty", b""), ("binary", bytes(range(256))))),
        Message(b"1", headers=tuple((f"h{n}", b"x" * n) for n in range(100))),
        Message(b"2", headers=()),
    ]
    stage.produce(topic, *messages)
    assert [record.headers for record in stage.read(topic, 3)] == [m.headers for m in messages]


@scenario(SCENARIOS, Can.NULL_HEADERS)
def null_header(stage: Stage) -> None:
    topic = stage.topic()
    stage.produce(topic, Message(b"v", headers=(("null", None), ("after", b"1"))))
    assert [record.headers for record in stage.read(topic, 1)] == [(("null", None), ("after", b"1"))]


@scenario(SCENARIOS, Can.SET_TIMESTAMPS)
def own_timestamps(stage: Stage) -> None:
    topic = stage.topic()
    now = int(time.time() * 1000)
    times = [now - 100_123, now - 100_001, now - 3_600_999]
    stage.produce(topic, *(Message(b"v", timestamp=at) for at in times), linger_ms=50)
    assert [record.timestamp for record in stage.read(topic, 3)] == times


@scenario(SCENARIOS)
def clock_timestamps(stage: Stage) -> None:
    topic = stage.topic()
    before = int(time.time() * 1000)
    stage.produce(topic, Message(b"v"))
    (record,) = stage.read(topic, 1)
    assert before <= record.timestamp <= int(time.time() * 1000)


@scenario(SCENARIOS, Can.SET_TIMESTAMPS)
def log_append_time(stage: Stage) -> None:
    topic = stage.topic(configs={"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    stage.produce(topic, Message(b"v", timestamp=1_000), codec="gzip")
    (record,) = stage.read(topic, 1)
    assert before <= record.timestamp <= int(time.time() * 1000)


@scenario(SCENARIOS, codec=("none", "gzip", "snappy", "lz4", "zstd"))
def codec(stage: Stage, codec: str) -> None:
    topic = stage.topic()
    messages = [Message(b"%d " % n * 100, b"key", (("codec", codec.encode()),)) for n in range(200)]
    assert sorted(stage.produce(topic, *messages, codec=codec, linger_ms=20)) == list(range(200))
    records = stage.read(topic, 200)
    assert [record.content for record in records] == [(m.key, m.value, m.headers) for m in messages]


@scenario(SCENARIOS, acks=("0", "1", "all"))
def acks(stage: Stage, acks: str) -> None:
    topic = stage.topic()
    values = [b"%d" % n for n in range(20)]
    offsets = stage.produce(topic, *map(Message, values), acks=acks)
    assert offsets == ([-1] * 20 if acks == "0" else list(range(20)))
    assert [record.value for record in stage.read(topic, 20)] == values


@scenario(SCENARIOS)
def a_megabyte(stage: Stage) -> None:
    topic = stage.topic()
    values = [letter * MEGABYTE for letter in (b"a", b"b", b"c")]
    assert stage.produce(topic, *map(Message, values)) == [0, 1, 2]
    records = stage.read(topic, 3)
    assert [record.value for record in records] == values


@scenario(SCENARIOS, Can.TOPICS)
def too_large(stage: Stage) -> None:
    """Not idempotent: for an idempotent producer the gap in its sequence is fatal."""
    topic = stage.topic()
    producer = stage.client.producer(idempotent=False)
    try:
        with pytest.raises(Refused) as refused:
            producer.send(topic, [Message(b"x" * 2 * MEGABYTE)])
        assert refused.value.code == MESSAGE_TOO_LARGE
        assert producer.send(topic, [Message(b"small")]) == [0]
    finally:
        producer.close()


@scenario(SCENARIOS, Can.IDEMPOTENCE, idempotent=(True, False))
def idempotence(stage: Stage, idempotent: bool) -> None:
    topic = stage.topic()
    values = [b"%d" % n for n in range(500)]
    assert sorted(stage.produce(topic, *map(Message, values), idempotent=idempotent)) == list(range(500))
    assert [record.value for record in stage.read(topic, 500)] == values


@scenario(SCENARIOS, Can.IDEMPOTENCE)
def a_topic_that_is_made_again(stage: Stage) -> None:
    """Under a producer that lives on: what it has sent before is of a topic that is no more."""
    topic = stage.topic()
    producer = stage.client.producer(idempotent=True)
    assert sorted(producer.send(topic, [Message(b"first life")] * 3)) == [0, 1, 2]
    stage.make_again(topic)
    assert sorted(producer.send(topic, [Message(b"second life")] * 3)) == [0, 1, 2]
    producer.close()
    assert [record.value for record in stage.read(topic, 3)] == [b"second life"] * 3


@scenario(SCENARIOS)
def three_partitions(stage: Stage) -> None:
    topic = stage.topic(partitions=3)
    producer = stage.client.producer()
    for number in range(30):
        sent = producer.send(topic, [Message(b"%d" % number, b"key", partition=number % 3)])
        assert sent == [number // 3]
    producer.close()
    for partition in range(3):
        values = [record.value for record in stage.read(topic, 10, partition)]
        assert values == [b"%d" % n for n in range(partition, 30, 3)]


@scenario(SCENARIOS)
def topic_of_first_use(stage: Stage) -> None:
    """auto.create.topics.enable is true by default, and hello-worlds rely on it."""
    topic = stage.name("auto")
    assert stage.produce(topic, Message(b"hello")) == [0]
    assert [record.value for record in stage.read(topic, 1)] == [b"hello"]


@scenario(SCENARIOS)
def many_producers(stage: Stage) -> None:
    """Producers one after another get ids and sequences of their own."""
    topic = stage.topic()
    for number in range(3):
        producer = stage.client.producer()
        assert sent_and_closed(producer, topic, [Message(b"a"), Message(b"b")]) == [
            2 * number,
            2 * number + 1,
        ]
    until("the log ends at 6", lambda: stage.client.log_bounds(topic, 0) == (0, 6))
