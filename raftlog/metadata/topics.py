"""Topics: their partitions, where the replicas of those are, and what was set on them.

Who leads a partition is not here: leadership is the partition's own business and is told as hints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from raftlog.errors import InvalidInput
from raftlog.metadata import codec
from raftlog.metadata.catalog import Catalog, PartitionAssignment, Topic
from raftlog.metadata.names import topic_collision, topic_name_problem
from raftlog.metadata.noun import Command, Field, Noun, Refusal, Refused, Result, Table
from raftlog.types import METADATA_TOPIC_ID, BrokerId, RaftIndex

DELETED_TOPICS_MAX: Final = 4096
"""Deleted topics that are remembered: more than go while one proposal is repeated."""

COMPACTION_LEVEL: Final = 6
"""The metadata level from which on a topic may be given `cleanup.policy=compact`. A build that does not know
it would delete by `retention.ms`, or could not be given the files of a log that was compacted."""

_RESERVED_TOPIC_IDS: Final = (bytes(16), METADATA_TOPIC_ID)


# What they come to


@dataclass(frozen=True, slots=True)
class TopicCreated(Result):
    """Also the answer to the same command applied again: the id says that it is the same topic."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class TopicDeleted(Result):
    topic: Topic


@dataclass(frozen=True, slots=True)
class PartitionsCreated(Result):
    topic: Topic
    first: int
    """The number of the first new partition."""


@dataclass(frozen=True, slots=True)
class TopicConfigAltered(Result):
    topic: Topic


# Commands


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTopic(Command):
    """`partitions` are the replica lists, first the preferred leader. Settings are checked before the
    proposal, not when it is applied: the table of settings differs between builds."""

    kind: ClassVar[str] = "create_topic"
    grows: ClassVar[str] = "partitions"
    name: str
    topic_id: bytes
    partitions: tuple[tuple[BrokerId, ...], ...]
    configs: Mapping[str, str] = field(default_factory=dict)

    @property
    def takes_level(self) -> int:
        return max(self.needs_level, _level(self.configs))

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        known = catalog.topics.get(self.name)
        if known is not None and known.topic_id == self.topic_id:
            return TopicCreated(known)
        if self.topic_id in catalog.deleted_topics:
            return Refused(Refusal.UNKNOWN_TOPIC, f"topic {self.name!r} has been deleted since")
        if known is not None:
            return Refused(Refusal.TOPIC_EXISTS, f"topic {self.name!r} exists already")
        if (problem := topic_name_problem(self.name)) is not None:
            return Refused(Refusal.INVALID_TOPIC, problem)
        if (other := topic_collision(self.name, catalog.topics)) is not None:
            return Refused(Refusal.INVALID_TOPIC, f"{self.name!r} differs from {other!r} only in '.' and '_'")
        used = self.topic_id in catalog.topics_by_id or self.topic_id in _RESERVED_TOPIC_IDS
        if used or len(self.topic_id) != 16:
            return Refused(Refusal.INVALID_TOPIC, f"topic id {self.topic_id.hex()} cannot be given")
        if not self.partitions:
            return Refused(Refusal.INVALID_PARTITIONS, "a topic has at least one partition")
        if (problem := replicas_problem(catalog, self.partitions)) is not None:
            return Refused(Refusal.INVALID_REPLICAS, problem)
        partitions = tuple(map(PartitionAssignment, self.partitions))
        topic = Topic(self.name, self.topic_id, partitions, dict(self.configs), index)
        return TopicCreated(put_topic(catalog, topic))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTopic(Command):
    """Deletes the topic and every group's offsets in it."""

    kind: ClassVar[str] = "delete_topic"
    topic_id: bytes

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        topic = catalog.topics_by_id.pop(self.topic_id, None)
        if topic is None:
            return unknown_topic(self.topic_id)
        del catalog.topics[topic.name]
        deleted = catalog.deleted_topics
        deleted[topic.topic_id] = None
        if len(deleted) > DELETED_TOPICS_MAX:
            del deleted[next(iter(deleted))]
        catalog.group_offsets.topic_deleted(topic.name)
        catalog.transactions.topic_deleted(topic.name)
        return TopicDeleted(topic)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartitions(Command):
    """Adds partitions; refused unless the topic has `existing` of them."""

    kind: ClassVar[str] = "create_partitions"
    grows: ClassVar[str] = "partitions"
    topic_id: bytes
    existing: int
    partitions: tuple[tuple[BrokerId, ...], ...]

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        topic = catalog.topics_by_id.get(self.topic_id)
        if topic is None:
            return unknown_topic(self.topic_id)
        first = len(topic.partitions)
        if self.existing != first or not self.partitions:
            detail = f"topic {topic.name!r} has {first} partitions, {self.existing} were expected"
            return Refused(Refusal.INVALID_PARTITIONS, detail)
        if (problem := replicas_problem(catalog, self.partitions)) is not None:
            return Refused(Refusal.INVALID_REPLICAS, problem)
        added = tuple(map(PartitionAssignment, self.partitions))
        topic = replace(topic, partitions=topic.partitions + added)
        return PartitionsCreated(put_topic(catalog, topic), first)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterTopicConfig(Command):
    """Removed first: a key that is both removed and set is set."""

    kind: ClassVar[str] = "alter_topic_config"
    topic_id: bytes
    set: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()

    @property
    def takes_level(self) -> int:
        return max(self.needs_level, _level(self.set))

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        topic = catalog.topics_by_id.get(self.topic_id)
        if topic is None:
            return unknown_topic(self.topic_id)
        removed = frozenset(self.remove)
        kept = {name: value for name, value in topic.configs.items() if name not in removed}
        return TopicConfigAltered(put_topic(catalog, replace(topic, configs={**kept, **self.set})))


