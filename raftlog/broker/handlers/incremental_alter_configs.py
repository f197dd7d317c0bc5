"""IncrementalAlterConfigs (44), v0 to v1: change single settings of topics (KIP-339).

Behaviour: set, remove, and append to or subtract from lists. All of a topic's changes, or none. Answered when
they are committed.
Of brokers, what says how they come and go (`broker_settings`).
Missing on purpose: the other settings of brokers, which are given at their start; loggers, client metrics
and groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from raftlog.broker.broker_settings import BROKER_RESOURCE, alter_broker
from raftlog.broker.call import Call
from raftlog.broker.concurrent import for_each_once
from raftlog.broker.registry import Answer
from raftlog.broker.topic_settings import (
    Change,
    alter_topic,
    named_twice,
    refused_change,
    refused_resource,
    resource_key,
    resource_result,
)
from raftlog.config import TOPIC_CONFIGS, ConfigType, TopicConfig
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import (
        IncrementalAlterConfigsRequest,
        IncrementalConfig,
        IncrementalConfigsResource,
    )

SET: Final = 0
DELETE: Final = 1
APPEND: Final = 2
SUBTRACT: Final = 3


async def handle(call: Call, request: IncrementalAlterConfigsRequest) -> Answer:
    async def alter(resource: IncrementalConfigsResource) -> dict[str, object]:
        if resource.resource_type == BROKER_RESOURCE:
            if (refused := refused_change(call, resource)) is not None:
                return refused
            settings: dict[str, str | None] = {}
            for each in resource.configs:
                settings[each.name] = each.value if each.config_operation == SET else None
                if request.validate_only or (settings[each.name] is None and each.config_operation != DELETE):
                    message = "settings of a broker can only be set or removed, and not on trial"
                    return resource_result(resource, ErrorCode.INVALID_REQUEST, message)
            return await alter_broker(call.backend, resource, settings)
        topic = refused_resource(call, resource)
        if isinstance(topic, dict):
            return topic
        change = _change(TopicConfig(topic.configs, call.backend.config), resource.configs)
        if isinstance(change, str):
            return resource_result(resource, ErrorCode.INVALID_REQUEST, change)
        return await alter_topic(call.backend, resource, change, validate_only=request.validate_only)

    return {"responses": await for_each_once(request.resources, resource_key, alter, named_twice)}


def _change(current: TopicConfig, operations: Sequence[IncrementalConfig]) -> Change | str:
    """What the operations come to, or why they make no sense."""
    names = [each.name for each in operations]
    if len(set(names)) != len(names):
        return "a setting is named more than once"
    change = Change({}, [])
    for each in operations:
        operation, name, value = each.config_operation, each.name, each.value
        if operation == DELETE:
            change.remove.append(name)
            continue
        if value is None:
            return f"{name} has no value"
        if operation in (APPEND, SUBTRACT):
            key = TOPIC_CONFIGS.get(name)
            if key is None or key.type is not ConfigType.LIST:
                return f"{name} is not a list"
            has = list(current.list(name))
            given = [one.strip() for one in value.split(",") if one.strip()]
            if operation == APPEND:
                has += [one for one in given if one not in has]
            else:
                has = [one for one in has if one not in given]
            value = ",".join(has)
        elif operation != SET:
            return f"there is no operation {operation} on a setting"
        change.set[name] = value
    return change
