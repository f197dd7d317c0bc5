"""The fixtures with the clients that people use."""

from __future__ import annotations

import asyncio

from raftlog.testing import EmbeddedCluster

VALUES = [b"apple", b"pear", b"plum"]


def test_kafka_python(raftlog_broker: EmbeddedCluster, raftlog_topic: str) -> None:
    from kafka import KafkaConsumer, KafkaProducer

    producer = KafkaProducer(bootstrap_servers=raftlog_broker.bootstrap)
    for value in VALUES:
        producer.send(raftlog_topic, value).get(timeout=10)
    producer.close()
    consumer = KafkaConsumer(
        raftlog_topic, bootstrap_servers=raftlog_broker.bootstrap, auto_offset_reset="earliest"
    )
    assert [next(consumer).value for _ in VALUES] == VALUES
    consumer.close()


def test_confluent_kafka(raftlog_broker: EmbeddedCluster, raftlog_topic: str) -> None:
    from confluent_kafka import Consumer, Producer

    producer = Producer({"bootstrap.servers": raftlog_broker.bootstrap})
    for value in VALUES:
        producer.produce(raftlog_topic, value)
    assert producer.flush(10) == 0
    consumer = Consumer(
        {
            "bootstrap.servers": raftlog_broker.bootstrap,
            "group.id": raftlog_topic,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([raftlog_topic])
    assert [message.value() for message in consumer.consume(len(VALUES), 10)] == VALUES
    consumer.close()


def test_aiokafka(raftlog_broker: EmbeddedCluster, raftlog_topic: str) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    async def main() -> list[bytes]:
        async with AIOKafkaProducer(bootstrap_servers=raftlog_broker.bootstrap) as producer:
            for value in VALUES:
                await producer.send_and_wait(raftlog_topic, value)
        async with AIOKafkaConsumer(
            raftlog_topic, bootstrap_servers=raftlog_broker.bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            return [(await consumer.getone()).value for _ in VALUES]

    assert asyncio.run(asyncio.wait_for(main(), 20)) == VALUES


async def test_raftlogs_own(raftlog_broker: EmbeddedCluster, raftlog_topic: str) -> None:
    async with raftlog_broker.client() as client:
        async with client.producer() as producer:
            for value in VALUES:
                await producer.send(raftlog_topic, value)
        async with client.consumer(raftlog_topic, auto_offset_reset="earliest") as consumer:
            assert [(await anext(consumer)).value for _ in VALUES] == VALUES


def test_a_cluster_loses_its_leader_under_confluent_kafka(raftlog_cluster: EmbeddedCluster) -> None:
    from confluent_kafka import Producer

    raftlog_cluster.create_topic("orders")
    producer = Producer({"bootstrap.servers": raftlog_cluster.bootstrap, "enable.idempotence": True})
    offsets: list[int | None] = []
    for number in range(30):
        if number == 10:
            raftlog_cluster.faults.kill_leader("orders")
        producer.produce(
            "orders", b"%d" % number, callback=lambda _, message: offsets.append(message.offset())
        )
        if number % 5 == 0:
            assert producer.flush(20) == 0
    assert producer.flush(20) == 0
    assert offsets == list(range(30))
