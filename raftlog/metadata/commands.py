"""The metadata commands: what may be proposed to the metadata group.

A command carries everything that its application needs, ids and times included, so that every broker
comes to the same catalog. On the wire it is CBOR: `[version, kind, {field: value}]`. Decoding is
strict: an unknown kind or field, a missing field or a value of another type is InvalidInput. A new
field needs a default; a changed meaning needs a new kind, gated by its level (`levels`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

import cbor2

from raftlog.errors import InvalidInput
from raftlog.metadata import codec
from raftlog.metadata.levels import level_problem
from raftlog.metadata.offsets import (
    CommitOffsets,
    DeleteGroup,
    DeleteOffsets,
    ExpireOffsets,
    ExpireTopicOffsets,
)
from raftlog.types import BrokerId

COMMAND_VERSION: Final = 1
"""The version of commands that this build writes."""

PROPOSED_BYTES_MAX: Final = 1024 * 1024
"""A command larger than this is not proposed. The largest there is a use for is a topic of 10,000 partitions
with their replicas, 300 kB."""

APPLIED_BYTES_MAX: Final = 8 * 1024 * 1024
"""A command larger than this is refused when it is applied, on every broker alike. Older builds proposed what
was larger than this."""


class UnknownCommand(InvalidInput):
    """A command of a newer build. A broker must not go on without having applied it."""


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
    listeners: tuple[tuple[str, str, int], ...] = ()
    """(name, host, port) of the Kafka listeners if there are several; `host` and `port` are the first's."""
    metadata_level: int = 1
    """What this build knows (`levels`)."""


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
    | MovePartition
    | FinishMove
    | CancelMove
    | CommitOffsets
    | DeleteOffsets
    | DeleteGroup
    | ExpireOffsets
    | ExpireTopicOffsets
    | AllocateProducerIds
    | SetFeature
)

COMMANDS: Final[dict[str, type[Command]]] = {command.kind: command for command in Command.__args__}


RETIRED: Final = frozenset({"alter_broker_config"})
"""Kinds that older builds knew and that do nothing any more."""


def encode_command(command: Command) -> bytes:
    """The command as CBOR."""
    return cbor2.dumps([COMMAND_VERSION, command.kind, codec.to_plain(command)])


def decode_command(data: bytes | bytearray | memoryview) -> Command:
    """The command in `data`. Raises UnknownCommand for one of a newer build, and InvalidInput for anything
    else that is not exactly one well-formed command."""
    plain = codec.load(data, APPLIED_BYTES_MAX)
    if not isinstance(plain, list) or len(plain) != 3:
        raise InvalidInput("a metadata command is [version, kind, fields]")
    version, kind, fields = plain
    if type(version) is int and version > COMMAND_VERSION:
        raise UnknownCommand(f"metadata command version {version} is newer than {COMMAND_VERSION}")
    if version != COMMAND_VERSION or type(version) is not int or not isinstance(kind, str):
        raise InvalidInput(f"metadata command {str(kind)[:60]!r} of version {version!r}")
    if kind in RETIRED:
        raise InvalidInput(f"metadata command {kind!r} is not used any more")
    command = COMMANDS.get(kind)
    if command is None:
        raise UnknownCommand(f"unknown metadata command {kind[:60]!r}")
    if isinstance(fields, dict) and (unknown := codec.unknown_fields(command, fields)):
        raise UnknownCommand(f"metadata command {kind!r} has no field {unknown}")
    return codec.from_plain(command, fields)


def proposal_problem(data: bytes | bytearray | memoryview, level: int) -> str | None:
    """Why the encoded command cannot be proposed in a cluster of this metadata level; None when it can."""
    if (problem := size_problem(data)) is not None:
        return problem
    try:
        command = decode_command(data)
    except InvalidInput as error:
        return str(error)
    return level_problem(command.kind, level)


def size_problem(data: bytes | bytearray | memoryview) -> str | None:
    """Why a command of this size cannot be proposed."""
    if len(data) <= PROPOSED_BYTES_MAX:
        return None
    return f"a change of {len(data)} bytes, {PROPOSED_BYTES_MAX} is the most: ask for less at once"
