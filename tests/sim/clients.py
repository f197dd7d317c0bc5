"""Clients: producers that retry, consumers that commit, somebody who administers.

They know what a Kafka client knows: topic ids, a hint who leads, answers that may never come. Every call is
one request to one broker over a network of its own, which delays and loses requests and answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.errors import InvalidInput
from raftlog.metadata.brokers import DrainBroker
from raftlog.metadata.commands import encode_command
from raftlog.metadata.moves import MovePartition
from raftlog.metadata.noun import Command, Refusal, Refused, Result
from raftlog.metadata.offsets import CommitOffsets, GroupCommit, OffsetCommit
from raftlog.metadata.producers import AllocateProducerIds, ProducerIdsAllocated
from raftlog.metadata.topics import (
    AlterTopicConfig,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    PartitionsCreated,
    TopicCreated,
)
from raftlog.partition.values import EARLIEST, PartitionError, ProduceResult
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


def values_from(data: bytes, offset: int) -> list[bytes]:
    """The values of the records at `offset` and behind in a run of batches."""
    values: list[bytes] = []
    at = 0
    while at < len(data):
        values += [record.value or b"" for record in decode_batch(data, at) if record.offset >= offset]
        at += read_header(data, at).size
    return values


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
        self.sent += count
        now_ms = self.world.now_ms()
        records = [NewRecord(now_ms, None, value) for value in values]
        if not self.idempotent:
            return Batch(values, encode_batch(records))
        data = encode_batch(
            records, producer_id=self.producer_id, producer_epoch=0, base_sequence=stream.sequence
        )
        stream.sequence = (stream.sequence + count) & 0x7FFFFFFF
        return Batch(values, data)

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

            partition.produce(memoryview(data), now=world.now, now_ms=world.now_ms(), on_done=produced)

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


class Consumer(Caller):
    """Reads one partition for a group, commits its position, and comes back to it after a restart."""

    def __init__(
        self, cluster: Cluster, rng: random.Random, group: str, topic: bytes, partition: int
    ) -> None:
        super().__init__(cluster, rng)
        self.group, self.topic_id, self.partition = group, topic, partition
        self.key = group_key(topic, partition)
        self.position = 0
        self.committed = -1
        """The last commit that was acknowledged."""
        self.tried = -1
        self.read = 0
        self._leader: BrokerId | None = None
        self._is_busy = False
        self.world.after(0.1, self._work)

    @property
    def is_over(self) -> bool:
        return self.topic_id in self.cluster.deleted

    def _pause(self) -> float:
        """In the end it only catches up."""
        if self.cluster.clients_work:
            return self.rng.uniform(0.05, 0.3)
        ledger = self.cluster.invariants.ledgers.get(self.key)
        behind = ledger is not None and self.position < ledger.end_offset
        return 0.004 if behind else 0.2

    def _work(self) -> None:
        if self.is_over:
            return
        self.world.after(self._pause(), self._work)
        if self._is_busy:
            return
        self._is_busy = True
        match self.rng.randrange(12):
            case 0 | 1 if self.position > self.committed and self.cluster.clients_work:
                self._commit()
            case 3 if self.cluster.clients_work:
                self._find_committed()
            case 4 if self.cluster.clients_work:
                self._ask_end()
            case 5 if self.cluster.clients_work:
                self._ask_start()
            case _:
                self._fetch()

    def _fetch(self) -> None:
        broker = self._leader if self._leader is not None else self.anyone()
        position, size = self.position, self.rng.choice((1, 500, 4000, 100_000))
        if not self.cluster.clients_work:
            size = 100_000

        def handle(node: SimNode, reply: Reply) -> None:
            partition = node.partition(self.topic_id, self.partition)
            hint = node.leader_hint(self.topic_id, self.partition)
            if partition is None:
                reply((None, b"", hint, -1))
                return
            result = partition.reading.fetch(position, size)
            data = result.slice.read() if result.slice is not None else b""
            reply((result, data, hint, partition.leader_epoch))

        def fetched(value: Any) -> None:
            self._is_busy = False
            if value is Timeout or value[0] is None:
                self._leader = None if value is Timeout else value[2]
                return
            result, data, hint, epoch = value
            match result.error:
                case None:
                    self._leader = broker
                    self._take(position, data, result.high_watermark)
                case PartitionError.OFFSET_OUT_OF_RANGE if position < result.log_start_offset:
                    self.position = result.log_start_offset
                case PartitionError.OFFSET_OUT_OF_RANGE:
                    ledger = self.cluster.invariants.ledgers[self.key]
                    if epoch >= ledger.entries[-1].term:
                        raise Violation(
                            "a leader has what was read",
                            f"{ledger.name}: {position} is beyond {result.high_watermark} in term {epoch}",
                        )
                    self._leader = hint if hint != broker else None
                case _:
                    self._leader = hint if hint != broker else None

        self.call(broker, handle, fetched)

    def _take(self, position: int, data: bytes, high_watermark: int) -> None:
        try:
            values = values_from(data, position)
        except InvalidInput as error:
            raise Violation("only committed is served", f"from {position} on: {error}") from error
        self.cluster.invariants.fetched(self.key, position, values, high_watermark)
        self.read += len(values)
        if self.position == position:
            self.position += len(values)

    def _commit(self) -> None:
        """Commit to the coordinator, which is the metadata leader."""
        topic = self.cluster.topics.get(self.topic_id)
        if topic is None:
            self._is_busy = False
            return
        position = self.tried = max(self.position, self.tried)
        commit = GroupCommit(
            self.group, self.world.now_ms(), (OffsetCommit(topic, self.partition, position),)
        )
        command = encode_command(CommitOffsets(commits=(commit,)))

        def handle(node: SimNode, reply: Reply) -> None:
            if not node.is_coordinator:
                reply(ProposalFailed("not the coordinator", may_still_happen=False))
                return
            node.propose_here(command, reply)

        def done(value: Any) -> None:
            self._is_busy = False
            if value is not Timeout and not isinstance(value, ProposalFailed):
                self.committed = max(self.committed, position)

        self.call(self.cluster.coordinator_hint(self.rng), handle, done)

    def _find_committed(self) -> None:
        """As after a restart: what was committed is found again, by whoever coordinates now."""
        topic = self.cluster.topics.get(self.topic_id)
        committed = self.committed
        if topic is None:
            self._is_busy = False
            return

        def handle(node: SimNode, reply: Reply) -> None:
            def read(led: bool) -> None:
                found = node.catalog.committed_offset(self.group, topic, self.partition)
                reply((led and node.is_coordinator, found))

            node.metadata.group.read_barrier(self.world.now, read)

        def found(value: Any) -> None:
            self._is_busy = False
            if value is Timeout or not value[0] or self.is_over:
                return
            offset = value[1].offset if value[1] is not None else -1
            if not committed <= offset <= max(self.tried, committed):
                raise Violation(
                    "committed offsets stay",
                    f"group {self.group}: {offset} is stored, {committed} was acknowledged, "
                    f"{self.tried} tried",
                )
            if offset >= 0:
                self.position = offset

        self.call(self.cluster.coordinator_hint(self.rng), handle, found)

    def _ask_end(self) -> None:
        """A linearizable read: the end is not before what was acknowledged when the question was asked."""
        ledger = self.cluster.invariants.ledgers.get(self.key)
        broker = self._leader if self._leader is not None else self.anyone()
        asked: list[int] = []

        def handle(node: SimNode, reply: Reply) -> None:
            partition = node.partition(self.topic_id, self.partition)
            if partition is None:
                reply(None)
                return
            asked.append(ledger.end_offset if ledger is not None else 0)
            partition.group.read_barrier(
                self.world.now, lambda led: reply(int(partition.high_watermark) if led else None)
            )

        def found(value: Any) -> None:
            self._is_busy = False
            if value is Timeout or value is None:
                return
            if value < asked[0]:
                raise Violation("linearizable reads", f"{self.key.hex()}: {value}, {asked[0]} was committed")

        self.call(broker, handle, found)

    def _ask_start(self) -> None:
        """The start of the log: it lies before none that anybody was told when the question came."""
        ledger = self.cluster.invariants.ledgers.get(self.key)
        broker = self._leader if self._leader is not None else self.anyone()
        asked: list[int] = []

        def handle(node: SimNode, reply: Reply) -> None:
            partition = node.partition(self.topic_id, self.partition)
            if partition is None or ledger is None:
                reply(None)
                return
            asked.append(ledger.told_start)

            def answer(led: bool) -> None:
                found = partition.reading.find_offset(EARLIEST)
                is_found = led and found.error is None
                if is_found:
                    self.cluster.invariants.told_start(self.key, found.offset)
                reply(found.offset if is_found else None)

            partition.confirm_leadership(self.world.now, answer)

        def found(value: Any) -> None:
            self._is_busy = False
            if value is Timeout or value is None:
                return
            if value < asked[0]:
                raise Violation(
                    "the start moves back for nobody", f"{self.key.hex()}: {value}, {asked[0]} was told"
                )

        self.call(broker, handle, found)


class Admin(Caller):
    """Creates and deletes topics, deletes records, adds partitions, moves replicas, drains brokers."""

    def __init__(self, cluster: Cluster, rng: random.Random, *, pace: float, moves: bool) -> None:
        super().__init__(cluster, rng)
        self.created = self.deleted = self.moved = self.truncated = 0
        self._gone: list[str] = []
        """Names of topics that were deleted; some are made again."""
        self._count = 0
        self._gone: list[str] = []
        """Names of topics that were deleted."""
        self._pace, self._moves = pace, moves
        for _ in range(2):
            self._create()
        self.world.after(self._pause(), self._work)

    def _pause(self) -> float:
        return self.rng.expovariate(1.0 / self._pace)

    def _work(self) -> None:
        self.world.after(self._pause(), self._work)
        if not self.cluster.clients_work:
            return
        topics = sorted(self.cluster.topics)
        if topics and self.rng.random() < 0.4:
            self._delete_records(self.rng.choice(topics))
        draw = self.rng.random()
        if not topics or (draw < 0.25 and len(topics) < 4):
            self._create()
        elif draw < 0.35 and len(topics) > 2:
            self._delete(self.rng.choice(topics))
        elif draw < 0.45:
            self._alter(self.rng.choice(topics))
        elif draw < 0.5:
            self._add_partition(self.rng.choice(topics))
        elif self._moves and draw < 0.58:
            self._drain()
        elif self._moves:
            self._move(self.rng.choice(topics))

    def _ask(self, command: Command, on_result: Callable[[Result | None], None]) -> None:
        def handle(node: SimNode, reply: Reply) -> None:
            node.propose(command, reply, timeout=1.5)

        def done(value: Any) -> None:
            on_result(None if value is Timeout or isinstance(value, ProposalFailed) else value)

        self.call(self.anyone(), handle, done)

    def _replicas(self) -> tuple[BrokerId, ...]:
        everyone = self.cluster.everyone
        size = self.rng.choice((1, 2, 3, 3, 3, 3)) if self._moves else 3
        return tuple(self.rng.sample(everyone, min(size, len(everyone))))

    def _configs(self) -> dict[str, str]:
        configs = {"segment.bytes": str(self.rng.choice((1024, 4096, 100_000)))}
        if self.rng.random() < 0.4:
            configs["retention.bytes"] = str(self.rng.choice((4096, 20_000)))
        if self.rng.random() < 0.2:
            configs["retention.ms"] = str(self.rng.choice((1000, 4000)))
        if self.rng.random() < 0.2:
            configs["message.timestamp.type"] = "LogAppendTime"
        return configs

    def _create(self) -> None:
        if self._gone and self.rng.random() < 0.6:
            name = self._gone.pop()  # made again: another topic of the same name
        else:
            self._count += 1
            name = f"topic{self._count}"
        if self._gone and self.rng.random() < 0.5:
            name = self._gone.pop()
        partitions = tuple(self._replicas() for _ in range(self.rng.choice((1, 1, 2))))
        command = CreateTopic(
            name=name, topic_id=self.rng.randbytes(16), partitions=partitions, configs=self._configs()
        )

        def created(result: Result | None) -> None:
            if isinstance(result, TopicCreated):
                self.created += 1
                self.cluster.topic_created(command.topic_id, name, len(partitions))
            elif self.created == 0:
                self.world.after(0.2, lambda: self._ask(command, created))

        self._ask(command, created)

    def _delete(self, topic_id: bytes) -> None:
        name = self.cluster.topics[topic_id]
        name = self.cluster.topics[topic_id]
        self.cluster.topic_deleted(topic_id)

        def again(result: Result | None) -> None:
            if result is None:
                self.world.after(0.5, lambda: self._ask(DeleteTopic(topic_id=topic_id), again))
            else:
                self.deleted += 1
                self._gone.append(name)
                self._gone.append(name)

        self._ask(DeleteTopic(topic_id=topic_id), again)

    def _delete_records(self, topic_id: bytes) -> None:
        """Up to anywhere: inside a batch, before the start, beyond the end. Whoever leads is asked."""
        invariants = self.cluster.invariants
        partition = self.rng.randrange(self.cluster.partition_count[topic_id])
        key = group_key(topic_id, partition)
        ledger = invariants.ledgers.get(key)
        if ledger is None:
            return
        offset = self.rng.choice((-1, self.rng.randint(0, ledger.end_offset + 1)))

        def handle(node: SimNode, reply: Reply) -> None:
            replica = node.partition(topic_id, partition)
            if replica is None:
                reply(None)
                return

            def deleted(error: PartitionError | None, start: int) -> None:
                if error is None:
                    invariants.told_start(key, start)
                reply((error, start))

            replica.delete_before(offset, now=self.world.now, on_done=deleted)

        def done(value: Any) -> None:
            if value is not Timeout and value is not None and value[0] is None:
                self.truncated += 1
                if value[1] < offset:
                    raise Violation(
                        "deleted records are gone", f"{key.hex()}: {value[1]}, asked was {offset}"
                    )

        for broker in self.cluster.everyone:
            self.call(broker, handle, done)

    def _alter(self, topic_id: bytes) -> None:
        self._ask(AlterTopicConfig(topic_id=topic_id, set=self._configs()), lambda result: None)

    def _add_partition(self, topic_id: bytes) -> None:
        existing = self.cluster.partition_count[topic_id]
        if existing >= 3:
            return
        command = CreatePartitions(topic_id=topic_id, existing=existing, partitions=(self._replicas(),))

        def added(result: Result | None) -> None:
            match result:
                case PartitionsCreated() | Refused(
                    Refusal.INVALID_PARTITIONS
                ):  # the latter: by an earlier try
                    self.cluster.partition_added(topic_id, existing)

        self._ask(command, added)

    def _drain(self) -> None:
        """A broker that is being emptied votes on no metadata: its group changes its members, too."""
        broker, draining = self.anyone(), self.rng.random() < 0.6
        self._ask(DrainBroker(broker_id=broker, draining=draining), lambda result: None)

    def _move(self, topic_id: bytes) -> None:
        partition = self.rng.randrange(self.cluster.partition_count[topic_id])
        command = MovePartition(topic_id=topic_id, partition=partition, target=self._replicas())

        def moved(result: Result | None) -> None:
            self.moved += result is not None

        self._ask(command, moved)
