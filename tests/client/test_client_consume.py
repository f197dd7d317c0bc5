"""Consuming: every record once and in order, from where one says."""

from __future__ import annotations

import time

import pytest
import trio

import raftlog
from raftlog import Client, Consumer, Record, TopicPartition
from tests import secured
from tests.client.conftest import Name

T0 = int(time.time()) * 1000 - 3_600_000
"""The timestamp of record 0, in milliseconds; a second later for each record. Recent: retention is real."""


async def fill(
    client: Client, topic: str, count: int, *, partition: int | None = None, first: int = 0
) -> None:
    async with client.producer(batch_size=2000) as producer:
        for i in range(first, first + count):
            await producer.send_soon(topic, b"%d" % i, partition=partition, timestamp_ms=T0 + 1000 * i)


async def take(consumer: Consumer, count: int) -> list[Record]:
    records = []
    with trio.fail_after(20):
        async for record in consumer:
            records.append(record)
            if len(records) == count:
                break
    return records


def numbers(records: list[Record]) -> list[int]:
    return [int(record.value) for record in records]


async def test_from_the_beginning(client: Client, topic: str) -> None:
    await fill(client, topic, 1000)
    async with client.consumer(topic, auto_offset_reset="earliest") as consumer:
        records = await take(consumer, 1000)
        assert numbers(records) == [record.offset for record in records] == list(range(1000))
        assert consumer.positions() == {TopicPartition(topic, 0): 1000}
        assert consumer.lag() == {TopicPartition(topic, 0): 0}
        assert repr(consumer) == f"<Consumer (no group) open assigned=[{topic}-0]>"


async def test_from_the_end(client: Client, topic: str) -> None:
    await fill(client, topic, 10)
    async with client.consumer(topic) as consumer:
        assert await consumer.poll(max_wait_ms=10) == []
        with trio.fail_after(10):
            while not consumer.assignment:
                await consumer.poll(max_wait_ms=10)
        assert await consumer.position(topic, 0) == 10
        await fill(client, topic, 5, first=10)
        assert numbers(await take(consumer, 5)) == [10, 11, 12, 13, 14]


