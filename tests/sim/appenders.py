"""Producers that compare and append: each says at which offset its next record must be.

A few of them meet on few partitions, with other producers between them, so that most of what they expect has
changed when it arrives. What is checked is what they are told: an acknowledgement names the offset that was
expected; a mismatch names an end that is committed, and was not passed before it was asked for; what was
refused for good is never in the log; a batch that is sent again after its acknowledgement is told the same.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from raftlog.metadata.producers import AllocateProducerIds, ProducerIdsAllocated
from raftlog.partition.values import PartitionError, ProduceResult
from raftlog.records.record import NewRecord, encode_batch
from raftlog.types import BrokerId, GroupKey, group_key
from tests.sim.clients import KEYS, Caller, Reply, Timeout
from tests.sim.node import SimNode
from tests.sim.world import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

SHARED_MAX: Final = 2
"""Partitions that all appenders of a seed choose from."""
AHEAD: Final = 0.1
"""How often one expects more than there is."""
COPIES: Final = 0.2
"""How often a batch is sent once more after it was acknowledged."""


@dataclass(slots=True)
class Place:
    """What an appender knows of a partition."""

    end: int = 0
    epoch: int = 0
    sequence: int = 0
    leader: BrokerId | None = None


@dataclass(slots=True, eq=False)
class Append:
    """A batch until it is answered for good."""

    at: tuple[bytes, int]
    key: GroupKey
    value: bytes
    data: bytes
    expected: int
    committed: int
    """The committed end of the log when it was sent first."""
    sends: int = 0
    is_acknowledged: bool = False


class Appender(Caller):
    """One idempotent producer; one batch at a time."""

    def __init__(self, cluster: Cluster, rng: random.Random, name: str) -> None:
        super().__init__(cluster, rng)
        self.name = name
        self.appended = 0
        self._producer_id = -1
        self._places: dict[GroupKey, Place] = {}
        self._append: Append | None = None
        self._count = 0
        self._pause = rng.choice((0.01, 0.05))
        self._allocate()
        self.world.after(self._pause, self._work)

    @property
    def is_idle(self) -> bool:
        return self._append is None

    def _allocate(self) -> None:
        def handle(node: SimNode, reply: Reply) -> None:
            node.propose(AllocateProducerIds(broker_id=node.broker_id, count=1), reply, timeout=1.5)

        def allocated(result: Any) -> None:
            if isinstance(result, ProducerIdsAllocated):
                self.cluster.take_producer_ids(result.first, result.count)
                self._producer_id = result.first
            else:
                self.world.after(0.1, self._allocate)

        self.call(self.anyone(), handle, allocated)

    def _work(self) -> None:
        if not self.cluster.clients_work:
            return
        self.world.after(self.rng.expovariate(1.0 / self._pause) + 0.001, self._work)
        partitions = self.cluster.partitions()[:SHARED_MAX]
        if self._append is None and self._producer_id >= 0 and partitions:
            self._append = self._next(self.rng.choice(partitions))
            self._send(self._append)

    def _next(self, at: tuple[bytes, int]) -> Append:
        key = group_key(*at)
        place = self._places.setdefault(key, Place())
        expected = place.end + (self.rng.randint(1, 2) if self.rng.random() < AHEAD else 0)
        self._count += 1
        value = f"{self.name}.{self._count}".encode()
        record_key = self.rng.choice(KEYS) if at[0] in self.cluster.compacted else None
        data = encode_batch(
            [NewRecord(self.world.now_ms(), record_key, value)],
            producer_id=self._producer_id,
            producer_epoch=place.epoch,
            base_sequence=place.sequence,
        )
        committed = self.cluster.invariants.committed_end(key)
        return Append(at, key, value, bytes(data), expected, committed)

    def _send(self, append: Append) -> None:
        if append.at[0] in self.cluster.deleted:
            self._append = None
            return
        append.sends += 1
        place = self._places[append.key]
        broker = place.leader if place.leader is not None else self.anyone()
        self.call(broker, partial(self._handle, append), partial(self._answered, append, broker))

    def _handle(self, append: Append, node: SimNode, reply: Reply) -> None:
        """As the leader, if it is one."""
        partition, hint = node.partition(*append.at), node.leader_hint(*append.at)
        if partition is None:
            reply((ProduceResult(PartitionError.NOT_LEADER), hint))
            return

        def produced(result: ProduceResult) -> None:
            self._told(append, result)
            reply((result, node.leader_hint(*append.at)))

        partition.producing.produce(
            memoryview(bytearray(append.data)),
            now=self.world.now,
            now_ms=node.now_ms(),
            on_done=produced,
            expected_offset=append.expected,
        )

    def _told(self, append: Append, result: ProduceResult) -> None:
        """What a leader answers, whether or not it arrives. An end that is behind what was expected is final.
        One that is before it is final to who hears of it: whoever does not sends the batch again, and the
        log may have come to where it is expected."""
        invariants = self.cluster.invariants
        if append.at[0] in self.cluster.deleted:
            return
        if result.error is None:
            if result.base_offset != append.expected:
                raise Violation(
                    "an expected offset is kept",
                    f"{self.name}: {append.value!r} is at {result.base_offset}, not at {append.expected}",
                )
            invariants.acknowledged(append.key, result.base_offset, [append.value])
        elif result.error is PartitionError.OFFSET_MISMATCH:
            invariants.told_end(append.key, append.committed, result.base_offset)
            if result.base_offset == append.expected:
                raise Violation("an end that is told is another", f"{self.name}: {append.expected}")
            if append.is_acknowledged:
                raise Violation("a repeat is told the same", f"{self.name}: {append.value!r}, {result}")
            if result.base_offset > append.expected:
                invariants.will_not_happen(append.key, [append.value])

    def _answered(self, append: Append, broker: BrokerId, answer: Any) -> None:
        place = self._places[append.key]
        if answer is Timeout:
            place.leader = None
            self._again(append)
            return
        result, hint = answer
        match result.error:
            case None:
                place.leader = broker
                if append.is_acknowledged:
                    self._append = None
                    return
                self.appended += 1
                append.is_acknowledged = True
                place.end, place.sequence = append.expected + 1, place.sequence + 1
                if self.rng.random() < COPIES:
                    self._again(append)
                else:
                    self._append = None
            case PartitionError.OFFSET_MISMATCH:
                if append.sends == 1:  # otherwise an earlier copy may still be on its way
                    self.cluster.invariants.will_not_happen(append.key, [append.value])
                # As the client: what is not in the log is never sent again under the same numbers.
                place.leader, place.end = broker, result.base_offset
                place.epoch, place.sequence = place.epoch + 1, 0
                self._append = None
            case PartitionError.NOT_LEADER | PartitionError.MAY_STILL_HAPPEN:
                place.leader = hint if hint != broker else None
                self._again(append)
            case PartitionError.OVERLOADED | PartitionError.STORAGE_FAILED:
                place.leader = None
                self._again(append)
            case error:
                raise Violation("producers get on", f"{self.name}: {error} {result.message}")

    def _again(self, append: Append) -> None:
        self.world.after(self.rng.uniform(0.005, 0.1), partial(self._send, append))
