"""Transactions, against any broker of Kafka's protocol: all of it is read, or nothing, and by whom."""

from __future__ import annotations

from typing import Literal

import pytest
import trio

import raftlog
from raftlog import Client, CommittedOffset, TopicPartition
from tests.client.conftest import Name

pytestmark = pytest.mark.slow


async def read(
    client: Client, topic: str, count: int, isolation: Literal["read_committed", "read_uncommitted"]
) -> list[bytes]:
    """The first records of a topic."""
    values: list[bytes] = []
    async with client.consumer(topic, auto_offset_reset="earliest", isolation_level=isolation) as consumer:
        with trio.fail_after(30):
            while len(values) < count:
                values += [record.value for record in await consumer.poll(max_wait_ms=50)]
    return values


async def all_committed(client: Client, topic: str) -> list[bytes]:
    """What a read_committed consumer reads up to its end."""
    values: list[bytes] = []
    async with client.consumer(
        topic, auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        with trio.fail_after(30):
            ends: dict[TopicPartition, int] = {}
            while not ends:
                values += [record.value for record in await consumer.poll(max_wait_ms=50)]
                ends = await consumer.end_offsets()
            while any(consumer.positions().get(key, 0) < end for key, end in ends.items()):
                values += [record.value for record in await consumer.poll(max_wait_ms=50)]
    return values


async def test_a_transaction_is_read_all_together(
    client: Client, topic: str, wide_topic: str, name: Name
) -> None:
    async with client.producer(transactional_id=name("tx")) as producer:
        async with producer.transaction() as transaction:
            for number in range(20):
                await producer.send_soon(wide_topic, b"%d" % number, partition=number % 4)
            await producer.send(topic, b"sum")
            assert transaction.outcome == "open"
        assert transaction.outcome == "committed"
    assert sorted(await read(client, wide_topic, 20, "read_committed")) == sorted(
        b"%d" % n for n in range(20)
    )
    assert await read(client, topic, 1, "read_committed") == [b"sum"]


async def test_what_is_aborted_is_never_read(client: Client, topic: str, name: Name) -> None:
    async with client.producer(transactional_id=name("tx")) as producer:
        for number in range(6):
            try:
                async with producer.transaction() as transaction:
                    for part in range(3):
                        await producer.send(topic, b"%d.%d" % (number, part))
                    if number % 2:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                assert transaction.outcome == "aborted"
    wanted = [b"%d.%d" % (number, part) for number in (0, 2, 4) for part in range(3)]
    assert await all_committed(client, topic) == wanted
    assert len(await read(client, topic, 18, "read_uncommitted")) == 18


async def test_an_open_transaction_holds_the_end_for_committed_readers(
    client: Client, topic: str, name: Name
) -> None:
    key = TopicPartition(topic, 0)
    async with (
        client.producer() as plain,
        client.producer(transactional_id=name("tx")) as producer,
        client.consumer(topic, auto_offset_reset="earliest", isolation_level="read_committed") as reader,
        client.consumer(topic, auto_offset_reset="earliest") as hasty,
    ):
        await plain.send(topic, b"before")
        async with producer.transaction():
            await producer.send(topic, b"inside")
            await plain.send(topic, b"after")
            assert (await reader.end_offsets(key), await hasty.end_offsets(key)) == ({key: 1}, {key: 3})
            with trio.fail_after(20):
                assert (await anext(aiter(reader))).value == b"before"
            assert await reader.poll(max_wait_ms=300) == []
            assert reader.lag() == {key: 0}
        with trio.fail_after(20):
            values = [(await anext(aiter(reader))).value for _ in range(2)]
            while reader.positions()[key] < 4:  # behind the marker, which nobody is given
                await reader.poll(max_wait_ms=50)
        assert values == [b"inside", b"after"]
        assert await reader.end_offsets(key) == {key: 4}


async def test_a_cancelled_transaction_is_aborted_and_the_next_works(
    client: Client, topic: str, name: Name
) -> None:
    async with client.producer(transactional_id=name("tx")) as producer:
        with trio.CancelScope() as scope:
            async with producer.transaction() as transaction:
                await producer.send(topic, b"lost")
                await producer.send_soon(topic, b"perhaps never sent")
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught and transaction.outcome == "aborted"
        async with producer.transaction():
            await producer.send(topic, b"kept")
    assert await all_committed(client, topic) == [b"kept"]


async def test_a_record_that_is_refused_ends_its_transaction_alone(
    client: Client, topic: str, name: Name
) -> None:
    small = name("small")
    await client.admin.create_topic(small, partitions=1, configs={"max.message.bytes": "1000"})
    async with client.producer(transactional_id=name("tx")) as producer:
        with pytest.raises(raftlog.TransactionAborted, match="MESSAGE_TOO_LARGE"):
            async with producer.transaction() as transaction:
                await producer.send(topic, b"beside")
                delivery = await producer.send_soon(small, b"x" * 5000)
                with pytest.raises(raftlog.DeliveryError):
                    await delivery
        assert transaction.outcome == "aborted"
        for number in range(3):
            async with producer.transaction():
                await producer.send(topic, b"%d" % number)
                await producer.send(small, b"%d" % number)
    assert await all_committed(client, topic) == [b"0", b"1", b"2"]
    assert await all_committed(client, small) == [b"0", b"1", b"2"]


async def test_the_newer_producer_of_an_id_fences_the_older(client: Client, topic: str, name: Name) -> None:
    tx = name("tx")
    async with client.producer(transactional_id=tx) as older:
        with pytest.raises(raftlog.ProducerFenced, match="another producer with this id has begun"):
            async with older.transaction():
                await older.send(topic, b"of the older")
                async with client.producer(transactional_id=tx) as newer, newer.transaction():
                    await newer.send(topic, b"of the newer")
        with pytest.raises(raftlog.ProducerFenced):
            async with older.transaction():
                pass
    assert await all_committed(client, topic) == [b"of the newer"]


async def test_offsets_are_committed_with_the_records_or_not_at_all(
    client: Client, topic: str, name: Name
) -> None:
    group, key, target = name("group"), TopicPartition(topic, 0), name("target")
    await client.admin.create_topic(target, partitions=1)
    async with client.producer() as plain:
        for number in range(4):
            await plain.send(topic, b"%d" % number)
    async with (
        client.consumer(
            topic, group=group, auto_offset_reset="earliest", enable_auto_commit=False
        ) as consumer,
        client.producer(transactional_id=name("tx")) as producer,
    ):
        with trio.fail_after(30):
            while not (records := await consumer.poll(2)):
                pass
        metadata = consumer.group_metadata()
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction() as transaction:
                await producer.send(target, records[0].value)
                await transaction.send_offsets({key: 1}, metadata)
                raise ZeroDivisionError
        assert await consumer.committed(key) == {key: None}
        async with producer.transaction() as transaction:
            await producer.send(target, records[0].value)
            await transaction.send_offsets({key: CommittedOffset(1, metadata="done")}, metadata)
        assert await consumer.committed(key) == {key: CommittedOffset(1, -1, "done")}
    assert await all_committed(client, target) == [b"0"]


async def copy(
    client: Client, source: str, target: str, group: str, tx: str, *, fail: bool, stop: trio.Event
) -> None:
    """Consume, transform, produce until stopped; with failures of its own."""
    batches = 0
    async with (
        client.consumer(
            source, group=group, auto_offset_reset="earliest", enable_auto_commit=False,
            isolation_level="read_committed", session_timeout_ms=6000, heartbeat_interval_ms=200,
        ) as consumer,
        client.producer(transactional_id=tx) as producer,
    ):  # fmt: skip
        async for batch in raftlog.exactly_once(consumer, producer, max_records=7, max_wait_ms=100):
            batches += 1
            try:
                async with batch as records:
                    for record in records:
                        await producer.send_soon(target, record.value, key=record.value)
                    if fail and batches % 3 == 0:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            if stop.is_set():
                return


async def test_each_input_has_one_output_while_workers_come_and_go(
    client: Client, wide_topic: str, name: Name
) -> None:
    group, target, count = name("group"), name("target"), 400
    await client.admin.create_topic(target, partitions=2)
    async with client.producer() as plain:
        for number in range(count):
            await plain.send_soon(wide_topic, b"%d" % number, partition=number % 4)
    seen: list[bytes] = []
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        for worker in range(2):
            nursery.start_soon(
                lambda w=worker: copy(  # type: ignore[misc]
                    client, wide_topic, target, group, f"{group}-{w}", fail=True, stop=stop
                )
            )
        async with client.consumer(
            target, auto_offset_reset="earliest", isolation_level="read_committed"
        ) as reader:
            with trio.fail_after(90):
                while len(seen) < count // 2:
                    seen += [record.value for record in await reader.poll(max_wait_ms=50)]
                with trio.CancelScope() as scope:  # a worker that comes, and goes in the middle
                    async with trio.open_nursery() as visitor:
                        visitor.start_soon(
                            lambda: copy(
                                client, wide_topic, target, group, f"{group}-v", fail=False, stop=stop
                            )
                        )
                        await trio.sleep(1.5)
                        scope.cancel()
                while len(seen) < count:
                    seen += [record.value for record in await reader.poll(max_wait_ms=50)]
            seen += [record.value for record in await reader.poll(max_wait_ms=500)]
        nursery.cancel_scope.cancel()
    assert sorted(seen) == sorted(b"%d" % number for number in range(count))
