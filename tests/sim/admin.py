"""Somebody who administers: topics, records, replicas, brokers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.metadata.brokers import DrainBroker
from raftlog.metadata.moves import MovePartition
from raftlog.metadata.noun import Command, Refusal, Refused, Result
from raftlog.metadata.topics import (
    AlterTopicConfig,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    PartitionsCreated,
    TopicCreated,
)
from raftlog.partition.values import PartitionError
from raftlog.types import BrokerId, group_key
from tests.sim.clients import Caller, Reply, Timeout
from tests.sim.node import SimNode
from tests.sim.world import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster


COMPACTED: Final = 0.3
"""How many topics are compacted, where the profile says so."""
COMPACTION: Final = {
    "cleanup.policy": "compact",
    "segment.bytes": "1024",
    "min.cleanable.dirty.ratio": "0.05",
    "delete.retention.ms": "1000",
}


class Admin(Caller):
    """Creates and deletes topics, deletes records, adds partitions, moves replicas, drains brokers."""

    def __init__(self, cluster: Cluster, rng: random.Random, *, pace: float, moves: bool) -> None:
        super().__init__(cluster, rng)
        self.created = self.deleted = self.moved = self.truncated = 0
        self._gone: list[str] = []
        """Names of topics that were deleted; some are made again."""
        self._count = 0
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
        plain = [topic for topic in topics if topic not in self.cluster.compacted]
        if plain and self.rng.random() < 0.4:
            self._delete_records(self.rng.choice(plain))
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
        partitions = tuple(self._replicas() for _ in range(self.rng.choice((1, 1, 2))))
        topic_id, configs = self.rng.randbytes(16), self._configs()
        if self.cluster.profile.compacts and self.rng.random() < COMPACTED:
            self.cluster.compacted.add(topic_id)
            configs |= COMPACTION
        command = CreateTopic(name=name, topic_id=topic_id, partitions=partitions, configs=configs)

        def created(result: Result | None) -> None:
            if isinstance(result, TopicCreated):
                self.created += 1
                self.cluster.topic_created(command.topic_id, name, len(partitions))
            elif self.created == 0:
                self.world.after(0.2, lambda: self._ask(command, created))

        self._ask(command, created)

    def _delete(self, topic_id: bytes) -> None:
        name = self.cluster.topics[topic_id]
        self.cluster.topic_deleted(topic_id)

        def again(result: Result | None) -> None:
            if result is None:
                self.world.after(0.5, lambda: self._ask(DeleteTopic(topic_id=topic_id), again))
            else:
                self.deleted += 1
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
