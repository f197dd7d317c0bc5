"""How fast the client is beside aiokafka and kafka-python, on one broker, one partition.

    python -m tests.client.rates localhost:9092

Produces and consumes records of 100 B and 1 kB with each client in turn, several rounds, and prints the
records a second and the CPU time a record of the client's process: the latter is what a busy machine
disturbs least. All of them acks=all, idempotent, batches of 128 KiB. All read the same topic: "consume" takes
one record after the other, "batches" lists of up to 500.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import trio

import raftlog

BATCH_BYTES = 128 * 1024


class Rate(NamedTuple):
    """Records a second, and microseconds of CPU a record."""

    per_second: float
    cpu_us: float


class Watch:
    """Measures from its making until `rate`."""

    def __init__(self) -> None:
        self._at, self._cpu = time.perf_counter(), _cpu()

    def rate(self, records: int) -> Rate:
        elapsed, cpu = time.perf_counter() - self._at, _cpu() - self._cpu
        return Rate(records / elapsed, cpu / records * 1e6)


def _cpu() -> float:
    used = os.times()
    return used.user + used.system


async def raftlog_produce(servers: str, topic: str, value: bytes, count: int) -> Rate:
    async with raftlog.open_client(servers) as client:
        await client.admin.create_topic(topic, partitions=1, exist_ok=True)
        async with client.producer(batch_size=BATCH_BYTES) as producer:
            await producer.send(topic, value)
            watch = Watch()
            for _ in range(count):
                await producer.send_soon(topic, value)
            await producer.flush()
            return watch.rate(count)


@asynccontextmanager
async def raftlog_consumer(servers: str, topic: str) -> AsyncIterator[raftlog.Consumer]:
    """A consumer that has read the first record."""
    async with (
        raftlog.open_client(servers) as client,
        client.consumer(topic, auto_offset_reset="earliest") as consumer,
    ):
        await anext(consumer)
        yield consumer


async def raftlog_consume(servers: str, topic: str, count: int) -> Rate:
    async with raftlog_consumer(servers, topic) as consumer:
        watch, seen = Watch(), 0
        async for _ in consumer:
            seen += 1
            if seen == count:
                break
        return watch.rate(count)


async def raftlog_batches(servers: str, topic: str, count: int) -> Rate:
    async with raftlog_consumer(servers, topic) as consumer:
        watch, seen = Watch(), 0
        async for batch in consumer.batches():
            seen += len(batch)
            if seen >= count:
                break
        return watch.rate(seen)


async def aiokafka_produce(servers: str, topic: str, value: bytes, count: int) -> Rate:
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
    )
    await producer.start()
    await producer.send_and_wait(topic, value)
    watch = Watch()
    for _ in range(count):
        await producer.send(topic, value)
    await producer.flush()
    rate = watch.rate(count)
    await producer.stop()
    return rate


async def aiokafka_consumer(servers: str, topic: str) -> Any:
    """A consumer that has read the first record."""
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    await consumer.getone()
    return consumer


async def aiokafka_consume(servers: str, topic: str, count: int) -> Rate:
    consumer = await aiokafka_consumer(servers, topic)
    watch, seen = Watch(), 0
    async for _ in consumer:
        seen += 1
        if seen == count:
            break
    rate = watch.rate(count)
    await consumer.stop()
    return rate


async def aiokafka_batches(servers: str, topic: str, count: int) -> Rate:
    consumer = await aiokafka_consumer(servers, topic)
    watch, seen = Watch(), 0
    while seen < count:
        found = await consumer.getmany(timeout_ms=1000, max_records=500)
        seen += sum(map(len, found.values()))
    rate = watch.rate(seen)
    await consumer.stop()
    return rate


def kafka_python_produce(servers: str, topic: str, value: bytes, count: int) -> Rate:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=servers, acks="all", batch_size=BATCH_BYTES)
    producer.send(topic, value).get(30)
    watch = Watch()
    for _ in range(count):
        producer.send(topic, value)
    producer.flush()
    rate = watch.rate(count)
    producer.close()
    return rate


def kafka_python_consumer(servers: str, topic: str) -> Any:
    """A consumer that has read the first record."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        topic, bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    next(consumer)
    return consumer


def kafka_python_consume(servers: str, topic: str, count: int) -> Rate:
    consumer = kafka_python_consumer(servers, topic)
    watch = Watch()
    for seen, _ in enumerate(consumer, 1):
        if seen == count:
            break
    rate = watch.rate(count)
    consumer.close()
    return rate


def kafka_python_batches(servers: str, topic: str, count: int) -> Rate:
    consumer = kafka_python_consumer(servers, topic)
    watch, seen = Watch(), 0
    while seen < count:
        seen += sum(map(len, consumer.poll(timeout_ms=1000, max_records=500).values()))
    rate = watch.rate(seen)
    consumer.close()
    return rate


def measure(servers: str, size: int, count: int) -> dict[str, Rate]:
    """One round: every client writes, then every client reads."""
    topic, value = f"rates-{uuid.uuid4().hex[:8]}", b"x" * size
    runs: dict[str, Callable[[], Any]] = {
        "raftlog produce": lambda: trio.run(raftlog_produce, servers, topic, value, count),
        "aiokafka produce": lambda: asyncio.run(aiokafka_produce(servers, topic, value, count)),
        "kafka-python produce": lambda: kafka_python_produce(servers, topic, value, count),
        "raftlog consume": lambda: trio.run(raftlog_consume, servers, topic, count),
        "aiokafka consume": lambda: asyncio.run(aiokafka_consume(servers, topic, count)),
        "kafka-python consume": lambda: kafka_python_consume(servers, topic, count),
        "raftlog batches": lambda: trio.run(raftlog_batches, servers, topic, count),
        "aiokafka batches": lambda: asyncio.run(aiokafka_batches(servers, topic, count)),
        "kafka-python batches": lambda: kafka_python_batches(servers, topic, count),
    }
    return {name: run() for name, run in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.client.rates", description=__doc__)
    parser.add_argument("servers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of records")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    for size, count in ((100, 150_000), (1000, 40_000)):
        rounds = [
            measure(arguments.servers, size, int(count * arguments.scale)) for _ in range(arguments.rounds)
        ]
        print(f"{size} B, one partition, median of {arguments.rounds}")
        for name in rounds[0]:
            rates = [one[name] for one in rounds]
            ours = [one["raftlog " + name.split()[1]] for one in rounds]
            per_second = statistics.median(rate.per_second for rate in rates)
            cpu = statistics.median(rate.cpu_us for rate in rates)
            factor = statistics.median(a.per_second / b.per_second for a, b in zip(ours, rates, strict=True))
            print(
                f"  {name:22} {per_second:10,.0f}/s  {cpu:6.1f} us CPU   raftlog {factor:5.2f}x", flush=True
            )


if __name__ == "__main__":
    main()
