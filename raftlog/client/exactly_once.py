"""Consume, transform, produce: each input has its effect exactly once (KIP-447).

A batch of records, what is written from them, and the consumer's offsets behind them are one transaction.
When it is aborted the consumer goes back to where the batch began. When the group gives the partitions to
another member meanwhile, the offsets are refused, and with them the transaction: the other does the work.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Generic

import trio

from raftlog.client.arguments import demand
from raftlog.client.backoff import Backoff
from raftlog.client.commits import GroupMetadata
from raftlog.client.consumer import Consumer
from raftlog.client.errors import (
    CommitUnknown,
    DeliveryError,
    RebalanceNeeded,
    TransactionAborted,
    may_pass,
)
from raftlog.client.kinds import K_co, V_co
from raftlog.client.metadata import TopicPartition
from raftlog.client.producer import Producer
from raftlog.client.record import Record
from raftlog.client.transactional import Transaction
from raftlog.errors import ConfigError

PAUSE_MS: Final = 20.0
PAUSE_MAX_MS: Final = 1_000.0
"""Between a batch that was aborted and its repetition; the pause doubles."""


def exactly_once(
    consumer: Consumer[K_co, V_co],
    producer: Producer[Any, Any],
    *,
    max_records: int | None = None,
    max_wait_ms: float = 1000,
) -> ExactlyOnce[K_co, V_co]:
    """The consumer's records in batches, each to be worked on in a transaction of the producer's:

        async for batch in raftlog.exactly_once(consumer, producer):
            async with batch as records:
                for record in records:
                    await producer.send_soon("bills", bill(record.value), key=record.key)

    A batch comes as soon as there are `max_records` (`max_poll_records` by default), or with what there is
    after `max_wait_ms`. At the end of its `async with` the offsets behind its records are committed with what
    was sent. When that is not possible, because the group has given the partitions away or a broker was in
    trouble, the batch is aborted, and its records come again, here or at another member: so what is done
    inside must have no effect but what is sent.

    An exception that leaves the `async with` aborts the batch and comes out; so does a cancellation. If the
    iteration is continued, the records come again. ProducerFenced, ProducerFailed, and errors of the
    consumer's come out as well. Cancelled in the commit, a batch may be committed; the next one waits until
    that is known.

    The consumer needs a group and `enable_auto_commit=False`, the producer a `transactional_id` of its own in
    each process; raises ConfigError. Who reads what is written needs `isolation_level="read_committed"`.
    """
    return ExactlyOnce(
        demand("exactly_once: consumer", consumer, Consumer),
        demand("exactly_once: producer", producer, Producer),
        demand("exactly_once: max_records", max_records, int | None),
        demand("exactly_once: max_wait_ms", max_wait_ms, float),
    )


class _Batch(Generic[K_co, V_co]):
    """Records that were handed out, and what their transaction came to."""

    def __init__(self, records: list[Record[K_co, V_co]], consumer: Consumer[K_co, V_co]) -> None:
        self.records = records
        self.group: GroupMetadata = consumer.group_metadata()
        self.starts: dict[TopicPartition, int] = {}
        for record in records:
            self.starts.setdefault(TopicPartition(record.topic, record.partition), record.offset)
        positions = consumer.positions()
        self.ends = {key: positions[key] for key in self.starts}
        self.transaction: Transaction | None = None

    @property
    def is_committed(self) -> bool:
        return self.transaction is not None and self.transaction.outcome == "committed"


class ExactlyOnce(Generic[K_co, V_co]):
    """What `exactly_once` gives: an iterator without an end, which may be left and used again."""

    def __init__(
        self,
        consumer: Consumer[K_co, V_co],
        producer: Producer[Any, Any],
        max_records: int | None,
        max_wait_ms: float,
    ) -> None:
        if consumer.settings.group_id is None or consumer.settings.enable_auto_commit:
            raise ConfigError("exactly_once needs a consumer with a group and enable_auto_commit=False")
        if producer.settings.transactional_id is None:
            raise ConfigError("exactly_once needs a producer with a transactional_id")
        self._consumer = consumer
        self._producer = producer
        self._max_records = max_records
        self._max_wait_ms = max_wait_ms
        self._last: _Batch[K_co, V_co] | None = None
        self._backoff = Backoff(PAUSE_MS, PAUSE_MAX_MS, random.Random())

    def __repr__(self) -> str:
        return f"<ExactlyOnce {self._consumer!r} {self._producer!r}>"

    def __aiter__(self) -> ExactlyOnce[K_co, V_co]:
        return self

    async def __anext__(self) -> AbstractAsyncContextManager[list[Record[K_co, V_co]]]:
        await self._finish_last()
        while True:
            records = await self._consumer.poll(self._max_records, max_wait_ms=self._max_wait_ms)
            if records:
                try:
                    self._last = _Batch(records, self._consumer)
                except RebalanceNeeded:
                    continue  # they are handed out again once the group has given them to somebody
                return self._work(self._last)

    async def _finish_last(self) -> None:
        """Know what came of the last batch; go back when it was not committed."""
        batch = self._last
        if batch is None:
            return
        if batch.transaction is not None and batch.transaction.outcome == "unknown":
            await batch.transaction.settle()
        self._last = None
        if batch.is_committed:
            self._backoff.reset()
        else:
            self._go_back(batch)
            await trio.sleep(self._backoff.next())

    def _go_back(self, batch: _Batch[K_co, V_co]) -> None:
        """To where a batch began, in the partitions that are still ours; the others begin where the group's
        committed offsets are."""
        for key, offset in batch.starts.items():
            if batch.group.holds(key):
                self._consumer.seek(key.topic, key.partition, offset)

    @asynccontextmanager
    async def _work(self, batch: _Batch[K_co, V_co]) -> AsyncIterator[list[Record[K_co, V_co]]]:
        try:
            async with self._producer.transaction() as transaction:
                batch.transaction = transaction
                yield batch.records
                await transaction.send_offsets(batch.ends, batch.group)
        except (RebalanceNeeded, CommitUnknown, TransactionAborted, DeliveryError) as error:
            if batch.transaction is None or not may_pass(error):
                raise
            # What came of it is found out before the next batch.
