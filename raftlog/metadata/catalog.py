"""The catalog: what the cluster has agreed on, as values that everyone may read.

It decides nothing: only commands change it, as they are applied. Brokers and topics are replaced, never
changed in place, so that a reader that holds a Topic holds a consistent one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import cbor2

from raftlog.metadata.acl_table import Acls
from raftlog.metadata.group_table import Groups
from raftlog.metadata.names import INTERNAL_TOPICS
from raftlog.metadata.offset_table import CommittedOffset, Offsets
from raftlog.metadata.quota_table import Quotas
from raftlog.metadata.transaction_table import Transactions
from raftlog.metadata.user_table import Users
from raftlog.types import BEFORE_ALL, BrokerId, RaftIndex

METADATA_LEVEL: Final = "raftlog.metadata.level"
"""The feature whose finalized level the cluster's is; without it that is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerInfo:
    """A registered broker. `incarnation` is new with every start of the process, 16 bytes."""

    id: BrokerId
    host: str
    port: int
    peer_host: str
    peer_port: int
    rack: str | None = None
    incarnation: bytes = bytes(16)
    registered_index: RaftIndex = BEFORE_ALL
    """The index of the registration: what Kafka calls the broker epoch."""
    fenced: bool = False
    """Not to be given work: it has not been heard of."""
    draining: bool = False
    """Not to be given new replicas: it is being emptied."""
    listeners: tuple[tuple[str, str, int], ...] = ()
    """(name, host, port) of the Kafka listeners if there are several; `host` and `port` are the first's."""
    metadata_level: int = 1
    """Up to which level its build knows the metadata commands."""

    def address(self, listener: str) -> tuple[str, int]:
        """Where clients of the listener of that name reach the broker: a broker that has none of that name
        is reached by its first."""
        for name, host, port in self.listeners:
            if name == listener:
                return host, port
        return self.host, self.port

    @property
    def is_usable(self) -> bool:
        """Whether new replicas may be placed on it."""
        return not self.fenced and not self.draining


@dataclass(frozen=True, slots=True)
class PartitionAssignment:
    """Where a partition's replicas are. The first is the preferred leader.

    While the partition is being moved, `target` is where to; empty otherwise.
    """

    replicas: tuple[BrokerId, ...]
    target: tuple[BrokerId, ...] = ()
    leaving: tuple[BrokerId, ...] = ()
    """Those of a target that was given up: they may be members of the group by now, even its majority, so
    they keep what they have until the move that replaced theirs is finished."""
    since: RaftIndex = BEFORE_ALL
    """The entry that wanted `target`: what tells a move from an earlier one to the same brokers."""

    @property
    def is_moving(self) -> bool:
        return bool(self.target)

    @property
    def adding(self) -> tuple[BrokerId, ...]:
        return tuple(broker for broker in self.target if broker not in self.replicas)

    @property
    def removing(self) -> tuple[BrokerId, ...]:
        if not self.target:
            return ()
        return tuple(broker for broker in self.replicas if broker not in self.target) + self.leaving

    @property
    def hosts(self) -> tuple[BrokerId, ...]:
        """Every broker that keeps a replica now: what Kafka's Metadata shows while a move is under way."""
        return self.replicas + self.adding + self.leaving

    @property
    def preferred_leader(self) -> BrokerId:
        return self.replicas[0]


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    topic_id: bytes
    """16 bytes, never reused: a topic that is deleted and made again has another."""
    partitions: tuple[PartitionAssignment, ...]
    configs: Mapping[str, str] = field(default_factory=dict)
    """Only what was set on the topic itself; defaults come from `raftlog.config.TopicConfig`."""
    created_index: RaftIndex = BEFORE_ALL
    _encoded: bytes = field(default=b"", init=False, repr=False, compare=False)

    @property
    def is_internal(self) -> bool:
        return self.name in INTERNAL_TOPICS

    @property
    def replication_factor(self) -> int:
        """As clients are shown it: that of the first partition."""
        return len(self.partitions[0].replicas)

    @property
    def is_encoded(self) -> bool:
        return bool(self._encoded)

    def encoded(self) -> bytes:
        """The topic in an image. Kept, for the next one: a topic that changes is another value."""
        if not self._encoded:
            partitions = [(at.replicas, at.target, at.leaving, at.since) for at in self.partitions]
            configs = {name: self.configs[name] for name in sorted(self.configs)}
            row = cbor2.dumps([self.name, self.topic_id, partitions, configs, self.created_index])
            object.__setattr__(self, "_encoded", row)
        return self._encoded


@dataclass(slots=True)
class Catalog:
    """The whole state. Read it; never write it."""

    cluster_id: str | None = None
    brokers: dict[BrokerId, BrokerInfo] = field(default_factory=dict)
    topics: dict[str, Topic] = field(default_factory=dict)
    topics_by_id: dict[bytes, Topic] = field(default_factory=dict)
    group_offsets: Offsets = field(default_factory=Offsets)
    groups: Groups = field(default_factory=Groups)
    """The members of classic groups; a group that only has offsets is not in it."""
    transactions: Transactions = field(default_factory=Transactions)
    acls: Acls = field(default_factory=Acls)
    """Who may do what, for brokers with an authorizer."""
    quotas: Quotas = field(default_factory=Quotas)
    users: Users = field(default_factory=Users)
    features: dict[str, int] = field(default_factory=dict)
    features_chosen_at: RaftIndex = BEFORE_ALL
    """The last entry by which an administrator chose the level of a feature."""
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
