"""The metadata state machine: applies commands to the catalog.

Decides: whether a command takes effect. Must not know: disks, sockets, clocks, the table of settings
(it differs between builds, and replicas of different builds must agree).

Invariants: `apply` is a function of the catalog, the command and its index alone; it never raises on a
command that could be decoded; a refusal changes nothing but `applied_index`. Two states that applied
the same commands have the same `digest()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from hashlib import blake2b
from typing import Final, assert_never

from raftlog.metadata import levels
from raftlog.metadata.catalog import (
    BrokerInfo,
    Catalog,
    PartitionAssignment,
    Topic,
)
from raftlog.metadata.commands import (
    AllocateProducerIds,
    AlterTopicConfig,
    CancelMove,
    Command,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    DrainBroker,
    FenceBroker,
    FinishMove,
    InitializeCluster,
    MovePartition,
    RegisterBroker,
    SetFeature,
    UnregisterBroker,
)
from raftlog.metadata.image import Imaging, canonical, decode_catalog, encode_catalog
from raftlog.metadata.names import topic_collision, topic_name_problem
from raftlog.metadata.offsets import (
    CommitOffsets,
    DeleteGroup,
    DeleteOffsets,
    ExpireOffsets,
    ExpireTopicOffsets,
)
from raftlog.metadata.results import (
    BrokerChanged,
    BrokerUnregistered,
    ClusterInitialized,
    FeatureSet,
    PartitionMoved,
    PartitionsCreated,
    ProducerIdsAllocated,
    Refusal,
    Refused,
    Result,
    TopicConfigAltered,
    TopicCreated,
    TopicDeleted,
)
from raftlog.types import METADATA_TOPIC_ID, BrokerId, RaftIndex

PRODUCER_ID_MAX: Final = 2**63 - 1
PRODUCER_ID_BLOCK_MAX: Final = 1_000_000
"""Ids in one block: what a broker that asks for too many may waste."""

DELETED_TOPICS_MAX: Final = 4096
"""Deleted topics that are remembered: more than go while one proposal is repeated."""

REMOVED_BROKERS_MAX: Final = 1024
"""Removed brokers that are remembered: more than a metadata group has ever had as voters."""

HOST_MAX: Final = 255
"""Characters of a host's name (RFC 1035), and of a rack's."""

FEATURE_NAME_MAX: Final = 249

_RESERVED_TOPIC_IDS: Final = (bytes(16), METADATA_TOPIC_ID)

_OFFSETS_AND_IDS: Final = (
    CommitOffsets,
    DeleteOffsets,
    DeleteGroup,
    ExpireOffsets,
    ExpireTopicOffsets,
    AllocateProducerIds,
)
"""The commands that leave brokers, topics and settings as they are."""


class MetadataState:
    """The catalog and how it changes.

    >>> state = MetadataState()
    >>> match state.apply(command, index):
    ...     case TopicCreated(topic): ...
    ...     case Refused(reason, detail): ...
    """

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.imaging = Imaging(self.catalog)
        """Makes the next snapshot."""

    def __repr__(self) -> str:
        catalog = self.catalog
        return (
            f"<MetadataState applied={catalog.applied_index} brokers={len(catalog.brokers)}"
            f" topics={len(catalog.topics)} groups={len(catalog.group_offsets)}>"
        )

    def apply(self, command: Command, index: RaftIndex) -> Result:
        """Apply the committed `command` at `index`. Several commands may share an index, when one entry
        holds them; it never goes back."""
        assert index >= self.catalog.applied_index, (index, self.catalog.applied_index)
        result = self._apply(command, index)
        self.catalog.applied_index = index
        if not isinstance(result, Refused) and not isinstance(command, _OFFSETS_AND_IDS):
            self.catalog.topology_index = index
        return result

    def digest(self) -> bytes:
        """32 bytes that are equal for equal states."""
        return blake2b(canonical(self.catalog), digest_size=32).digest()

    def to_bytes(self) -> bytes:
        """The whole state at once, for `restore`; `imaging` makes the same in steps."""
        return encode_catalog(self.catalog)

    def restore(self, data: bytes | bytearray | memoryview) -> None:
        """Become what `data` says. The Catalog stays the same object, so that whoever holds it goes on
        reading it. Raises InvalidInput, and changes nothing, when `data` is not a state."""
        restored = decode_catalog(data)
        self.imaging.give_up()
        for field in fields(Catalog):
            setattr(self.catalog, field.name, getattr(restored, field.name))

    def _apply(self, command: Command, index: RaftIndex) -> Result:
        match command:
            case InitializeCluster():
                return self._initialize(command)
            case RegisterBroker():
                return self._register(command, index)
            case FenceBroker():
                return self._fence(command)
            case DrainBroker():
                return self._drain(command)
            case UnregisterBroker():
                return self._unregister(command)
            case CreateTopic():
                return self._create_topic(command, index)
            case DeleteTopic():
                return self._with_topic(command.topic_id, self._delete_topic)
            case CreatePartitions():
                return self._with_topic(command.topic_id, lambda topic: self._add_partitions(topic, command))
            case AlterTopicConfig():
                return self._with_topic(command.topic_id, lambda topic: self._alter_topic(topic, command))
            case MovePartition() | FinishMove() | CancelMove():
                return self._with_topic(command.topic_id, lambda topic: self._move(topic, command, index))
            case CommitOffsets():
                return self.catalog.group_offsets.commit(command, self.catalog.partition_count)
            case DeleteOffsets():
                return self.catalog.group_offsets.delete(command) or _unknown_group(command.group)
            case DeleteGroup():
                return self.catalog.group_offsets.delete_group(command.group) or _unknown_group(command.group)
            case ExpireOffsets():
                return self.catalog.group_offsets.expire(command.groups, None, command.before_ms)
            case ExpireTopicOffsets():
                return self.catalog.group_offsets.expire([command.group], command.topics, command.before_ms)
            case AllocateProducerIds():
                return self._allocate_producer_ids(command)
            case SetFeature():
                return self._set_feature(command)
            case _:
                assert_never(command)

    # Cluster and brokers

    def _initialize(self, command: InitializeCluster) -> Result:
        known = self.catalog.cluster_id
        if known is not None and known != command.cluster_id:
            return Refused(Refusal.CLUSTER_NAMED, f"the cluster's id is {known}")
        if not command.cluster_id:
            return Refused(Refusal.INVALID_VALUE, "a cluster id cannot be empty")
        self.catalog.cluster_id = command.cluster_id
        return ClusterInitialized(command.cluster_id)

    def _register(self, command: RegisterBroker, index: RaftIndex) -> Result:
        if not _can_be_told(command):
            return Refused(
                Refusal.INVALID_VALUE, f"broker {command.broker_id}, its incarnation or address is malformed"
            )
        if command.metadata_level < self.catalog.metadata_level:
            return Refused(
                Refusal.INVALID_VALUE,
                f"its build knows the metadata up to level {command.metadata_level}, and the cluster is at"
                f" {self.catalog.metadata_level}: start it with the version that the others have",
            )
        known = self.catalog.brokers.get(command.broker_id)
        broker = BrokerInfo(
            id=command.broker_id,
            host=command.host,
            port=command.port,
            peer_host=command.peer_host,
            peer_port=command.peer_port,
            rack=command.rack,
            listeners=command.listeners,
            metadata_level=command.metadata_level,
            incarnation=command.incarnation,
            registered_index=index,
            draining=known is not None and known.draining,
        )
        if known is not None and known.incarnation == command.incarnation:
            # The same process again, by a proposal that was repeated or because its address changed.
            broker = replace(broker, registered_index=known.registered_index)
        return self._put_broker(broker)

    def _fence(self, command: FenceBroker) -> Result:
        known = self.catalog.brokers.get(command.broker_id)
        if known is None:
            return _unknown_broker(command.broker_id)
        if known.incarnation != command.incarnation:
            return Refused(Refusal.STALE_INCARNATION, f"broker {known.id} has started again since")
        return self._put_broker(replace(known, fenced=command.fenced))

    def _drain(self, command: DrainBroker) -> Result:
        known = self.catalog.brokers.get(command.broker_id)
        if known is None:
            return _unknown_broker(command.broker_id)
        return self._put_broker(replace(known, draining=command.draining))

    def _put_broker(self, broker: BrokerInfo) -> Result:
        self.catalog.brokers[broker.id] = broker
        self.catalog.removed_brokers.pop(broker.id, None)
        return BrokerChanged(broker)

    def _unregister(self, command: UnregisterBroker) -> Result:
        known = self.catalog.brokers.get(command.broker_id)
        if known is None:
            return _unknown_broker(command.broker_id)
        hosted = len(self.catalog.hosted_by(command.broker_id))
        if hosted:
            return Refused(Refusal.BROKER_HAS_REPLICAS, f"broker {known.id} keeps {hosted} replicas")
        del self.catalog.brokers[command.broker_id]
        removed = self.catalog.removed_brokers
        removed[command.broker_id] = None
        if len(removed) > REMOVED_BROKERS_MAX:
            del removed[next(iter(removed))]
        return BrokerUnregistered(known)

    def _set_feature(self, command: SetFeature) -> Result:
        if not 0 < len(command.name) <= FEATURE_NAME_MAX or not 0 <= command.level < 2**15:
            return Refused(
                Refusal.INVALID_VALUE, f"feature {command.name[:60]!r} cannot have level {command.level}"
            )
        if command.name == levels.FEATURE:
            known = levels.known_to_all(self.catalog.brokers.values())
            if not self.catalog.metadata_level <= command.level <= known:
                detail = (
                    f"from level {self.catalog.metadata_level} to {command.level}: every broker knows {known}"
                )
                return Refused(Refusal.INVALID_VALUE, detail)
        if command.level:
            self.catalog.features[command.name] = command.level
        else:
            self.catalog.features.pop(command.name, None)
        return FeatureSet(command.name, command.level)

    # Topics

    def _with_topic(self, topic_id: bytes, apply: Callable[[Topic], Result]) -> Result:
        topic = self.catalog.topics_by_id.get(topic_id)
        if topic is None:
            return Refused(Refusal.UNKNOWN_TOPIC, f"there is no topic with id {topic_id.hex()}")
        return apply(topic)

    def _put_topic(self, topic: Topic) -> Topic:
        self.catalog.topics[topic.name] = topic
        self.catalog.topics_by_id[topic.topic_id] = topic
        return topic

    def _create_topic(self, command: CreateTopic, index: RaftIndex) -> Result:
        known = self.catalog.topics.get(command.name)
        if known is not None and known.topic_id == command.topic_id:
            return TopicCreated(known)
        if command.topic_id in self.catalog.deleted_topics:
            return Refused(Refusal.UNKNOWN_TOPIC, f"topic {command.name!r} has been deleted since")
        if known is not None:
            return Refused(Refusal.TOPIC_EXISTS, f"topic {command.name!r} exists already")
        if (problem := topic_name_problem(command.name)) is not None:
            return Refused(Refusal.INVALID_TOPIC, problem)
        if (other := topic_collision(command.name, self.catalog.topics)) is not None:
            return Refused(
                Refusal.INVALID_TOPIC, f"{command.name!r} differs from {other!r} only in '.' and '_'"
            )
        used = command.topic_id in self.catalog.topics_by_id or command.topic_id in _RESERVED_TOPIC_IDS
        if used or len(command.topic_id) != 16:
            return Refused(Refusal.INVALID_TOPIC, f"topic id {command.topic_id.hex()} cannot be given")
        if not command.partitions:
            return Refused(Refusal.INVALID_PARTITIONS, "a topic has at least one partition")
        if (problem := self._replicas_problem(command.partitions)) is not None:
            return Refused(Refusal.INVALID_REPLICAS, problem)
        partitions = tuple(map(PartitionAssignment, command.partitions))
        topic = Topic(command.name, command.topic_id, partitions, dict(command.configs), index)
        return TopicCreated(self._put_topic(topic))

    def _delete_topic(self, topic: Topic) -> Result:
        del self.catalog.topics[topic.name]
        del self.catalog.topics_by_id[topic.topic_id]
        deleted = self.catalog.deleted_topics
        deleted[topic.topic_id] = None
        if len(deleted) > DELETED_TOPICS_MAX:
            del deleted[next(iter(deleted))]
        self.catalog.group_offsets.topic_deleted(topic.name)
        return TopicDeleted(topic)

    def _add_partitions(self, topic: Topic, command: CreatePartitions) -> Result:
        first = len(topic.partitions)
        if command.existing != first or not command.partitions:
            detail = f"topic {topic.name!r} has {first} partitions, {command.existing} were expected"
            return Refused(Refusal.INVALID_PARTITIONS, detail)
        if (problem := self._replicas_problem(command.partitions)) is not None:
            return Refused(Refusal.INVALID_REPLICAS, problem)
        added = tuple(map(PartitionAssignment, command.partitions))
        return PartitionsCreated(self._put_topic(replace(topic, partitions=topic.partitions + added)), first)

    def _alter_topic(self, topic: Topic, command: AlterTopicConfig) -> Result:
        configs = _altered(topic.configs, command.set, command.remove)
        return TopicConfigAltered(self._put_topic(replace(topic, configs=configs)))

    def _move(
        self, topic: Topic, command: MovePartition | FinishMove | CancelMove, index: RaftIndex
    ) -> Result:
        number = command.partition
        if not 0 <= number < len(topic.partitions):
            return Refused(Refusal.UNKNOWN_PARTITION, f"topic {topic.name!r} has no partition {number}")
        now = topic.partitions[number]
        match command:
            case MovePartition(target=target):
                if (problem := self._replicas_problem([target])) is not None:
                    return Refused(Refusal.INVALID_REPLICAS, problem)
                moved = _redirected(now, target, index)
            case FinishMove(target=target, since=since):
                if now == PartitionAssignment(target):
                    return PartitionMoved(topic, number)  # the same proposal, repeated
                if target != now.target or since != now.since:
                    return Refused(Refusal.NO_MOVE, f"{topic.name}-{number} is not moving to {target}")
                moved = PartitionAssignment(target)
            case CancelMove():
                if not now.is_moving:
                    return Refused(Refusal.NO_MOVE, f"{topic.name}-{number} is not moving")
                moved = _redirected(now, now.replicas, index)
        partitions = (*topic.partitions[:number], moved, *topic.partitions[number + 1 :])
        return PartitionMoved(self._put_topic(replace(topic, partitions=partitions)), number)

    def _replicas_problem(self, partitions: Iterable[tuple[BrokerId, ...]]) -> str | None:
        for replicas in partitions:
            if not replicas:
                return "a partition has at least one replica"
            if len(set(replicas)) < len(replicas):
                return f"a broker is named twice in {list(replicas)}"
            for broker in replicas:
                if broker not in self.catalog.brokers:
                    return f"broker {broker} is not registered"
        return None

    # Producers

    def _allocate_producer_ids(self, command: AllocateProducerIds) -> Result:
        first = self.catalog.next_producer_id
        if not 0 < command.count <= PRODUCER_ID_BLOCK_MAX or first + command.count > PRODUCER_ID_MAX:
            return Refused(
                Refusal.INVALID_VALUE, f"{command.count} producer ids from {first} cannot be given"
            )
        self.catalog.next_producer_id = first + command.count
        return ProducerIdsAllocated(first, command.count)


def _can_be_told(command: RegisterBroker) -> bool:
    """Whether a broker's line fits the answers to clients."""
    names = (command.host, command.peer_host, command.rack or "")
    return (
        0 <= command.broker_id < 2**31
        and len(command.incarnation) == 16
        and all(len(name) <= HOST_MAX for name in names)
        and all(0 <= port < 2**16 for port in (command.port, command.peer_port))
    )


def _unknown_broker(broker: BrokerId) -> Refused:
    return Refused(Refusal.UNKNOWN_BROKER, f"broker {broker} is not registered")


def _unknown_group(group: str) -> Refused:
    return Refused(Refusal.UNKNOWN_GROUP, f"group {group[:60]!r} has no offsets")


def _altered(configs: Mapping[str, str], set_: Mapping[str, str], remove: Iterable[str]) -> dict[str, str]:
    """Removed first: a key that is both removed and set is set."""
    removed = frozenset(remove)
    kept = {name: value for name, value in configs.items() if name not in removed}
    return {**kept, **set_}


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
