"""What applying a command came to. A refusal is an answer like any other: it is applied too."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from raftlog.metadata.catalog import BrokerInfo, Topic
from raftlog.metadata.offsets import OffsetsCommitted, OffsetsDeleted


class Refusal(Enum):
    """Why a command changed nothing."""

    TOPIC_EXISTS = auto()
    UNKNOWN_TOPIC = auto()
    INVALID_TOPIC = auto()
    """A name that is not allowed, or that collides with another's."""
    INVALID_PARTITIONS = auto()
    """No partitions, or not as many as the command expects."""
    INVALID_REPLICAS = auto()
    """No replicas, one twice, or on a broker that is not registered."""
    UNKNOWN_PARTITION = auto()
    NO_MOVE = auto()
    """There is no move under way, or it has another target."""
    UNKNOWN_BROKER = auto()
    STALE_INCARNATION = auto()
    BROKER_HAS_REPLICAS = auto()
    CLUSTER_NAMED = auto()
    """The cluster has another id already."""
    UNKNOWN_GROUP = auto()
    INVALID_VALUE = auto()
    TOO_LARGE = auto()
    """More bytes than a command may have, or the catalog has no room for more."""
    MALFORMED = auto()
    """An entry that is no command, or one that is not used any more."""


@dataclass(frozen=True, slots=True)
class Refused:
    reason: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class ClusterInitialized:
    cluster_id: str


@dataclass(frozen=True, slots=True)
class BrokerChanged:
    """Registered, fenced, unfenced or draining."""

    broker: BrokerInfo


@dataclass(frozen=True, slots=True)
class BrokerUnregistered:
    broker: BrokerInfo


@dataclass(frozen=True, slots=True)
class TopicCreated:
    """Also the answer to the same command applied again: the id says that it is the same topic."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class TopicDeleted:
    topic: Topic


@dataclass(frozen=True, slots=True)
class PartitionsCreated:
    topic: Topic
    first: int
    """The number of the first new partition."""


@dataclass(frozen=True, slots=True)
class TopicConfigAltered:
    topic: Topic


@dataclass(frozen=True, slots=True)
class PartitionMoved:
    """A move began, ended or was given up: `topic.partitions[partition]` says which."""

    topic: Topic
    partition: int


@dataclass(frozen=True, slots=True)
class ProducerIdsAllocated:
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class FeatureSet:
    name: str
    level: int


Result = (
    Refused
    | ClusterInitialized
    | BrokerChanged
    | BrokerUnregistered
    | TopicCreated
    | TopicDeleted
    | PartitionsCreated
    | TopicConfigAltered
    | PartitionMoved
    | OffsetsCommitted
    | OffsetsDeleted
    | ProducerIdsAllocated
    | FeatureSet
)
