"""A user's program: mypy --strict and pyright must find nothing to say about it (the suite runs mypy)."""

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
    print(record.topic, record.partition, record.offset, record.key, record.value.decode(), record.headers)


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
    async with raftlog.open_client("localhost:9092", client_id="app", request_timeout_ms=5000) as client:
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
                print(sum(len(one.value) for one in batch))
                break


if __name__ == "__main__":
    trio.run(main)
