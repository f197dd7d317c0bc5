"""A fresh look at what is in the broker, through a client that shares nothing with the load."""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from tests.crash.checker import PartitionLog

READ_TIMEOUT_S: Final = 60.0
RETRY_S: Final = 0.1
_ASK_AGAIN: Final = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._UNKNOWN_PARTITION)


class LookFailed(Exception):
    """The log could not be read to its end."""


def _consumer(bootstrap: str, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
            "fetch.message.max.bytes": 8_000_000,
            "log_level": 0,
        }
    )


def read_log(bootstrap: str, topic: str, partitions: int) -> dict[int, PartitionLog]:
    """Every partition from its first record to where it ends when this begins. Raises LookFailed."""
    consumer = _consumer(bootstrap, "look")
    try:
        bounds = {partition: _bounds(consumer, topic, partition) for partition in range(partitions)}
        records = _read(consumer, topic, {p: high for p, (low, high) in bounds.items() if high > low})
        return {p: PartitionLog(low, high, records.get(p, [])) for p, (low, high) in bounds.items()}
    except KafkaException as error:
        raise LookFailed(str(error)) from error
    finally:
        consumer.close()


def _bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Where a partition begins and ends. Leadership may move meanwhile, on a busy machine also where nobody
    struck; librdkafka asks again by itself for records, and leaves it to its user for this. It also says by
    itself, of no broker's answer, that it knows no such partition (confluent-kafka-python 1043, where it does
    so of Apache Kafka)."""
    deadline = time.monotonic() + READ_TIMEOUT_S
    while True:
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), READ_TIMEOUT_S)
            return low, high
        except KafkaException as error:
            if error.args[0].code() not in _ASK_AGAIN or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


def _read(consumer: Consumer, topic: str, ends: dict[int, int]) -> dict[int, list[tuple[int, bytes | None]]]:
    records: dict[int, list[tuple[int, bytes | None]]] = {partition: [] for partition in ends}
    unread = set(ends)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in ends])
    deadline = time.monotonic() + READ_TIMEOUT_S
    while unread:
        if time.monotonic() > deadline:
            got = {p: records[p][-1][0] if records[p] else None for p in unread}
            raise LookFailed(f"read up to {got} of {ends} within {READ_TIMEOUT_S} s")
        for message in consumer.consume(10_000, 0.2):
            if message.error() is not None:
                raise LookFailed(str(message.error()))
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            if offset < ends[partition]:
                records[partition].append((offset, message.value()))
            if offset + 1 >= ends[partition]:
                unread.discard(partition)
    return records


def read_commits(bootstrap: str, group: str, topic: str, partitions: int) -> dict[int, int]:
    """The committed offsets of a group; -1 where there is none. Raises LookFailed."""
    consumer = _consumer(bootstrap, group)
    try:
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        found = consumer.committed(places, timeout=READ_TIMEOUT_S)
        return {place.partition: max(-1, place.offset) for place in found}
    except KafkaException as error:
        raise LookFailed(str(error)) from error
    finally:
        consumer.close()
