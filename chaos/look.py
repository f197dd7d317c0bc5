"""A fresh look at what is in the brokers, through clients that share nothing with the load, and at the disks
once the brokers have ended."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from chaos.access import Access
from chaos.history import Committed, FinalRead, History, Outcome, Replica
from chaos.stage import Stage
from chaos.values import name_of

READ_TIMEOUT_S: Final = 60.0
RETRY_S: Final = 0.1
CHUNK: Final = 1 << 20
_ASK_AGAIN: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._TIMED_OUT,
)


def _consumer(access: Access, group: str, **more: object) -> Consumer:
    return Consumer(
        {
            **access.librdkafka(),
            "client.id": "look",
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
            "fetch.message.max.bytes": 8_000_000,
            "log_level": 0,
            **more,
        }
    )


def read_to_the_end(history: History, access: Access, topic: str, partitions: int, log: str = "") -> None:
    """Every partition from its first record to where it ends when this begins. What cannot be read is unknown
    in the history."""
    reads = [
        history.begin(FinalRead(client="look", log=log or topic, partition=partition))
        for partition in range(partitions)
    ]
    consumer = _consumer(access, "look")
    try:
        for read in reads:
            read.low, read.high = _bounds(consumer, topic, read.partition)
        _read(consumer, topic, {read.partition: read for read in reads})
    except KafkaException as error:
        for read in reads:
            history.end(read, Outcome.UNKNOWN, str(error))
    else:
        for read in reads:
            last = read.records[-1][0] + 1 if read.records else read.low
            is_whole = last >= read.high
            why = "" if is_whole else f"read up to {last} of {read.high} within {READ_TIMEOUT_S:.0f} s"
            history.end(read, Outcome.OK if is_whole else Outcome.UNKNOWN, why)
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
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), 10.0)
            return low, high
        except KafkaException as error:
            if error.args[0].code() not in _ASK_AGAIN or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


def _read(consumer: Consumer, topic: str, reads: dict[int, FinalRead]) -> None:
    unread = {partition for partition, read in reads.items() if read.high > read.low}
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
    deadline = time.monotonic() + READ_TIMEOUT_S
    while unread and time.monotonic() < deadline:
        for message in consumer.consume(10_000, 0.2):
            if (error := message.error()) is not None:
                if error.code() in _ASK_AGAIN or error.retriable():
                    continue
                raise KafkaException(error)
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            read = reads[partition]
            if offset < read.high:
                read.records.append((offset, name_of(message.value())))
            if offset + 1 >= read.high:
                unread.discard(partition)


def read_commits(history: History, access: Access, group: str, topic: str, partitions: int) -> list[int]:
    """The committed offsets of a group, also entered; -1 where there is none, or nobody said."""
    told = [
        history.begin(Committed(client="look", group=group, log=topic, partition=partition))
        for partition in range(partitions)
    ]
    consumer = _consumer(access, group)
    try:
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        for place, one in zip(consumer.committed(places, timeout=READ_TIMEOUT_S), told, strict=True):
            one.offset = max(-1, place.offset)
            history.end(one, Outcome.OK if place.error is None else Outcome.UNKNOWN, str(place.error or ""))
    except KafkaException as error:
        for one in told:
            history.end(one, Outcome.UNKNOWN, str(error))
    finally:
        consumer.close()
    return [one.offset if one.outcome is Outcome.OK else -1 for one in told]


def ends_of(access: Access, topic: str, partitions: int) -> list[int]:
    """Where each partition ends. Raises KafkaException."""
    consumer = _consumer(access, "look")
    try:
        return [_bounds(consumer, topic, partition)[1] for partition in range(partitions)]
    finally:
        consumer.close()


def read_committed(access: Access, topic: str, partitions: int) -> list[tuple[bytes, bytes]]:
    """Keys and values of all committed records, each partition in its order, up to the first transaction that
    is open. Raises KafkaException, also when that takes too long."""
    consumer = _consumer(access, "look", **{"enable.partition.eof": True})
    found: list[tuple[bytes, bytes]] = []
    unread, deadline = set(range(partitions)), time.monotonic() + READ_TIMEOUT_S
    try:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
        while unread:
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{topic} was not read to its end"))
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    key, value = message.key(), message.value()
                    assert isinstance(key, bytes) and isinstance(value, bytes)
                    found.append((key, value))
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition() or 0)
                elif error.code() not in _ASK_AGAIN and not error.retriable():
                    raise KafkaException(error)
    finally:
        consumer.close()
    return found


def look_at_disks(history: History, stage: Stage, topics: list[str]) -> None:
    """What brokers that have stopped hold: sound by `raftlog log verify`, and a digest of every partition.
    Segments hold committed batches only, as the leader stamped them: the same bytes on every replica."""
    for broker in stage.brokers.values():
        wrong = stage.findings(broker.data_dir)
        for topic in topics:
            for partition, paths in _segments(broker.data_dir, topic).items():
                replica = Replica(client="look", broker=broker.node_id, log=topic, partition=partition)
                history.begin(replica)
                replica.digest, replica.bytes = _digest(paths)
                history.end(replica, Outcome.FAILED if wrong else Outcome.OK, "; ".join(wrong))


def _digest(paths: list[Path]) -> tuple[str, int]:
    """Of everything in a partition's segments, wherever a segment ends."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
    return digest.hexdigest(), size


def _segments(data_dir: Path, topic: str) -> dict[int, list[Path]]:
    """The segment files of every partition, oldest first."""
    found = {}
    for folder in data_dir.glob(f"{topic}-*"):
        number = folder.name.removeprefix(f"{topic}-").partition(".")[0]
        if number.isdigit():
            found[int(number)] = sorted(folder.glob("*.log"))
    return found


def sizes(data_dir: Path, topic: str) -> dict[int, int]:
    """Bytes in the segments of every partition of a topic that a broker keeps."""
    return {
        partition: sum(path.stat().st_size for path in paths)
        for partition, paths in _segments(data_dir, topic).items()
    }
