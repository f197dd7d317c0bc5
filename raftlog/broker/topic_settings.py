"""What AlterConfigs and IncrementalAlterConfigs share: changing a topic's settings."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from raftlog.broker.backend import Backend
from raftlog.broker.call import Call
from raftlog.broker.errors import admin_error_code
from raftlog.cluster.admin import AdminFailure
from raftlog.metadata.catalog import Topic
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import CLUSTER_NAME, Operation, ResourceKind

TOPIC_RESOURCE: Final = 2
TIMEOUT_S: Final = 30.0
"""The requests name no time-out of their own."""


class ConfigResource(Protocol):
    """What has settings: a topic, a broker."""

    @property
    def resource_type(self) -> int: ...
    @property
    def resource_name(self) -> str: ...


class Change(NamedTuple):
    """Settings to set, and settings to let go."""

    set: dict[str, str]
    remove: list[str]


def resource_key(resource: ConfigResource) -> tuple[int, str]:
    return resource.resource_type, resource.resource_name


def named_twice(resource: ConfigResource) -> dict[str, object]:
    return resource_result(resource, ErrorCode.INVALID_REQUEST, "the resource is named more than once")


def refused_change(call: Call, resource: ConfigResource) -> dict[str, object] | None:
    """The answer to who may not change the settings of a resource: of a broker, it takes to alter the
    cluster, since they say how brokers come and go."""
    name, operation, kind = resource.resource_name, Operation.ALTER_CONFIGS, ResourceKind.TOPIC
    if resource.resource_type != TOPIC_RESOURCE:
        name, operation, kind = CLUSTER_NAME, Operation.ALTER, ResourceKind.CLUSTER
    if not (refused := call.refusal(operation, kind, name)):
        return None
    return resource_result(resource, refused, call.why_not(operation, kind, name))


def refused_resource(call: Call, resource: ConfigResource) -> Topic | dict[str, object]:
    """The topic that a resource names, or the answer that says why there is none."""
    refused = refused_change(call, resource)
    if refused is not None:
        return refused
    backend, name = call.backend, resource.resource_name
    if resource.resource_type != TOPIC_RESOURCE:
        kind = resource.resource_type
        message = f"only settings of topics can be changed here, not those of resource type {kind}"
        return resource_result(resource, ErrorCode.INVALID_REQUEST, message)
    topic = backend.catalog.topics.get(name)
    if topic is None:
        return resource_result(resource, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name!r}")
    return topic


async def alter_topic(
    backend: Backend, resource: ConfigResource, change: Change, *, validate_only: bool
) -> dict[str, object]:
    """Change a topic's settings; gives the answer."""
    outcome = await backend.admin.alter_topic_config(
        resource.resource_name, change.set, change.remove, timeout=TIMEOUT_S, validate_only=validate_only
    )
    if isinstance(outcome, AdminFailure):
        return resource_result(resource, admin_error_code(outcome.error), outcome.message)
    return resource_result(resource, ErrorCode.NONE, None)


def resource_result(resource: ConfigResource, code: ErrorCode, message: str | None) -> dict[str, object]:
    return {
        "error_code": code,
        "error_message": message,
        "resource_type": resource.resource_type,
        "resource_name": resource.resource_name,
    }
