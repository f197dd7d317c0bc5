"""Bills every order once it was paid for."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftlog import Client, RecordMetadata, TopicPartition


@dataclass
class Ledger:
    """What each customer owes."""

    owed: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, customer: str, cents: int) -> None:
        self.owed[customer] = self.owed.get(customer, 0) + cents


async def order(client: Client, topic: str, customer: str, cents: int) -> RecordMetadata:
    async with client.producer() as producer:
        return await producer.send(topic, str(cents).encode(), key=customer.encode())


async def bill(client: Client, topic: str, ledger: Ledger, count: int) -> None:
    """Bill the next orders, and commit each."""
    async with client.consumer(topic, group="billing", auto_offset_reset="earliest") as consumer:
        async for record in consumer:
            ledger.add((record.key or b"").decode(), int(record.value or b"0"))
            await consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})
            count -= 1
            if count == 0:
                return
