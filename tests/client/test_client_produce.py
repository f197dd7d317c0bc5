"""Producing: what is acknowledged is in the log, where and as it was said."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
import trio

import raftlog
from raftlog import Client, Record, TopicPartition
from raftlog.client.partitioner import murmur2_partition
from tests import secured
from tests.client.conftest import Name

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


async def read(client: Client, topic: str, count: int) -> list[Record]:
    """The first `count` records of a topic."""
    records: list[Record] = []
    async with client.consumer(topic, auto_offset_reset="earliest") as consumer:
        with trio.fail_after(20):
            async for record in consumer:
                records.append(record)
                if len(records) == count:
                    break
    return records


async def test_a_record_comes_back_as_it_was_sent(client: Client, topic: str) -> None:
    then = int(time.time() * 1000) - 12_345
    async with client.producer() as producer:
        sent = await producer.send(
            topic, b"value", key=b"key", headers={"one": b"1", "none": None}, timestamp_ms=then
        )
    assert sent == (topic, 0, 0, then)
    (record,) = await read(client, topic, 1)
    assert record == Record(
        topic=topic,
        partition=0,
        offset=0,
        timestamp=then,
        key=b"key",
        value=b"value",
        headers=(("one", b"1"), ("none", None)),
    )


async def test_null_and_empty_are_different(client: Client, topic: str) -> None:
    async with client.producer() as producer:
        await producer.send(topic, None, key=b"")
        await producer.send(topic, b"", key=None)
    first, second = await read(client, topic, 2)
    assert (first.key, first.value) == (b"", None)
    assert (second.key, second.value) == (None, b"")


async def test_the_timestamp_is_now_unless_given(client: Client, topic: str) -> None:
    before = int(time.time() * 1000)
    async with client.producer() as producer:
        sent = await producer.send(topic, b"x")
    assert before <= sent.timestamp <= int(time.time() * 1000)


@pytest.mark.parametrize("codec", CODECS)
async def test_every_codec(client: Client, topic: str, codec: raftlog.client.settings.Compression) -> None:
    values = [b"%d " % i * 50 for i in range(200)]
    async with client.producer(compression_type=codec) as producer:
        for value in values:
            await producer.send_soon(topic, value)
    assert [record.value for record in await read(client, topic, 200)] == values


async def test_order_is_kept_with_many_requests_under_way(client: Client, topic: str) -> None:
    async with client.producer(batch_size=500) as producer:
        deliveries = [await producer.send_soon(topic, b"%d" % i) for i in range(3000)]
        offsets = [(await delivery).offset for delivery in deliveries]
        assert producer.statistics().batches > 10
    assert offsets == list(range(3000))
    assert [int(record.value) for record in await read(client, topic, 3000)] == list(range(3000))


async def test_many_records_of_one_partition(client: Client, wide_topic: str) -> None:
    values = [(b"%d" % n, b"x" * 1000 if n % 7 else None, n) for n in range(3000)]
    async with client.producer(batch_size=16_384, buffer_memory=65_536) as producer:
        assert await producer.send_many_soon(wide_topic, 2, []) is None
        last = await producer.send_many_soon(wide_topic, 2, values)
        assert last is not None
        assert await last == (wide_topic, 2, 2999, 2999)
        with pytest.raises(raftlog.RecordTooLarge):
            await producer.send_many_soon(wide_topic, 2, [(b"k", b"x" * 2_000_000, 0)])
        with pytest.raises(ValueError):
            await producer.send_many_soon(wide_topic, 2, [(b"k", b"v", -1)])
        with pytest.raises(TypeError, match="key must be bytes"):
            await producer.send_many_soon(wide_topic, 2, [("k", b"v", 0)])  # type: ignore[list-item]
    records = await read(client, wide_topic, 3000)
    assert [(one.key, one.value, one.timestamp) for one in records] == values
    assert {one.partition for one in records} == {2}


async def test_keys_go_where_java_puts_them(client: Client, wide_topic: str) -> None:
    async with client.producer() as producer:
        for i in range(50):
            key = b"key-%d" % i
            sent = await producer.send(wide_topic, b"v", key=key)
            assert sent.partition == murmur2_partition(key, 4)


async def test_without_a_key_all_partitions_get_some(client: Client, wide_topic: str) -> None:
    async with client.producer(batch_size=1000) as producer:
        deliveries = [await producer.send_soon(wide_topic, b"x" * 100) for _ in range(400)]
        partitions = [(await delivery).partition for delivery in deliveries]
    assert set(partitions) == {0, 1, 2, 3}
    switches = sum(a != b for a, b in pairwise(partitions))
    assert switches < 100, "sticky, not round robin"


async def test_a_partitioner_of_the_user(client: Client, wide_topic: str) -> None:
    def last(topic: str, key: bytes | None, value: bytes | None, partitions: int) -> int:
        return partitions - 1

    async with client.producer(partitioner=last) as producer:
        assert (await producer.send(wide_topic, b"v", key=b"k")).partition == 3
        assert (await producer.send(wide_topic, b"v", partition=1)).partition == 1


async def test_serializers(client: Client, topic: str) -> None:
    async with client.producer(key_serializer=str.encode, value_serializer=lambda n: b"%d" % n) as producer:
        await producer.send(topic, 7, key="seven")
    (record,) = await read(client, topic, 1)
    assert (record.key, record.value) == (b"seven", b"7")


@pytest.mark.parametrize("acks", [0, 1, "all"])
async def test_acks(client: Client, topic: str, acks: raftlog.client.settings.Acks) -> None:
    async with client.producer(acks=acks, enable_idempotence=False) as producer:
        sent = await producer.send(topic, b"x")
    assert sent.offset == (-1 if acks == 0 else 0)
    assert len(await read(client, topic, 1)) == 1


async def test_linger_gathers_a_batch(client: Client, topic: str) -> None:
    async with client.producer(linger_ms=50) as producer:
        deliveries = []
        for i in range(20):
            deliveries.append(await producer.send_soon(topic, b"%d" % i))
            await trio.sleep(0.001)
        assert [(await d).offset for d in deliveries] == list(range(20))
        assert producer.statistics().requests <= 3


async def test_flush_does_not_linger(client: Client, topic: str) -> None:
    async with client.producer(linger_ms=60_000) as producer:
        delivery = await producer.send_soon(topic, b"x")
        with trio.fail_after(10):
            await producer.flush()
        assert delivery.done


async def test_a_full_buffer_makes_send_wait(client: Client, topic: str) -> None:
    async with client.producer(buffer_memory=20_000, batch_size=5_000) as producer:
        for _ in range(500):
            await producer.send_soon(topic, b"x" * 1000)
            assert producer.statistics().buffered_bytes < 26_500
    assert len(await read(client, topic, 500)) == 500


async def test_a_record_too_large_for_a_request(client: Client, topic: str) -> None:
    async with client.producer(max_request_size=1000) as producer:
        with pytest.raises(raftlog.RecordTooLarge):
            await producer.send(topic, b"x" * 2000)
        await producer.send(topic, b"x" * 500)


async def test_a_record_too_large_for_the_topic(client: Client, topic: str) -> None:
    await client.admin.alter_configs({"max.message.bytes": "5000"}, topic=topic)
    async with client.producer() as producer:
        with pytest.raises(raftlog.RecordTooLarge) as caught:
            await producer.send(topic, b"x" * 20_000)
        assert isinstance(caught.value, raftlog.DeliveryError)
        assert not caught.value.may_be_written
        assert (await producer.send(topic, b"small")).offset == 0, "the producer goes on after that"


async def test_a_batch_too_large_for_the_topic_is_split(client: Client, topic: str) -> None:
    await client.admin.alter_configs({"max.message.bytes": "5000"}, topic=topic)
    async with client.producer(linger_ms=50) as producer:
        deliveries = [await producer.send_soon(topic, b"%04d" % i + b"x" * 500) for i in range(40)]
        assert [(await delivery).offset for delivery in deliveries] == list(range(40))
    assert [int(record.value[:4]) for record in await read(client, topic, 40)] == list(range(40))


async def test_failures_nobody_awaits_are_raised_at_the_end(client: Client, topic: str) -> None:
    await client.admin.alter_configs({"max.message.bytes": "5000"}, topic=topic)
    with pytest.raises(raftlog.DeliveryError):
        async with client.producer() as producer:
            await producer.send_soon(topic, b"x" * 20_000)


async def test_an_error_in_the_body_comes_out_as_itself(client: Client, topic: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.producer() as producer:
            await producer.send_soon(topic, b"x")
            raise ZeroDivisionError


async def test_a_partition_that_does_not_exist(bootstrap: str, client: Client, topic: str) -> None:
    async with client.producer(max_block_ms=300) as producer:
        for partition in (-1, 1):
            with pytest.raises(raftlog.UnknownTopic):
                await producer.send(topic, b"x", partition=partition)


async def test_a_topic_that_does_not_exist(bootstrap: str, name: Name) -> None:
    async with (
        secured.open_client(bootstrap, allow_auto_create_topics=False) as client,
        client.producer(max_block_ms=500) as producer,
    ):
        with pytest.raises(raftlog.UnknownTopic), trio.fail_after(5):
            await producer.send("no-such-topic", b"x")
        with pytest.raises(raftlog.InvalidTopic):
            await producer.send("no such topic", b"x")


async def test_new_partitions_are_used(client: Client, topic: str) -> None:
    async with client.producer() as producer:
        await producer.send(topic, b"x")
        await client.admin.create_partitions(topic, 3)
        assert (await producer.send(topic, b"x", partition=2)).partition == 2


async def test_a_closed_producer_says_so(client: Client, topic: str) -> None:
    async with client.producer() as producer:
        await producer.send(topic, b"x")
    with pytest.raises(raftlog.Closed):
        await producer.send(topic, b"x")
    assert repr(producer) == "<Producer closed acks=all buffered=0>"


async def test_many_tasks_share_a_producer(client: Client, wide_topic: str) -> None:
    async def send(index: int) -> None:
        for i in range(20):
            await producer.send(wide_topic, b"%d" % (index * 20 + i), key=b"%d" % index)

    async with client.producer() as producer, trio.open_nursery() as nursery:
        for index in range(25):
            nursery.start_soon(send, index)
    records = await read(client, wide_topic, 500)
    assert sorted(int(record.value) for record in records) == list(range(500))
    for index in range(25):
        mine = [int(r.value) for r in records if r.key == b"%d" % index]
        assert mine == sorted(mine)


async def test_statistics_add_up(client: Client, topic: str) -> None:
    async with client.producer() as producer:
        for _ in range(10):
            await producer.send(topic, b"x")
        statistics = producer.statistics()
    assert (statistics.records, statistics.records_acknowledged, statistics.records_failed) == (10, 10, 0)
    assert statistics.buffered_bytes == statistics.requests_under_way == 0
    assert client.statistics().brokers >= 1
    assert await client.admin.end_offsets(topic) == {TopicPartition(topic, 0): 10}
