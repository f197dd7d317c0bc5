"""Clients: how they call brokers, and producers that retry.

They know what a Kafka client knows: topic ids, a hint who leads, answers that may never come. Every call is
one request to one broker over a network of its own, which delays and loses requests and answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from raftlog.metadata.producers import AllocateProducerIds, ProducerIdsAllocated
from raftlog.partition.aborted import AbortedTransaction
from raftlog.partition.markers import decode_marker
from raftlog.partition.values import PartitionError, ProduceResult
from raftlog.records.batch import read_header
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from raftlog.types import BrokerId, GroupKey, group_key
from tests.sim.node import SimNode
from tests.sim.world import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

TIMEOUT: Final = 2.0
"""Seconds until a client gives a request up: it may have happened."""
WINDOW: Final = 4
"""Batches of one partition that an idempotent producer has under way; a broker remembers five."""

Reply = Callable[[Any], None]
Handler = Callable[[SimNode, Reply], None]


Found = list[tuple[int, bytes]]
"""Offsets and values; a tombstone's is empty."""
KEYS: Final = [b"k%d" % number for number in range(6)]
"""Of records in compacted topics."""


def records_from(data: bytes | memoryview, offset: int) -> Found:
    """The records at `offset` and behind in a run of batches, markers too."""
    found: Found = []
    at = 0
    while at < len(data):
        found += [(one.offset, one.value or b"") for one in decode_batch(data, at) if one.offset >= offset]
        at += read_header(data, at).size
    return found


def committed_from(data: bytes | memoryview, offset: int, aborted: Sequence[AbortedTransaction]) -> Found:
    """The records at `offset` and behind as a client that reads what is committed takes them from a run of
    batches: without those of aborted transactions, up to their markers, and without markers."""
    found: Found = []
    begin = sorted(aborted, key=lambda one: one.first_offset, reverse=True)
    skipped: set[int] = set()
    at = 0
    while at < len(data):
        header = read_header(data, at)
        while begin and begin[-1].first_offset < header.next_offset:
            skipped.add(begin.pop().producer_id)
        if header.is_control:
            if not decode_marker(header, data[at : at + header.size]).is_commit:
                skipped.discard(header.producer_id)
        elif not (header.is_transactional and header.producer_id in skipped):
            records = decode_batch(data, at)
            found += [(record.offset, record.value or b"") for record in records if record.offset >= offset]
        at += header.size
    return found


class Timeout:
    """No answer came."""


