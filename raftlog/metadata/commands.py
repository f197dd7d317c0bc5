"""The metadata commands: what may be proposed to the metadata group.

A command carries everything that its application needs, ids and times included, so that every broker
comes to the same catalog. On the wire it is CBOR: `[version, kind, {field: value}]`. Decoding is
strict: an unknown kind or field, a missing field or a value of another type is InvalidInput. A new
field needs a default; a changed meaning needs a new kind, gated by a feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

import cbor2

from raftlog.errors import InvalidInput
from raftlog.metadata import codec
from raftlog.metadata.catalog import FORMAT_VERSION
from raftlog.types import BrokerId

COMMAND_BYTES_MAX: Final = 8 * 1024 * 1024
"""A command larger than this is refused before it is parsed. It holds 100,000 committed offsets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitializeCluster:
    """Names the cluster, once: the first one applied wins."""

    kind: ClassVar[str] = "initialize_cluster"
    cluster_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterBroker:
    """A broker says where it is. A new incarnation replaces the one before it at once; it starts
    unfenced, and stays draining if it was."""

    kind: ClassVar[str] = "register_broker"
    broker_id: BrokerId
    incarnation: bytes
    host: str
    port: int
    peer_host: str
    peer_port: int
    rack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceBroker:
    """Marks a broker as not heard of, or as heard of again. Refused for an older incarnation."""

    kind: ClassVar[str] = "fence_broker"
    broker_id: BrokerId
    incarnation: bytes
    fenced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainBroker:
    """Starts or stops emptying a broker."""

    kind: ClassVar[str] = "drain_broker"
    broker_id: BrokerId
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterBroker:
    """Forgets a broker; refused while it keeps a replica."""

    kind: ClassVar[str] = "unregister_broker"
    broker_id: BrokerId


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTopic:
    """`partitions` are the replica lists, first the preferred leader. Settings are checked before the
    proposal, not when it is applied: the table of settings differs between builds."""

    kind: ClassVar[str] = "create_topic"
    name: str
    topic_id: bytes
    partitions: tuple[tuple[BrokerId, ...], ...]
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTopic:
    """Deletes the topic and every group's offsets in it."""

    kind: ClassVar[str] = "delete_topic"
    topic_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartitions:
    """Adds partitions; refused unless the topic has `existing` of them."""

    kind: ClassVar[str] = "create_partitions"
    topic_id: bytes
    existing: int
    partitions: tuple[tuple[BrokerId, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterTopicConfig:
    kind: ClassVar[str] = "alter_topic_config"
    topic_id: bytes
    set: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterBrokerConfig:
    """Dynamic settings of one broker, or of all (`catalog.CLUSTER_DEFAULT`)."""

    kind: ClassVar[str] = "alter_broker_config"
    broker_id: BrokerId
    set: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MovePartition:
    """Wants the partition's replicas at `target`. The same brokers in another order take effect at
    once: that only changes the preferred leader."""

    kind: ClassVar[str] = "move_partition"
    topic_id: bytes
    partition: int
    target: tuple[BrokerId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishMove:
    """The partition's Raft group has `target` as its members; refused if another move was wanted
    meanwhile: `since` is that of the assignment that is finished."""

    kind: ClassVar[str] = "finish_move"
    topic_id: bytes
    partition: int
    target: tuple[BrokerId, ...]
    since: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelMove:
    kind: ClassVar[str] = "cancel_move"
    topic_id: bytes
    partition: int


@dataclass(frozen=True, slots=True)
class OffsetCommit:
    topic: str
    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class GroupCommit:
    """What one group commits; `timestamp_ms` is the coordinator's clock."""

    group: str
    timestamp_ms: int
    offsets: tuple[OffsetCommit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOffsets:
    """The commits that arrived together, of any number of groups."""

    kind: ClassVar[str] = "commit_offsets"
    commits: tuple[GroupCommit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOffsets:
    kind: ClassVar[str] = "delete_offsets"
    group: str
    partitions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteGroup:
    kind: ClassVar[str] = "delete_group"
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireOffsets:
    """Forgets the offsets of these groups that were committed before `before_ms`. Which groups are
    without members only the coordinator knows, so it names them."""

    kind: ClassVar[str] = "expire_offsets"
    groups: tuple[str, ...]
    before_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateProducerIds:
    """Takes the next `count` producer ids for a broker to hand out; ids of a block that is lost are lost."""

    kind: ClassVar[str] = "allocate_producer_ids"
    broker_id: BrokerId
    count: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFeature:
    """Finalizes a feature level; 0 removes it."""

    kind: ClassVar[str] = "set_feature"
    name: str
    level: int


Command = (
    InitializeCluster
    | RegisterBroker
    | FenceBroker
    | DrainBroker
    | UnregisterBroker
    | CreateTopic
    | DeleteTopic
    | CreatePartitions
    | AlterTopicConfig
    | AlterBrokerConfig
    | MovePartition
    | FinishMove
    | CancelMove
    | CommitOffsets
    | DeleteOffsets
    | DeleteGroup
    | ExpireOffsets
    | AllocateProducerIds
    | SetFeature
)

COMMANDS: Final[dict[str, type[Command]]] = {command.kind: command for command in Command.__args__}


def encode_command(command: Command) -> bytes:
    """The command as CBOR."""
    return cbor2.dumps([FORMAT_VERSION, command.kind, codec.to_plain(command)])


def decode_command(data: bytes | bytearray | memoryview) -> Command:
    """The command in `data`; raises InvalidInput on anything but exactly one well-formed command."""
    plain = codec.load(data, COMMAND_BYTES_MAX)
    if not isinstance(plain, list) or len(plain) != 3:
        raise InvalidInput("a metadata command is [version, kind, fields]")
    version, kind, fields = plain
    if version != FORMAT_VERSION or type(version) is not int:
        raise InvalidInput(f"metadata command version {version!r} is not {FORMAT_VERSION}")
    command = COMMANDS.get(kind) if isinstance(kind, str) else None
    if command is None:
        raise InvalidInput(f"unknown metadata command {kind!r}")
    return codec.from_plain(command, fields)
