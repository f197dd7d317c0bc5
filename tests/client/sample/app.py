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
