"""The client's picture of the cluster: brokers, topics, who leads which partition.

Pure: answers of Metadata go in, questions are answered from what is known. A leader epoch never goes
back for the same topic id: an older picture than one seen is ignored (KIP-320).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from raftlog.protocol.errors import ErrorCode


class TopicPartition(NamedTuple):
    """A partition by its topic's name and its number."""

    topic: str
    partition: int

    def __repr__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """A broker and where it listens."""

    id: int
    host: str
    port: int
    rack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView:
    """A partition as the brokers last described it. `leader` is None while there is none."""

    partition: int
    leader: int | None
    leader_epoch: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicView:
    """A topic as the brokers last described it."""

    name: str
    topic_id: bytes
    is_internal: bool
    partitions: tuple[PartitionView, ...]

    @property
    def available(self) -> list[int]:
        """The partitions that have a leader."""
        return [p.partition for p in self.partitions if p.leader is not None]


class MetadataCache:
    """What is known now. `version` counts the updates."""

    def __init__(self) -> None:
        self.version = 0
        self.updated_at = float("-inf")
        self.cluster_id: str | None = None
        self.controller_id: int | None = None
        self.brokers: dict[int, Broker] = {}
        self.topics: dict[str, TopicView] = {}
        self.errors: dict[str, ErrorCode] = {}
        self._names: dict[bytes, str] = {}

    def update(self, answer: Any, now: float, *, every_topic: bool = False) -> None:
        """Take in an answer of Metadata; `every_topic` when it was asked for all that there are."""
        self.version += 1
        self.updated_at = now
        self.cluster_id = getattr(answer, "cluster_id", None) or self.cluster_id
        controller = getattr(answer, "controller_id", -1)
        self.controller_id = int(controller) if controller >= 0 else None
        if answer.brokers:
            self.brokers = {
                int(b.node_id): Broker(id=int(b.node_id), host=b.host, port=int(b.port), rack=b.rack)
                for b in answer.brokers
            }
        seen = set()
        for topic in answer.topics:
            if topic.name is None:
                continue
            seen.add(str(topic.name))
            self._update_topic(topic)
        if every_topic:
            for name in [name for name in self.topics if name not in seen]:
                self._forget(name)

    def _update_topic(self, topic: Any) -> None:
        name, error = str(topic.name), ErrorCode.of(int(topic.error_code))
        if error not in (ErrorCode.NONE, ErrorCode.LEADER_NOT_AVAILABLE):
            self.errors[name] = error
            if error == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                self._forget(name)
            return
        if not topic.partitions:
            self.errors[name] = ErrorCode.LEADER_NOT_AVAILABLE
            return
        self.errors.pop(name, None)
        topic_id = getattr(topic, "topic_id", None)
        known = self.topics.get(name)
        view = TopicView(
            name=name,
            topic_id=topic_id.bytes if topic_id is not None else bytes(16),
            is_internal=bool(topic.is_internal),
            partitions=tuple(
                _partition(p) for p in sorted(topic.partitions, key=lambda p: int(p.partition_index))
            ),
        )
        if known is not None and known.topic_id == view.topic_id:
            view = _newer(known, view)
        self.topics[name] = view
        if any(view.topic_id):
            self._names[view.topic_id] = name

    def _forget(self, name: str) -> None:
        known = self.topics.pop(name, None)
        if known is not None:
            self._names.pop(known.topic_id, None)

    def topic_of(self, topic_id: bytes) -> str | None:
        """The name of a topic id."""
        return self._names.get(topic_id)

    def topic_ids(self, names: Iterable[str]) -> list[bytes]:
        """The ids of topics, zeros for those that are not known."""
        return [view.topic_id if (view := self.topics.get(name)) else bytes(16) for name in names]

    def partition(self, topic: str, partition: int) -> PartitionView | None:
        """A partition, None when it is not known."""
        view = self.topics.get(topic)
        if view is None or not 0 <= partition < len(view.partitions):
            return None
        return view.partitions[partition]

    def leader(self, topic: str, partition: int) -> int | None:
        """Who leads a partition, None when that is not known."""
        view = self.partition(topic, partition)
        return view.leader if view is not None else None

    def learn_leader(self, topic: str, partition: int, leader: int, epoch: int) -> bool:
        """Believe a hint about a partition's leader that came with an error (KIP-951), if it is news."""
        known = self.topics.get(topic)
        view = self.partition(topic, partition)
        if known is None or view is None or epoch <= view.leader_epoch or leader not in self.brokers:
            return False
        parts = list(known.partitions)
        parts[partition] = PartitionView(
            partition=partition,
            leader=leader,
            leader_epoch=epoch,
            replicas=view.replicas,
            in_sync=view.in_sync,
        )
        self.topics[topic] = TopicView(
            name=known.name, topic_id=known.topic_id, is_internal=known.is_internal, partitions=tuple(parts)
        )
        return True

    def __repr__(self) -> str:
        return (
            f"<MetadataCache version={self.version} brokers={sorted(self.brokers)} topics={len(self.topics)}>"
        )


def _partition(partition: Any) -> PartitionView:
    leader = int(partition.leader_id)
    return PartitionView(
        partition=int(partition.partition_index),
        leader=leader if leader >= 0 else None,
        leader_epoch=int(getattr(partition, "leader_epoch", -1)),
        replicas=tuple(int(r) for r in partition.replica_nodes),
        in_sync=tuple(int(r) for r in partition.isr_nodes),
    )


def _newer(known: TopicView, view: TopicView) -> TopicView:
    """`view`, with the partitions of `known` where those have seen a later epoch."""
    parts = list(view.partitions)
    for old in known.partitions[: len(parts)]:
        new = parts[old.partition]
        if -1 < new.leader_epoch < old.leader_epoch:
            parts[old.partition] = old
    return TopicView(
        name=view.name, topic_id=view.topic_id, is_internal=view.is_internal, partitions=tuple(parts)
    )
