"""A user's program: mypy --strict and pyright must find nothing to say about it (the suite runs mypy)."""

from typing import NamedTuple

import trio

import raftlog
from raftlog import Consumer, Producer, Record, RecordMetadata, TopicPartition


class Audit(raftlog.RebalanceListener):
    async def on_assigned(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> None:
        for topic, partition in partitions:
            print(topic, partition, await consumer.position(topic, partition))


def by_first_letter(topic: str, key: bytes | None, value: bytes | None, partitions: int) -> int:
    return (key or b"\0")[0] % partitions


async def order(producer: Producer, customer: str, what: str) -> RecordMetadata:
    return await producer.send("orders", what.encode(), key=customer.encode(), headers={"by": b"app"})


async def bill(record: Record) -> None:
    value = record.value.decode() if record.value is not None else "a tombstone"
    print(record.topic, record.partition, record.offset, record.key, value, record.headers)


class Order(NamedTuple):
    apples: int


def write_order(order: Order) -> bytes:
    return b"%d" % order.apples


def read_order(data: bytes) -> Order:
    return Order(int(data))


async def typed(client: raftlog.Client) -> None:
    async with client.producer(key_serializer=str.encode, value_serializer=write_order) as producer:
        await reorder(producer)
    async with client.producer(value_serializer=lambda value: repr(value).encode()) as anything:
        await anything.send("orders", 7, key=b"k")
    async with client.consumer(
        ["orders", "returns"], key_deserializer=bytes.decode, value_deserializer=read_order
    ) as consumer:
        print(await consumer.wait_assigned(timeout_ms=1000))
        async for record in consumer:
            if record.key is not None and record.value is not None:
                print(record.key.upper(), record.value.apples + 1)
        await last(consumer)


async def reorder(producer: Producer[str, Order]) -> None:
    await producer.send("orders", Order(apples=2), key="alice")


async def last(consumer: Consumer[str, Order]) -> Order | None:
    records: list[Record[str, Order]] = await consumer.poll(1)
    return records[-1].value


async def settle_accounts(client: raftlog.Client) -> None:
    async with (
        client.consumer(
            "orders", group="accounts", enable_auto_commit=False, isolation_level="read_committed"
        ) as consumer,
        client.producer(transactional_id="accounts-1", transaction_timeout_ms=30_000) as producer,
    ):
        async for batch in raftlog.exactly_once(consumer, producer, max_records=100):
            async with batch as records:
                for record in records:
                    await producer.send_soon("accounts", record.value, key=record.key)
            break
        await by_hand(producer, consumer.group_metadata())


async def by_hand(producer: Producer, metadata: raftlog.GroupMetadata) -> None:
    try:
        async with producer.transaction() as transaction:
            await producer.send("accounts", b"by hand")
            await transaction.send_offsets({TopicPartition("orders", 0): 7}, metadata)
        print(transaction.outcome.upper())
    except (raftlog.CommitUnknown, raftlog.TransactionAborted, raftlog.ProducerFenced) as error:
        print(error)


async def main() -> None:
    servers = ["localhost:9092", "localhost:9093"]
    async with raftlog.open_client(servers, client_id="app", request_timeout_ms=5000) as client:
        await client.ready(timeout_ms=5000)
        await typed(client)
        await client.admin.create_topic("orders", partitions=3, exist_ok=True)
        async with client.producer(
            compression_type="zstd", linger_ms=5, partitioner=by_first_letter
        ) as producer:
            sent = await order(producer, "alice", "one apple")
            print(sent.offset + 1)
            deliveries = [await producer.send_soon("orders", b"%d" % i) for i in range(10)]
            print(max([(await delivery).offset for delivery in deliveries]))
            try:
                await producer.send("orders", b"x" * 10_000_000)
            except raftlog.RecordTooLarge as error:
                print(error.code.name)
        async with client.consumer(
            "orders", group="billing", auto_offset_reset="earliest", listener=Audit()
        ) as consumer:
            async for record in consumer:
                await bill(record)
                await consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})
                if consumer.lag().get(TopicPartition(record.topic, record.partition)) == 0:
                    break
            async for batch in consumer.batches(100, max_wait_ms=200):
                print(sum(len(one.value or b"") for one in batch))
                break


if __name__ == "__main__":
    trio.run(main)