def put_topic(catalog: Catalog, topic: Topic) -> Topic:
    catalog.topics[topic.name] = topic
    catalog.topics_by_id[topic.topic_id] = topic
    return topic


def unknown_topic(topic_id: bytes) -> Refused:
    return Refused(Refusal.UNKNOWN_TOPIC, f"there is no topic with id {topic_id.hex()}")


def replicas_problem(catalog: Catalog, partitions: Iterable[tuple[BrokerId, ...]]) -> str | None:
    """Why partitions cannot have these replicas, or None."""
    for replicas in partitions:
        if not replicas:
            return "a partition has at least one replica"
        if len(set(replicas)) < len(replicas):
            return f"a broker is named twice in {list(replicas)}"
        for broker in replicas:
            if broker not in catalog.brokers:
                return f"broker {broker} is not registered"
    return None


# In an image


def _level(configs: Mapping[str, str]) -> int:
    return COMPACTION_LEVEL if "compact" in configs.get("cleanup.policy", "") else 1


class _Encoding:
    """The topics by name, each as its row."""

    def __init__(self, catalog: Catalog) -> None:
        self._left = [topic for _, topic in sorted(catalog.topics.items(), reverse=True)]
        self._rows: list[bytes] = []

    def encode_some(self, cost_max: int) -> int:
        while self._left and cost_max > 0:
            topic = self._left.pop()
            cost_max -= 1 if topic.is_encoded else 1 + len(topic.partitions)
            self._rows.append(topic.encoded())
        return cost_max if not self._left else 0

    def take_image(self) -> list[bytes]:
        assert not self._left, len(self._left)
        return codec.array_of(self._rows)


def _canonical(catalog: Catalog) -> bytes:
    return b"".join(topic.encoded() for _, topic in sorted(catalog.topics.items()))


def put_topics(catalog: Catalog, plain: object) -> None:
    """What an image holds of them."""
    for row in plain if isinstance(plain, list) else [plain]:
        put_topic(catalog, _topic_from_plain(row))


def _topic_from_plain(plain: object) -> Topic:
    match plain:
        case [str(name), bytes(topic_id), list(partitions), configs, int(created)]:
            return Topic(
                name,
                topic_id,
                tuple(map(_assignment_from_plain, partitions)),
                codec.from_plain_as(Mapping[str, str], configs),
                RaftIndex(created),
            )
        case _:
            raise InvalidInput(f"a topic is a row of five, not {str(plain)[:60]}")


def _assignment_from_plain(plain: object) -> PartitionAssignment:
    match plain:
        case [list(replicas), list(target), list(leaving), int(since)]:
            return PartitionAssignment(tuple(replicas), tuple(target), tuple(leaving), RaftIndex(since))
        case _:
            raise InvalidInput(f"a partition is a row of four, not {str(plain)[:60]}")


TOPICS: Final = Noun(
    commands=(CreateTopic, DeleteTopic, CreatePartitions, AlterTopicConfig),
    fields=(
        Field(
            name="deleted_topics",
            form=tuple[bytes, ...],
            get=lambda catalog: tuple(catalog.deleted_topics),
            put=lambda catalog, deleted: catalog.deleted_topics.update(dict.fromkeys(deleted)),
            is_optional=True,
        ),
    ),
    table=Table(begin=_Encoding, canonical=_canonical, put=put_topics),
)
