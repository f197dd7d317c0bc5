"""The producer: records in, acknowledgements out.

What is sent when is decided by the accumulator, and sent by the sender; here are the calls and their waiting.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Generic

import trio

from raftlog.client.accumulator import Accumulator, ProducerStatistics
from raftlog.client.arguments import INT64_MAX, checked, demand, described
from raftlog.client.backoff import pause_after
from raftlog.client.batches import Batch, Queue
from raftlog.client.cluster import Cluster
from raftlog.client.delivery import Delivery, RecordMetadata
from raftlog.client.errors import ClientError, Closed, broker_error, timed_out
from raftlog.client.given import HeaderInput, as_bytes, check_expected, check_timestamp, wire_headers_of
from raftlog.client.kinds import K_contra, V_contra
from raftlog.client.metadata import TopicView
from raftlog.client.missing import no_partition
from raftlog.client.nursery import background
from raftlog.client.partitioner import Sticky, murmur2_partition
from raftlog.client.sending import Sender
from raftlog.client.settings import ProducerSettings
from raftlog.client.transactional import Coordination, Transaction
from raftlog.client.undelivered import too_large
from raftlog.errors import ConfigError
from raftlog.protocol.api import ApiKey
from raftlog.records.record import Headers

RECORD_OVERHEAD: Final = 40
"""More than a record's lengths and deltas take, for the check against max.request.size."""
_TRIPLES: Final = "a list of (key, value, time in milliseconds)"


class _Topic:
    """What the hot path needs of a topic: its queues by partition, who has a leader, where records stick."""

    __slots__ = ("available", "count", "queues", "sticky", "version", "view")

    def __init__(self, sticky: Sticky) -> None:
        self.version = -1
        self.view: TopicView | None = None
        self.count = 0
        self.queues: list[Queue] = []
        self.available: list[int] = []
        self.sticky = sticky


