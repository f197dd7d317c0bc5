"""`python -m tests.exactly_once.workers CLIENT BOOTSTRAP INPUT OUTPUT ID`: one process is one worker.

A worker reads records, writes them, and commits both. A worker ends at the first error of any kind. The
test starts the worker again with the same transactional id, and the coordinator ends the open transaction.
So the worker has to be right about what belongs into a transaction, and not about errors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

SESSION_MS: Final = 6_000
AT_ONCE: Final = 20
POLL_S: Final = 0.5
PATIENCE_S: Final = 30.0
JOIN_S: Final = 5.0
"""For which kafka-python polls: what answers its join later than that would be forgotten."""


def confluent(bootstrap: str, source: str, sink: str, name: str) -> None:
    from confluent_kafka import Consumer, Producer, TopicPartition

    common = {"bootstrap.servers": bootstrap, "log_level": 0}
    consumer = Consumer(
        {
            **common,
            "group.id": f"of-{source}",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": SESSION_MS,
        }
    )
    producer = Producer({**common, "transactional.id": name, "linger.ms": 0})
    producer.init_transactions(PATIENCE_S)

    def ends(*_: object) -> None:
        """Its partitions are another's."""
        os._exit(1)  # an exception would have to pass through librdkafka

    consumer.subscribe([source], on_revoke=ends, on_lost=ends)
    while True:
        messages = [one for one in consumer.consume(AT_ONCE, POLL_S) if one.error() is None]
        if not messages:
            continue
        producer.begin_transaction()
        for one in messages:
            producer.produce(sink, one.value(), partition=one.partition())
        reached = {one.partition(): one.offset() + 1 for one in messages}
        places = [TopicPartition(source, partition, end) for partition, end in reached.items()]
        producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), PATIENCE_S)
        producer.commit_transaction(PATIENCE_S)


def kafka_python(bootstrap: str, source: str, sink: str, name: str) -> None:
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.structs import OffsetAndMetadata

    servers = bootstrap.split(",")
    consumer = KafkaConsumer(
        source,
        bootstrap_servers=servers,
        group_id=f"of-{source}",
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=SESSION_MS // 6,
        max_poll_records=AT_ONCE,
    )
    producer = KafkaProducer(bootstrap_servers=servers, transactional_id=name, linger_ms=0)
    producer.init_transactions()
    while True:
        polled = consumer.poll(JOIN_S * 1000)
        if not polled:
            continue
        producer.begin_transaction()
        for place, records in polled.items():
            for one in records:
                producer.send(sink, one.value, partition=place.partition)
        reached = {
            place: OffsetAndMetadata(records[-1].offset + 1, "", -1) for place, records in polled.items()
        }
        producer.send_offsets_to_transaction(reached, consumer.group_metadata())
        producer.commit_transaction()


def trio_client(bootstrap: str, source: str, sink: str, name: str) -> None:
    import trio

    import raftlog

    async def work() -> None:
        async with (
            raftlog.open_client(bootstrap) as client,
            client.consumer(
                source,
                group=f"of-{source}",
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                isolation_level="read_committed",
                session_timeout_ms=SESSION_MS,
            ) as consumer,
            client.producer(transactional_id=name) as producer,
        ):
            async for batch in raftlog.exactly_once(consumer, producer):
                async with batch as records:
                    for one in records:
                        await producer.send_soon(sink, one.value, partition=one.partition)

    trio.run(work)


CLIENTS: Final[dict[str, Callable[[str, str, str, str], None]]] = {
    "confluent-kafka": confluent,
    "kafka-python": kafka_python,
    "raftlog": trio_client,
}

if __name__ == "__main__":
    CLIENTS[sys.argv[1]](*sys.argv[2:])
