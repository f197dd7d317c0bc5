"""What an operator gives and is told: topics to be made, settings, groups, the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from raftlog.client.group_protocol import decode_assignment
from raftlog.client.metadata import Broker, TopicPartition
from raftlog.errors import InvalidInput

CONFIG_SOURCES: Final = {
    1: "topic",
    2: "broker",
    3: "brokers",
    4: "file",
    5: "default",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTopic:
    """A topic to be made. -1 leaves a number to the broker. `replicas` names the brokers of each partition
    and takes the place of both numbers."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)
    replicas: Sequence[Sequence[int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEntry:
    """A setting of a topic or a broker. `source` is topic, broker, brokers, file or default."""

    name: str
    value: str | None
    source: str
    read_only: bool
    sensitive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupListing:
    """A group in a list. `state` is empty when the broker does not say."""

    group: str
    protocol_type: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """A member of a group and what it reads."""

    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDescription:
    """A group as its coordinator sees it. The state of a group that does not exist is Dead."""

    group: str
    state: str
    protocol_type: str
    protocol: str
    coordinator: int
    members: tuple[GroupMember, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDescription:
    """The cluster. `controller` is the broker that takes admin requests."""

    cluster_id: str | None
    controller: int | None
    brokers: tuple[Broker, ...]


def creatable(topic: NewTopic) -> dict[str, Any]:
    replicas = topic.replicas
    return {
        "name": topic.name,
        "num_partitions": -1 if replicas else topic.partitions,
        "replication_factor": -1 if replicas else topic.replication_factor,
        "assignments": [{"partition_index": p, "broker_ids": list(ids)} for p, ids in enumerate(replicas)],
        "configs": [{"name": key, "value": value} for key, value in topic.configs.items()],
    }


def config_entry(config: Any) -> ConfigEntry:
    return ConfigEntry(
        name=config.name,
        value=config.value,
        source=CONFIG_SOURCES.get(int(config.config_source), "unknown"),
        read_only=bool(config.read_only),
        sensitive=bool(config.is_sensitive),
    )


def group_member(member: Any) -> GroupMember:
    try:
        partitions = decode_assignment(bytes(member.member_assignment))
    except InvalidInput:  # another protocol than consumers speak
        partitions = ()
    return GroupMember(
        member_id=member.member_id,
        instance_id=getattr(member, "group_instance_id", None),
        client_id=member.client_id,
        host=member.client_host,
        partitions=tuple(sorted(partitions)),
    )
