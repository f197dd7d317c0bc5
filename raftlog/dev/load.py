"""A small load on a topic, and a count of what became of it: acknowledged, read, missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import trio

from raftlog.client.client import Client, open_client
from raftlog.client.errors import ClientError
from raftlog.client.metadata import TopicPartition
from raftlog.client.producer import Producer
from raftlog.http.messages import bad_request

RATE_MAX: Final = 500
CONSUMERS_MAX: Final = 5
UNDER_WAY_MAX: Final = 2000
"""Records without an answer yet: a cluster that is cut to pieces answers none."""
TICK_S: Final = 0.1
RETRY_S: Final = 1.0
GROUP: Final = "shoppers"
READ_KEPT: Final = 20_000
"""Records read before their acknowledgement was heard, per partition, that are remembered."""


class Count:
    """Whether what was acknowledged is read. Knows no network."""

    def __init__(self) -> None:
        self.acknowledged = self.read = self.refused = 0
        self._open: dict[TopicPartition, set[int]] = {}
        self._early: dict[TopicPartition, set[int]] = {}
        self._at: dict[TopicPartition, int] = {}

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """Where the reader begins; what it had passed before it was started again stays so."""
        for key, position in positions.items():
            self._at.setdefault(key, position)

    @property
    def places(self) -> Mapping[TopicPartition, int]:
        """Where the reader is."""
        return self._at

    def was_acknowledged(self, key: TopicPartition, offset: int) -> None:
        self.acknowledged += 1
        early = self._early.setdefault(key, set())
        if offset in early:
            early.discard(offset)
        else:
            self._open.setdefault(key, set()).add(offset)

    def was_read(self, key: TopicPartition, offset: int) -> None:
        self.read += 1
        self._at[key] = max(self._at.get(key, 0), offset + 1)
        found = self._open.setdefault(key, set())
        if offset in found:
            found.discard(offset)
            return
        early = self._early.setdefault(key, set())
        early.add(offset)
        if len(early) > READ_KEPT:
            early.discard(min(early))

    @property
    def missing(self) -> int:
        """Acknowledged, and passed over by the reader."""
        return sum(
            sum(1 for offset in offsets if offset < self._at.get(key, 0))
            for key, offsets in self._open.items()
        )


class Load:
    """Set by the page; runs until cancelled."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._topic, self._rate, self._consumers = "orders", 0, 0
        self._count = Count()
        self._under_way = 0
        self._changed = trio.Event()

    def status(self) -> dict[str, Any]:
        count = self._count
        return {
            "topic": self._topic,
            "records_s": self._rate,
            "consumers": self._consumers,
            "acknowledged": count.acknowledged,
            "refused": count.refused,
            "read": count.read,
            "missing": count.missing,
        }

    def set(self, body: dict[str, Any]) -> None:
        """Raises Refusal."""
        rate, consumers = body.get("records_s", self._rate), body.get("consumers", self._consumers)
        if not (isinstance(rate, int) and 0 <= rate <= RATE_MAX):
            raise bad_request(f"records_s is a number up to {RATE_MAX}")
        if not (isinstance(consumers, int) and 0 <= consumers <= CONSUMERS_MAX):
            raise bad_request(f"consumers is a number up to {CONSUMERS_MAX}")
        self._rate, self._consumers = rate, consumers
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        while True:
            while self._rate == 0 and self._consumers == 0:
                await self._changed.wait()
            try:
                await self._run()
            except* ClientError:
                await trio.sleep(RETRY_S)

    async def _run(self) -> None:
        async with open_client(self._bootstrap, client_id="dev-load") as client:
            if self._topic not in await client.admin.list_topics():
                await client.admin.create_topic(self._topic, partitions=3)
            async with trio.open_nursery() as nursery:
                await nursery.start(self._check, client)
                nursery.start_soon(self._produce, client)
                scopes: list[trio.CancelScope] = []
                while self._rate or self._consumers:
                    while len(scopes) < self._consumers:
                        scopes.append(scope := trio.CancelScope())
                        nursery.start_soon(self._consume, client, scope)
                    while len(scopes) > self._consumers:
                        scopes.pop().cancel()
                    await self._changed.wait()
                await trio.sleep(2 * RETRY_S)  # what was acknowledged last is read
                nursery.cancel_scope.cancel()

    async def _produce(self, client: Client) -> None:
        number = 0
        async with client.producer() as producer, trio.open_nursery() as nursery:
            while True:
                for _ in range(max(1, round(self._rate * TICK_S)) if self._rate else 0):
                    if self._under_way >= UNDER_WAY_MAX:
                        break
                    number += 1
                    self._under_way += 1
                    order = {"id": number, "customer": f"c-{number % 50}", "total": number * 7 % 997 / 10}
                    nursery.start_soon(self._send, producer, number, json.dumps(order).encode())
                await trio.sleep(TICK_S if self._rate > 1 / TICK_S else 1 / max(1, self._rate))

    async def _send(self, producer: Producer, number: int, value: bytes) -> None:
        try:
            placed = await producer.send(self._topic, value, key=b"c-%d" % (number % 50))
        except ClientError:
            self._count.refused += 1
        else:
            if placed.offset >= 0:
                key = TopicPartition(placed.topic, placed.partition)
                self._count.was_acknowledged(key, placed.offset)
        finally:
            self._under_way -= 1

    async def _check(self, client: Client, task_status: trio.TaskStatus[None]) -> None:
        """Read everything from here on, in order, without a group."""
        view = await client.admin.describe_topic(self._topic)
        keys = [TopicPartition(self._topic, partition.partition) for partition in view.partitions]
        self._count.begin(await client.admin.end_offsets(self._topic))
        async with client.consumer(partitions=keys) as consumer:
            for key, place in self._count.places.items():
                consumer.seek(key.topic, key.partition, place)
            task_status.started()
            while True:
                for record in await consumer.poll(1000, max_wait_ms=200):
                    self._count.was_read(TopicPartition(record.topic, record.partition), record.offset)

    async def _consume(self, client: Client, scope: trio.CancelScope) -> None:
        """A member of the group that takes a little time for each record."""
        with scope:
            async with client.consumer(self._topic, group=GROUP, auto_offset_reset="earliest") as consumer:
                while True:
                    records = await consumer.poll(100, max_wait_ms=500)
                    await trio.sleep(0.002 * len(records))
