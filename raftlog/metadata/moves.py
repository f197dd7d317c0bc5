"""Moves: a partition's replicas on their way to other brokers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

from raftlog.metadata.catalog import Catalog, PartitionAssignment, Topic
from raftlog.metadata.noun import Command, Noun, Refusal, Refused, Result
from raftlog.metadata.topics import put_topic, replicas_problem, unknown_topic
from raftlog.types import BrokerId, RaftIndex


@dataclass(frozen=True, slots=True)
class PartitionMoved(Result):
    """A move began, ended or was given up: `topic.partitions[partition]` says which."""

    topic: Topic
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MovePartition(Command):
    """Wants the partition's replicas at `target`. The same brokers in another order take effect at
    once: that only changes the preferred leader."""

    kind: ClassVar[str] = "move_partition"
    topic_id: bytes
    partition: int
    target: tuple[BrokerId, ...]

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        topic = _topic_of(self, catalog)
        if isinstance(topic, Refused):
            return topic
        if (problem := replicas_problem(catalog, [self.target])) is not None:
            return Refused(Refusal.INVALID_REPLICAS, problem)
        redirected = _redirected(topic.partitions[self.partition], self.target, index)
        return _put_assignment(catalog, topic, self.partition, redirected)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishMove(Command):
    """The partition's Raft group has `target` as its members; refused if another move was wanted
    meanwhile: `since` is that of the assignment that is finished."""

    kind: ClassVar[str] = "finish_move"
    topic_id: bytes
    partition: int
    target: tuple[BrokerId, ...]
    since: int = 0

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        topic = _topic_of(self, catalog)
        if isinstance(topic, Refused):
            return topic
        now, then = topic.partitions[self.partition], PartitionAssignment(self.target)
        if now == then:
            return PartitionMoved(topic, self.partition)  # the same proposal, repeated
        if self.target != now.target or self.since != now.since:
            detail = f"{topic.name}-{self.partition} is not moving to {self.target}"
            return Refused(Refusal.NO_MOVE, detail)
        return _put_assignment(catalog, topic, self.partition, then)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelMove(Command):
    kind: ClassVar[str] = "cancel_move"
    topic_id: bytes
    partition: int

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        topic = _topic_of(self, catalog)
        if isinstance(topic, Refused):
            return topic
        now = topic.partitions[self.partition]
        if not now.is_moving:
            return Refused(Refusal.NO_MOVE, f"{topic.name}-{self.partition} is not moving")
        return _put_assignment(catalog, topic, self.partition, _redirected(now, now.replicas, index))


def _topic_of(command: MovePartition | FinishMove | CancelMove, catalog: Catalog) -> Topic | Refused:
    """The topic of a partition that there is."""
    topic = catalog.topics_by_id.get(command.topic_id)
    if topic is None:
        return unknown_topic(command.topic_id)
    if not 0 <= command.partition < len(topic.partitions):
        detail = f"topic {topic.name!r} has no partition {command.partition}"
        return Refused(Refusal.UNKNOWN_PARTITION, detail)
    return topic


def _put_assignment(catalog: Catalog, topic: Topic, number: int, moved: PartitionAssignment) -> Result:
    partitions = (*topic.partitions[:number], moved, *topic.partitions[number + 1 :])
    return PartitionMoved(put_topic(catalog, replace(topic, partitions=partitions)), number)


def _redirected(
    now: PartitionAssignment, target: tuple[BrokerId, ...], index: RaftIndex
) -> PartitionAssignment:
    """The assignment on its way to `target`. Whoever was to get a replica by an earlier target may have it,
    and vote, so it leaves with this move and not at once."""
    hosts = (*now.adding, *now.leaving)
    leaving = tuple(broker for broker in hosts if broker not in target)
    if set(target) == set(now.replicas) and not leaving:
        return PartitionAssignment(target)
    return PartitionAssignment(now.replicas, target, leaving, index)


MOVES: Final = Noun(commands=(MovePartition, FinishMove, CancelMove))
