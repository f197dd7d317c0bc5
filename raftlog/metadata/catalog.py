"""The catalog: what the cluster has agreed on, as values that everyone may read, and the nouns it is made of.

It decides nothing: only commands change it, as they are applied. Brokers and topics are replaced, never
changed in place, so that a reader that holds a Topic holds a consistent one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from raftlog.metadata.brokers import BROKERS, BrokerInfo
from raftlog.metadata.cluster import CLUSTER
from raftlog.metadata.features import FEATURES, METADATA_LEVEL
from raftlog.metadata.moves import MOVES
from raftlog.metadata.noun import Noun
from raftlog.metadata.offset_table import CommittedOffset, Offsets
from raftlog.metadata.offsets import OFFSETS
from raftlog.metadata.producers import PRODUCERS
from raftlog.metadata.topics import TOPICS, Topic
from raftlog.types import BEFORE_ALL, BrokerId, RaftIndex

NOUNS: Final[tuple[Noun, ...]] = (CLUSTER, TOPICS, MOVES, BROKERS, FEATURES, PRODUCERS, OFFSETS)
"""All of them. An image holds their parts in this order: it changes only by additions at the end."""


@dataclass(slots=True)
class Catalog:
    """The whole state. Read it; never write it."""

    cluster_id: str | None = None
    brokers: dict[BrokerId, BrokerInfo] = field(default_factory=dict)
    topics: dict[str, Topic] = field(default_factory=dict)
    topics_by_id: dict[bytes, Topic] = field(default_factory=dict)
    group_offsets: Offsets = field(default_factory=Offsets)
    features: dict[str, int] = field(default_factory=dict)
    deleted_topics: dict[bytes, None] = field(default_factory=dict)
    """The ids of the topics that were deleted last, oldest first: a proposal to create one of them that was
    repeated, since its answer was lost, must not bring it back."""
    removed_brokers: dict[BrokerId, None] = field(default_factory=dict)
    """The brokers that were removed last, oldest first, and have not come back: not to be taken for founders
    that have yet to register."""
    next_producer_id: int = 0
    applied_index: RaftIndex = BEFORE_ALL
    topology_index: RaftIndex = BEFORE_ALL
    """The last entry that changed brokers, topics or settings: what an encoded Metadata answer is
    cached by. Offsets and producer ids do not move it."""

    def topic(self, name_or_id: str | bytes) -> Topic | None:
        if isinstance(name_or_id, str):
            return self.topics.get(name_or_id)
        return self.topics_by_id.get(name_or_id)

    def committed_offset(self, group: str, topic: str, partition: int) -> CommittedOffset | None:
        return self.group_offsets.rows(group, topic).get(partition)

    def partition_count(self, topic: str) -> int:
        """0 where there is no such topic."""
        known = self.topics.get(topic)
        return len(known.partitions) if known is not None else 0

    @property
    def metadata_level(self) -> int:
        """Which commands may be proposed (`features`)."""
        return self.features.get(METADATA_LEVEL, 1)

    def usable_brokers(self) -> list[BrokerInfo]:
        """Where new replicas may go, by id."""
        return [broker for _, broker in sorted(self.brokers.items()) if broker.is_usable]

    def hosted_by(self, broker: BrokerId) -> list[tuple[Topic, int]]:
        """The replicas that a broker keeps, as (topic, partition)."""
        return [
            (topic, number)
            for topic in self.topics.values()
            for number, assignment in enumerate(topic.partitions)
            if broker in assignment.hosts
        ]