@checked("send", "send_soon", "send_many_soon")
class Producer(Generic[K_contra, V_contra]):
    """Writes records. Made by `Client.producer`; lives inside its `async with`. `Producer[str, Order]` is one
    whose serializers take a str and an Order; without them it takes bytes.

    Leaving the `async with` waits until everything is delivered, and raises DeliveryError if something was
    not and nobody has seen it. Leaving by an exception or by cancellation gives up what is not delivered yet:
    what was on its way may be written, what was not is not.

    With `transactional_id` it writes inside of `transaction()` alone. Entering the `async with` then waits
    for the coordinator, within `max_block_ms`: it ends what another producer with this id has left open.
    """

    def __init__(self, cluster: Cluster, settings: ProducerSettings) -> None:
        self.settings = settings
        self._cluster = cluster
        self._metadata = cluster.metadata
        self._key_serializer = settings.key_serializer
        self._value_serializer = settings.value_serializer
        self._partitioner = settings.partitioner
        self._size_max = settings.max_request_size
        self._buffer_max = settings.buffer_memory
        self._topics: dict[str, _Topic] = {}
        self._room = trio.Event()
        self._closed = False
        self._yield_due = False
        client = cluster.settings
        self._accumulator = Accumulator(
            settings,
            retry_backoff=lambda failures: (
                pause_after(failures, client.retry_backoff_ms, client.retry_backoff_max_ms, cluster.rng)
                / 1000
            ),
            on_room=self._make_room,
        )
        self._accumulator.why_not = self._why_not
        self._no_id_because: ClientError | None = None
        self._sender = Sender(cluster, settings, self._accumulator)
        self._coordination: Coordination | None = None
        if settings.transactional_id is not None:
            self._coordination = Coordination(cluster, settings, self._accumulator, self._sender)

    # -- records in

    async def send(
        self,
        topic: str,
        value: V_contra | None = None,
        *,
        key: K_contra | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: HeaderInput | None = None,
        expected_offset: int | None = None,
    ) -> RecordMetadata:
        """Write a record and wait until it is acknowledged.

        `key` and `value` are bytes, or what the serializers take; None is no key, and a tombstone, and
        reaches no serializer. `partition` is chosen by the key unless it is given. `timestamp_ms`, since the
        epoch, is now unless it is given.

        With `expected_offset` the record is appended only where it gets that offset, the log's end: of two
        who expect the same, one appends, and the other gets OffsetMismatch, whose `end` says where the log
        ends. It takes a `partition` and an idempotent producer without a `transactional_id` (ConfigError),
        and a broker that compares, as raftlog does: otherwise NotSupported comes, and nothing is sent.
        The record travels alone: what was sent before to the partition is answered first, and what is sent
        later goes when its own fate is known. A retry of what was appended is told its offset. After a
        cancellation, or a DeliveryError with `may_be_written`, only the log says whether the record was
        appended: read the record at that offset. The same call again is not a retry: it would raise
        OffsetMismatch because of the record of the first call.

        Raises DeliveryError when the record was not acknowledged within `delivery_timeout_ms`, RecordTooLarge
        when it is more than the producer, the topic or the broker takes, UnknownTopic when the topic or the
        partition did not come into being within `max_block_ms`, and RequestTimedOut when there was no room or
        no broker meanwhile; TypeError or ValueError for an argument that is none. Cancelled, the record may
        or may not be written.
        """
        delivery = await self.send_soon(
            topic,
            value,
            key=key,
            partition=partition,
            timestamp_ms=timestamp_ms,
            headers=headers,
            expected_offset=expected_offset,
        )
        if not self.settings.linger_ms:
            self._sender.pump()
        self._yield_due = False
        return await delivery.wait()

    async def send_soon(
        self,
        topic: str,
        value: V_contra | None = None,
        *,
        key: K_contra | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: HeaderInput | None = None,
        expected_offset: int | None = None,
    ) -> Delivery:
        """Hand over a record to be written; await the result for the acknowledgement, now or later.

        Waits only for room among `buffer_memory`, and for a topic that is not known yet. It is a checkpoint
        whenever it waits and once a batch, not once a record: a record takes about two microseconds.

        Arguments and errors are those of `send`, but for DeliveryError, which awaiting the result raises.
        Cancelled, the record is not written. Of results that nobody awaits, `flush` and the end of the
        `async with` raise the failures.
        """
        if type(topic) is not str or (partition is not None and type(partition) is not int):
            demand("send: topic", topic, str)  # what it says is looked at when it is not known
            demand("send: partition", partition, int | None)
        key_bytes: Any = key
        value_bytes: Any = value
        if self._key_serializer is not None and key is not None:
            key_bytes = self._key_serializer(key)
        if self._value_serializer is not None and value is not None:
            value_bytes = self._value_serializer(value)
        if type(key_bytes) is not bytes and key_bytes is not None:
            key_bytes = as_bytes("key", key_bytes, self._key_serializer is not None)
        if type(value_bytes) is not bytes and value_bytes is not None:
            value_bytes = as_bytes("value", value_bytes, self._value_serializer is not None)
        wire_headers = wire_headers_of(headers) if headers is not None else ()
        if timestamp_ms is None:
            timestamp_ms = int(time.time() * 1000)
        elif type(timestamp_ms) is not int or not 0 <= timestamp_ms <= INT64_MAX:
            check_timestamp(timestamp_ms)
        size = RECORD_OVERHEAD
        if key_bytes is not None:
            size += len(key_bytes)
        if value_bytes is not None:
            size += len(value_bytes)
        if size > self._size_max:
            raise too_large(size, self._size_max, topic)
        if expected_offset is not None:
            check_expected(expected_offset, partition, self.settings)
        accumulator, coordination = self._accumulator, self._coordination
        transaction = coordination.enter() if coordination is not None else None
        if self._yield_due or self._closed or accumulator.buffered >= self._buffer_max:
            await self._wait_for_room()
        known = self._topics.get(topic)
        if known is None or known.version != self._metadata.version:
            known = await self._topic(topic)
        if partition is None:
            if self._partitioner is not None:
                partition = demand(
                    "send: what the partitioner gives",
                    self._partitioner(topic, key_bytes, value_bytes, known.count),
                    int,
                )
            elif key_bytes is not None:
                partition = murmur2_partition(key_bytes, known.count)
            else:
                partition = known.sticky.choose(known.available, size)
        if not 0 <= partition < known.count:
            known = await self._topic_with(topic, partition)
        if coordination is not None:
            coordination.enter(transaction)  # it may have ended meanwhile
        queue = known.queues[partition]
        batch = None
        if expected_offset is None:
            batch = accumulator.append(queue, timestamp_ms, key_bytes, value_bytes, wire_headers)
        if batch is None:
            batch = self._begin_batch(queue, timestamp_ms, key_bytes, value_bytes, wire_headers)
        if expected_offset is not None:
            accumulator.close_alone(queue, expected_offset)
        return Delivery(batch, batch.builder.record_count - 1, timestamp_ms)

    async def send_many_soon(
        self, topic: str, partition: int, records: Iterable[tuple[bytes | None, bytes | None, int]]
    ) -> Delivery | None:
        """Hand over records of one partition, each a key, a value and a time in milliseconds, without headers
        and as they are: no serializer sees them. What is given is the last one's, None of none.

        As `send_soon` for each of them, for less. Cancelled or failed, those before are handed over.
        """
        demand("send_many_soon: partition", partition, int)
        if not isinstance(records, Iterable):
            raise TypeError(f"send_many_soon: records must be {_TRIPLES}, not {described(records)}")
        accumulator, coordination, size_max = self._accumulator, self._coordination, self._size_max
        append, buffer_max, known, batch, timestamp = accumulator.append, self._buffer_max, None, None, 0
        transaction = coordination.enter() if coordination is not None else None
        for record in records:
            if not isinstance(record, tuple) or len(record) != 3:
                raise TypeError(f"send_many_soon: records must be {_TRIPLES}, not of {described(record)}")
            key, value, timestamp = record
            if type(timestamp) is not int or not 0 <= timestamp <= INT64_MAX:
                check_timestamp(timestamp)
            if type(key) is not bytes and key is not None:
                key = as_bytes("key", key, False)
            if type(value) is not bytes and value is not None:
                value = as_bytes("value", value, False)
            size = RECORD_OVERHEAD + len(key or b"") + len(value or b"")
            if size > size_max:
                raise too_large(size, size_max, topic)
            if self._yield_due or self._closed or accumulator.buffered >= buffer_max:
                await self._wait_for_room()
                known = None
            if known is None:
                known = await self._topic_with(topic, partition)
                if coordination is not None:
                    coordination.enter(transaction)  # it may have ended meanwhile
                queue = known.queues[partition]
            batch = append(queue, timestamp, key, value, ())
            if batch is None:
                batch = self._begin_batch(queue, timestamp, key, value, ())
        return None if batch is None else Delivery(batch, batch.builder.record_count - 1, timestamp)

    async def flush(self) -> None:
        """Wait until everything that was handed over before is delivered, without lingering.

        Raises DeliveryError when something was not, and nobody has seen it. Cancelled, nothing is lost:
        delivery goes on.
        """
        accumulator = self._accumulator
        waiting = accumulator.unfinished()
        accumulator.flushing += 1
        try:
            self._sender.pump()
            for batch in waiting:
                while not batch.done:
                    if batch.event is None:
                        batch.event = trio.Event()
                    await batch.event.wait()
        finally:
            accumulator.flushing -= 1
        await trio.lowlevel.checkpoint_if_cancelled()
        self._raise_unseen()

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction, to be used in `async with`: `read_committed` consumers read all of what is sent
        inside, or nothing of it.

            async with producer.transaction():
                await producer.send("orders", b"one apple")
                await producer.send("stock", b"one apple less")

        At the end of the `async with` it waits for what was sent, and commits. It aborts when an exception or
        a cancellation leaves the `async with`, which then comes out, and when a record could not be
        delivered: TransactionAborted. Entering waits for the end of the transaction before.

        Raises CommitUnknown when the commit was not answered within `max_block_ms`, ProducerFenced when
        another producer has taken the `transactional_id`, ConfigError without one, BusyResourceError while
        another transaction is open.

        Cancelled before the commit, the transaction is aborted. Cancelled in the commit, it is carried on for
        up to five seconds, and `outcome` says what came of it. The abort as well may take so long; when no
        coordinator answers, the transaction stays open, and holds up `read_committed` consumers, until the
        next transaction begins, or another producer with this `transactional_id`, or
        `transaction_timeout_ms` is over. It is never committed.
        """
        if self._coordination is None:
            raise ConfigError("transactions need a name: client.producer(transactional_id=…)")
        if self._closed:
            raise Closed("the producer is closed")
        return self._coordination.transaction(self.flush)

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises RequestTimedOut when it is not there in time."""
        return (await self._topic(topic)).count

    def statistics(self) -> ProducerStatistics:
        """A snapshot of the counters."""
        now = self._accumulator.statistics
        pending = sum(batch.builder.record_count for batch in self._accumulator.unfinished())
        return ProducerStatistics(
            records=now.records_acknowledged + now.records_failed + pending,
            records_acknowledged=now.records_acknowledged,
            records_failed=now.records_failed,
            batches=now.batches,
            bytes_sent=now.bytes_sent,
            requests=now.requests,
            retries=now.retries,
            buffered_bytes=self._accumulator.buffered,
            requests_under_way=self._sender.requests_under_way,
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Producer {state} acks={self.settings.acks} buffered={self._accumulator.buffered}>"

    def _begin_batch(
        self, queue: Queue, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Headers
    ) -> Batch:
        """A batch that holds a record which the partition's open one, if there is one, does not take."""
        self._accumulator.open(queue, trio.current_time())
        self._yield_due = True
        self._sender.wake()
        batch = self._accumulator.append(queue, timestamp_ms, key, value, headers)
        assert batch is not None, "a new batch takes a record of any size"
        return batch

    # -- waiting for room and topics

    async def _wait_for_room(self) -> None:
        if self._closed:
            raise Closed("the producer is closed")
        self._yield_due = False
        settings, accumulator = self.settings, self._accumulator
        if accumulator.buffered < settings.buffer_memory:
            await trio.lowlevel.checkpoint()
            return
        self._sender.pump()
        with trio.move_on_after(settings.max_block_ms / 1000):
            while accumulator.buffered >= settings.buffer_memory:
                await self._room.wait()
            return
        waiting = accumulator.unfinished()
        raise timed_out(
            f"{accumulator.buffered} bytes wait for delivery, and buffer_memory has room for"
            f" {settings.buffer_memory}: no room within {settings.max_block_ms:g} ms",
            self._why_not(waiting[0].topic, waiting[0].partition) if waiting else None,
        )

    def _why_not(self, topic: str, partition: int) -> ClientError | None:
        """What keeps records from a partition, as far as that is known."""
        reason = self._cluster.why_not(topic, partition)
        return reason if reason is not None or self._accumulator.ready else self._no_id_because

    def _make_room(self) -> None:
        if self._accumulator.buffered < self.settings.buffer_memory:
            room, self._room = self._room, trio.Event()
            room.set()

    async def _topic(self, name: str) -> _Topic:
        """A topic as it is now, once the brokers know it."""
        metadata = self._cluster.metadata
        known = self._topics.get(name)
        if known is None:
            demand("send: topic", name, str)
            known = _Topic(Sticky(self.settings.batch_size, self._cluster.rng))
        if name not in self._topics:  # also when another producer has made it known: it may leave
            self._cluster.watch(self, {*self._topics, name}, create=True)
        if name not in metadata.topics:
            await self._until_known(name)
        view = metadata.topics[name]
        self._topics[name] = known
        known.version = metadata.version
        if view is not known.view:
            known.view = view
            known.count = len(view.partitions)
            known.queues = [self._accumulator.queue(name, p) for p in range(known.count)]
            known.available = view.available or list(range(known.count))
            if known.sticky.partition not in known.available:
                known.sticky.switch(known.available)
        return known

    async def _until_known(self, name: str) -> None:
        metadata = self._cluster.metadata
        limit = self.settings.max_block_ms
        with trio.move_on_after(limit / 1000):
            while name not in metadata.topics:
                self._cluster.request_update()
                await self._cluster.next_update().wait()
                code = metadata.errors.get(name)
                if code is not None and not code.retriable:
                    raise self._cluster.not_created(name)
            return
        nobody = self._cluster.trouble.with_brokers()
        code = metadata.errors.get(name)
        if code is not None and nobody is None:
            raise self._cluster.not_created(name, f"not within max_block_ms = {limit:g} ms")
        raise timed_out(f"no metadata of topic {name!r} within {limit:g} ms", nobody)

    async def _topic_with(self, name: str, partition: int) -> _Topic:
        """A topic once it has this partition: it may have grown."""
        known = await self._topic(name)
        if partition >= 0:
            with trio.move_on_after(self.settings.max_block_ms / 1000):
                while partition >= known.count:
                    await self._cluster.updated()
                    known = await self._topic(name)
                return known
        raise no_partition(name, known.count, partition)

    def _raise_unseen(self) -> None:
        unseen = self._accumulator.unseen
        failures = [b.error for b in unseen if b.error is not None and not b.observed]
        unseen.clear()
        if failures:
            raise failures[0]

    # -- the tasks

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Producer[K_contra, V_contra]]:
        """The producer's life."""
        cluster = self._cluster
        cluster.on_update.add(self._sender.wake)
        try:
            async with background() as nursery:
                nursery.start_soon(self._sender.keep_sending)
                if self._coordination is not None:
                    await self._coordination.identify()
                    nursery.start_soon(self._coordination.keep_adding)
                elif self.settings.enable_idempotence:
                    nursery.start_soon(self._keep_identified)
                yield self
                await self.flush()
        finally:
            self._closed = True
            cluster.on_update.discard(self._sender.wake)
            self._accumulator.abandon(Closed("the producer was closed"))
            self._sender.close()
            if self._coordination is not None:
                self._coordination.close()
            cluster.unwatch(self)
            self._make_room()

    async def _keep_identified(self) -> None:
        """Get a producer id, and another one when a partition has had all of its epochs."""
        while True:
            worn_out = trio.Event()
            await self._identify()
            self._accumulator.on_worn_out = worn_out.set
            self._sender.pump()
            await worn_out.wait()

    async def _identify(self) -> None:
        """Get a producer id, however long it takes: delivery time-outs go on meanwhile."""
        fields = {
            "transactional_id": None,
            "transaction_timeout": 60_000,
            "producer_id": -1,
            "producer_epoch": -1,
        }

        async def attempt() -> Any:
            answer = await self._cluster.ask_any(ApiKey.INIT_PRODUCER_ID, fields)
            if int(answer.error_code) != 0:
                self._no_id_because = broker_error(int(answer.error_code), "a producer id")
                raise self._no_id_because
            return answer

        answer = await self._cluster.retrying(attempt, what="InitProducerId", timeout_ms=float("inf"))
        self._accumulator.identify(int(answer.producer_id), int(answer.producer_epoch))