class Caller:
    """Requests to brokers."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster, self.rng = cluster, rng
        self.world = cluster.world

    def call(self, broker: BrokerId, handler: Handler, on_answer: Reply) -> None:
        """Have a broker do `handler`; `on_answer` is called once, with Timeout when nothing came back."""
        world, rng, cluster = self.world, self.rng, self.cluster
        is_done = False

        def answer(value: Any) -> None:
            nonlocal is_done
            if not is_done:
                is_done = True
                on_answer(value)

        def reply(value: Any) -> None:
            if rng.random() >= cluster.client_loss:
                world.after(rng.uniform(0.0002, 0.003), partial(answer, value), "answer")

        def arrive() -> None:
            target = cluster.brokers[broker]

            def handle() -> None:
                node = target.node
                assert node is not None
                handler(node, reply)

            if not target.act(handle) and target.node is None:
                world.after(0.001, lambda: answer(Timeout), "refused")

        if rng.random() >= cluster.client_loss:
            world.after(rng.uniform(0.0002, 0.003), arrive, f"call {broker}")
        world.after(TIMEOUT, partial(answer, Timeout))

    def anyone(self) -> BrokerId:
        return self.rng.choice(self.cluster.everyone)


@dataclass(slots=True, eq=False)
class Batch:
    """What a producer sends until it is answered for good."""

    values: list[bytes]
    data: bytearray
    attempts: int = 0
    is_ambiguous: bool = False
    """An attempt may have been written without its answer having been seen."""
    is_done: bool = False
    was_first: bool = False
    """Everything before it had been acknowledged when it was last sent."""


@dataclass(slots=True, eq=False)
class Stream:
    """One producer on one partition."""

    topic_id: bytes
    partition: int
    key: GroupKey
    leader: BrokerId | None = None
    sequence: int = 0
    is_known: bool = False
    """A batch has been acknowledged."""
    under_way: list[Batch] = field(default_factory=list)
    """In order; what is done stays as long as something before it is not, since a broker remembers a number
    of batches that follow each other."""
    is_over: bool = False


class Producer(Caller):
    """Sends batches with unique values, and retries what may be retried."""

    def __init__(self, cluster: Cluster, rng: random.Random, name: str, *, idempotent: bool) -> None:
        super().__init__(cluster, rng)
        self.name, self.idempotent = name, idempotent
        self.producer_id = -1
        self.streams: dict[GroupKey, Stream] = {}
        self.acked = 0
        self.sent = 0
        self.unknown = 0
        self._count = 0
        self._pause = rng.choice((0.02, 0.1, 0.3))
        self._records_max = rng.choice((1, 3, 12))
        self._value_size = rng.choice((8, 60, 400))
        if idempotent:
            self._allocate()
        self.world.after(self._pause, self._work)

    @property
    def is_idle(self) -> bool:
        return not any(stream.under_way for stream in self.streams.values())

    def _allocate(self) -> None:
        def handle(node: SimNode, reply: Reply) -> None:
            node.propose(AllocateProducerIds(broker_id=node.broker_id, count=3), reply, timeout=1.5)

        def allocated(result: Any) -> None:
            if isinstance(result, ProducerIdsAllocated):
                self.cluster.take_producer_ids(result.first, result.count)
                self.producer_id = result.first
            else:
                self.world.after(0.1, self._allocate)

        self.call(self.anyone(), handle, allocated)

    def _work(self) -> None:
        self.world.after(self.rng.expovariate(1.0 / self._pause) + 0.001, self._work)
        if not self.cluster.clients_work or (self.idempotent and self.producer_id < 0):
            return
        partitions = self.cluster.partitions()
        if not partitions:
            return
        topic_id, number = self.rng.choice(partitions)
        key = group_key(topic_id, number)
        stream = self.streams.get(key)
        if stream is None:
            stream = self.streams[key] = Stream(topic_id, number, key, sequence=self._first_sequence(key))
        if len(stream.under_way) < self._window(stream) and not stream.is_over:
            batch = self._new_batch(stream)
            stream.under_way.append(batch)
            self._send(stream, batch)

    def _first_sequence(self, key: GroupKey) -> int:
        """Not 0 where the topic was there before under the same name, was deleted, and made again: the
        producer goes on."""
        if not self.idempotent or self.rng.random() < 0.7:
            return 0
        sequence = self.rng.choice((1, 7, 2**31 - 9))
        self.cluster.invariants.begins_at(key, self.producer_id, sequence)
        return sequence

    def _window(self, stream: Stream) -> int:
        """A broker that does not know a producer takes any sequence from it (KIP-360), so the first batch
        goes alone: it might be refused, and the second one taken."""
        if not self.idempotent:
            return WINDOW
        return WINDOW if stream.is_known else 1

    def _new_batch(self, stream: Stream) -> Batch:
        count = self.rng.randint(1, self._records_max)
        values = []
        for _ in range(count):
            self._count += 1
            values.append(f"{self.name}.{self._count}".encode().ljust(self._value_size, b"."))
            if self.idempotent and stream.topic_id in self.cluster.compacted and self.rng.random() < 0.1:
                values[-1] = b""  # a tombstone
        self.sent += count
        now_ms = self.world.now_ms()
        records = [NewRecord(now_ms, self._key(stream), value or None) for value in values]
        if not self.idempotent:
            return Batch(values, encode_batch(records))
        data = encode_batch(
            records, producer_id=self.producer_id, producer_epoch=0, base_sequence=stream.sequence
        )
        stream.sequence = (stream.sequence + count) & 0x7FFFFFFF
        return Batch(values, data)

    def _key(self, stream: Stream) -> bytes | None:
        return self.rng.choice(KEYS) if stream.topic_id in self.cluster.compacted else None

    def _send(self, stream: Stream, batch: Batch) -> None:
        if stream.is_over or batch.is_done:
            return
        batch.attempts += 1
        batch.was_first = stream.under_way[0] is batch
        broker = stream.leader if stream.leader is not None else self.anyone()
        data = bytearray(batch.data)
        cluster, world = self.cluster, self.world

        def handle(node: SimNode, reply: Reply) -> None:
            hint = node.leader_hint(stream.topic_id, stream.partition)
            partition = node.partition(stream.topic_id, stream.partition)
            if partition is None:
                known = stream.topic_id in node.catalog.topics_by_id
                reply((ProduceResult(PartitionError.NOT_LEADER), hint if known else None))
                return

            def produced(result: ProduceResult) -> None:
                if result.error is None:
                    cluster.invariants.acknowledged(stream.key, result.base_offset, batch.values)
                reply((result, node.leader_hint(stream.topic_id, stream.partition)))

            partition.producing.produce(
                memoryview(data), now=world.now, now_ms=node.now_ms(), on_done=produced
            )

        self.call(broker, handle, lambda value: self._answered(stream, batch, broker, value))

    def _answered(self, stream: Stream, batch: Batch, broker: BrokerId, value: Any) -> None:
        if batch.is_done or stream.is_over:
            return  # an earlier attempt was answered meanwhile
        if stream.topic_id in self.cluster.deleted:
            stream.is_over = True
            stream.under_way.clear()
            return
        if value is Timeout:
            batch.is_ambiguous = True
            stream.leader = None
            self._again(stream, batch)
            return
        result, hint = value
        match result.error:
            case None:
                self.acked += len(batch.values)
                self._done(stream, batch)
                stream.leader, stream.is_known = broker, True
            case PartitionError.NOT_LEADER:
                stream.leader = hint if hint != broker else None
                if self.idempotent or batch.is_ambiguous:
                    self._again(stream, batch)
                else:
                    self._done(stream, batch)
                    self.cluster.invariants.will_not_happen(stream.key, batch.values)
            case PartitionError.MAY_STILL_HAPPEN:
                batch.is_ambiguous = True
                stream.leader = hint if hint != broker else None
                self._again(stream, batch)
            case PartitionError.OUT_OF_SEQUENCE if self.idempotent and not batch.was_first:
                self._again(stream, batch)
            case PartitionError.OVERLOADED | PartitionError.STORAGE_FAILED:
                stream.leader = None
                self._again(stream, batch)
            case error:
                raise Violation(
                    "producers get on",
                    f"{self.name} on {stream.topic_id.hex()[:8]}-{stream.partition}: "
                    f"{error} {result.message}",
                )

    def _done(self, stream: Stream, batch: Batch) -> None:
        batch.is_done = True
        while stream.under_way and stream.under_way[0].is_done:
            del stream.under_way[0]

    def _again(self, stream: Stream, batch: Batch) -> None:
        self.world.after(self.rng.uniform(0.01, 0.1), lambda: self._send(stream, batch))