async def test_records_that_come_while_waiting(client: Client, topic: str) -> None:
    got: list[int] = []

    async def consume() -> None:
        async with client.consumer(topic, auto_offset_reset="earliest") as consumer:
            got.extend(numbers(await take(consumer, 20)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        async with client.producer() as producer:
            for i in range(20):
                await producer.send(topic, b"%d" % i)
                await trio.sleep(0.01)
    assert got == list(range(20))


async def test_all_partitions_in_their_own_order(client: Client, wide_topic: str) -> None:
    for partition in range(4):
        await fill(client, wide_topic, 100, partition=partition)
    async with client.consumer(wide_topic, auto_offset_reset="earliest") as consumer:
        records = await take(consumer, 400)
    for partition in range(4):
        assert numbers([r for r in records if r.partition == partition]) == list(range(100))


async def test_manual_assignment_and_seek(client: Client, wide_topic: str) -> None:
    await fill(client, wide_topic, 50, partition=2)
    key = TopicPartition(wide_topic, 2)
    async with client.consumer(partitions=[key], auto_offset_reset="earliest") as consumer:
        assert numbers(await take(consumer, 10)) == list(range(10))
        consumer.seek(wide_topic, 2, 30)
        assert numbers(await take(consumer, 5)) == [30, 31, 32, 33, 34]
        assert await consumer.position(wide_topic, 2) == 35
        consumer.seek_to_beginning()
        assert numbers(await take(consumer, 3)) == [0, 1, 2]
        consumer.seek_to_end(key)
        assert await consumer.position(wide_topic, 2) == 50
        consumer.seek_to_time(T0 + 19_500, key)
        assert numbers(await take(consumer, 2)) == [20, 21]
        with pytest.raises(KeyError):
            consumer.seek(wide_topic, 0, 0)
        consumer.assign((wide_topic, 3))
        assert consumer.assignment == {TopicPartition(wide_topic, 3)}


async def test_offsets_of_a_topic(client: Client, topic: str) -> None:
    await fill(client, topic, 20)
    key = TopicPartition(topic, 0)
    async with client.consumer(partitions=[key]) as consumer:
        assert await consumer.beginning_offsets() == {key: 0}
        assert await consumer.end_offsets() == {key: 20}
        assert await consumer.offsets_for_times({key: T0 + 4_001}) == {key: (5, T0 + 5_000)}
        assert await consumer.offsets_for_times({key: 10**15}) == {key: None}


async def test_pause_and_resume(client: Client, wide_topic: str) -> None:
    for partition in (0, 1):
        await fill(client, wide_topic, 100, partition=partition)
    one, two = TopicPartition(wide_topic, 0), TopicPartition(wide_topic, 1)
    async with client.consumer(partitions=[one, two], auto_offset_reset="earliest") as consumer:
        first = await take(consumer, 1)
        consumer.pause(one)
        assert consumer.paused == {one}
        rest = await take(consumer, 100 - (first[0].partition == 1))
        assert {record.partition for record in rest} == {1}
        assert await consumer.poll(max_wait_ms=100) == []
        consumer.resume(one)
        rest = await take(consumer, 100 - (first[0].partition == 0))
        assert {record.partition for record in rest} == {0}


async def test_poll_and_batches(client: Client, topic: str) -> None:
    await fill(client, topic, 250)
    async with client.consumer(topic, auto_offset_reset="earliest", max_poll_records=100) as consumer:
        with trio.fail_after(10):
            first = await consumer.poll(30, max_wait_ms=5000)
        assert numbers(first) == list(range(30))
        sizes, seen = [], 30
        async for batch in consumer.batches(max_wait_ms=300):
            assert numbers(batch) == list(range(seen, seen + len(batch)))
            seen += len(batch)
            sizes.append(len(batch))
            if seen == 250:
                break
        assert sizes == [100, 100, 20]
        with trio.fail_after(5):
            assert await consumer.poll(max_wait_ms=50) == []


async def test_deserializers(client: Client, topic: str) -> None:
    await fill(client, topic, 3)
    async with client.consumer(topic, auto_offset_reset="earliest", value_deserializer=int) as consumer:
        assert [record.value for record in await take(consumer, 3)] == [0, 1, 2]


async def test_a_deserializer_that_fails_does_not_lose_the_place(client: Client, topic: str) -> None:
    await fill(client, topic, 3)
    broken = True

    def decode(data: bytes) -> int:
        if broken:
            raise ValueError("no")
        return int(data)

    async with client.consumer(topic, auto_offset_reset="earliest", value_deserializer=decode) as consumer:
        for _ in range(2):
            with pytest.raises(raftlog.DeserializationError, match="no"):
                await take(consumer, 1)
        broken = False
        assert [record.value for record in await take(consumer, 3)] == [0, 1, 2]


async def test_a_large_record_in_small_fetches(client: Client, topic: str) -> None:
    async with client.producer() as producer:
        await producer.send(topic, b"x" * 500_000)
        await producer.send(topic, b"y")
    async with client.consumer(
        topic, auto_offset_reset="earliest", max_partition_fetch_bytes=1000, prefetch_max_bytes=1000
    ) as consumer:
        first, second = await take(consumer, 2)
    assert (len(first.value), second.value) == (500_000, b"y")


async def test_prefetching_is_bounded(client: Client, topic: str) -> None:
    async with client.producer() as producer:
        for _ in range(300):
            await producer.send_soon(topic, b"x" * 10_000)
    async with client.consumer(
        topic, auto_offset_reset="earliest", max_partition_fetch_bytes=100_000, prefetch_max_bytes=300_000
    ) as consumer:
        await take(consumer, 1)
        await trio.sleep(0.3)
        assert consumer.statistics().buffered_bytes < 600_000
        assert len(await take(consumer, 299)) == 299


async def test_no_offset_and_no_policy(client: Client, topic: str) -> None:
    await fill(client, topic, 3)
    async with client.consumer(topic, auto_offset_reset="none") as consumer:
        with pytest.raises(raftlog.NoOffset), trio.fail_after(10):
            await anext(consumer)
        consumer.seek(topic, 0, 1)
        assert numbers(await take(consumer, 2)) == [1, 2]


async def test_an_offset_out_of_range(client: Client, topic: str) -> None:
    await fill(client, topic, 3)
    async with client.consumer(topic, auto_offset_reset="earliest") as consumer:
        await take(consumer, 1)
        consumer.seek(topic, 0, 1_000_000)
        assert numbers(await take(consumer, 3)) == [0, 1, 2]
    async with client.consumer(partitions=[(topic, 0)], auto_offset_reset="none") as consumer:
        consumer.seek(topic, 0, 1_000_000)
        with pytest.raises(raftlog.NoOffset), trio.fail_after(10):
            await anext(consumer)


async def test_a_pattern_finds_topics_that_come_later(client: Client, bootstrap: str, name: Name) -> None:
    prefix = name("pat")
    await client.admin.create_topic(f"{prefix}.one", partitions=1)
    await fill(client, f"{prefix}.one", 1)
    async with (
        secured.open_client(bootstrap, metadata_max_age_ms=200) as watcher,
        watcher.consumer(pattern=rf"{prefix}\..*", auto_offset_reset="earliest") as consumer,
    ):
        assert [r.topic for r in await take(consumer, 1)] == [f"{prefix}.one"]
        await client.admin.create_topic(f"{prefix}.two", partitions=1)
        await fill(client, f"{prefix}.two", 1)
        assert [r.topic for r in await take(consumer, 1)] == [f"{prefix}.two"]


async def test_partitions_that_come_later_are_read(client: Client, bootstrap: str, topic: str) -> None:
    await fill(client, topic, 1)
    async with (
        secured.open_client(bootstrap, metadata_max_age_ms=200) as watcher,
        watcher.consumer(topic, auto_offset_reset="earliest") as consumer,
    ):
        await take(consumer, 1)
        await client.admin.create_partitions(topic, 2)
        await fill(client, topic, 1, partition=1)
        assert (await take(consumer, 1))[0].partition == 1


async def test_records_that_were_deleted_are_skipped(client: Client, topic: str) -> None:
    await fill(client, topic, 20)
    assert await client.admin.delete_records({TopicPartition(topic, 0): 15}) == {TopicPartition(topic, 0): 15}
    async with client.consumer(topic, auto_offset_reset="earliest") as consumer:
        assert numbers(await take(consumer, 5)) == [15, 16, 17, 18, 19]


async def test_two_tasks_may_not_wait_for_the_same_records(client: Client, topic: str) -> None:
    async with client.consumer(topic) as consumer, trio.open_nursery() as nursery:
        nursery.start_soon(consumer.poll)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await consumer.poll()
        nursery.cancel_scope.cancel()


async def test_a_closed_consumer_says_so(client: Client, topic: str) -> None:
    async with client.consumer(topic) as consumer:
        pass
    with pytest.raises(raftlog.Closed):
        await consumer.poll()
    with pytest.raises(raftlog.Closed):
        await anext(consumer)
