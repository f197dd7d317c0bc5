"""DescribeConfigs (32), v1 to v4: settings of topics and brokers, with where each comes from.

Behaviour: from the one table of settings, `raftlog.config`. Names that are not known are passed over. A
broker answers for itself alone; clients ask each its own. Only whether a broker is draining
(`raftlog.draining`, when it is named) is known to all, and what brokers say of themselves (`STATUS`, when
nothing else is named) is asked of them. `default.replication.factor` is shown as the number
that -1 comes to just now: tools place topics by it.
Missing on purpose: loggers, client metrics, groups: they are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker.broker_settings import DRAINING, STATUS, draining_entry, status_entries
from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.config import ConfigEntry, TopicConfig, describe_broker, describe_topic
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import encode_element
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import CLUSTER_NAME, Operation, ResourceKind

if TYPE_CHECKING:
    from raftlog.protocol.requests import DescribeConfigsRequest, DescribeConfigsResource

BROKER: Final = 4
AT_A_TIME: Final = 20
"""Resources that are described before others have their turn."""


async def handle(call: Call, request: DescribeConfigsRequest) -> Answer:
    documented = request.include_documentation
    results = []
    # Each once: the hundred settings of one topic, asked for thousands of times, would be gigabytes.
    resources = {(each.resource_type, each.resource_name): each for each in request.resources}
    for count, resource in enumerate(resources.values(), 1):
        if count % AT_A_TIME == 0:
            await trio.lowlevel.checkpoint()
        found = await _status(call, resource) if _is_status(resource) else _entries(call, resource)
        code, message, entries = found if isinstance(found, tuple) else (ErrorCode.NONE, None, found)
        result: dict[str, object] = {
            "error_code": code,
            "error_message": message,
            "resource_type": resource.resource_type,
            "resource_name": resource.resource_name,
            "configs": [_described(each, request.include_synonyms, documented) for each in entries],
        }
        results.append(encode_element(ApiKey.DESCRIBE_CONFIGS, call.version, "response", "results", result))
    return {"results": results}


_Failure = tuple[ErrorCode, str, list[ConfigEntry]]


def _is_status(resource: DescribeConfigsResource) -> bool:
    keys = resource.configuration_keys
    return resource.resource_type == BROKER and bool(keys) and STATUS.keys() >= set(keys or ())


async def _status(call: Call, resource: DescribeConfigsResource) -> list[ConfigEntry] | _Failure:
    """Nothing for a broker that is not there, or that does not answer."""
    if (failure := _refused(call)) is not None:
        return failure
    brokers = call.backend.catalog.brokers
    found = [broker for broker in brokers if str(broker) == resource.resource_name]
    report = await call.backend.reports.of(found[0]) if found else None
    return [] if report is None else status_entries(report, resource.configuration_keys or ())


def _refused(call: Call) -> _Failure | None:
    refused = call.refusal(Operation.DESCRIBE_CONFIGS, ResourceKind.CLUSTER, CLUSTER_NAME)
    if not refused:
        return None
    return refused, call.why_not(Operation.DESCRIBE_CONFIGS, ResourceKind.CLUSTER, CLUSTER_NAME), []


def _entries(call: Call, resource: DescribeConfigsResource) -> list[ConfigEntry] | _Failure:
    backend, name = call.backend, resource.resource_name
    keys = resource.configuration_keys or None  # empty means all, too: librdkafka before KIP-226 sends it
    match resource.resource_type:
        case 2:
            if refused := call.refusal(Operation.DESCRIBE_CONFIGS, ResourceKind.TOPIC, name):
                return refused, call.why_not(Operation.DESCRIBE_CONFIGS, ResourceKind.TOPIC, name), []
            topic = backend.catalog.topics.get(name)
            if topic is None:
                return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name!r}", []
            return describe_topic(TopicConfig(topic.configs, backend.config), keys)
        case 4:  # BROKER
            if (failure := _refused(call)) is not None:
                return failure
            if keys is not None and list(keys) == [DRAINING]:
                return [
                    draining_entry(broker)
                    for broker in backend.catalog.brokers.values()
                    if name == str(broker.id)
                ]
            if name not in ("", str(backend.broker_id)):
                return ErrorCode.INVALID_REQUEST, f"this is broker {backend.broker_id}: ask {name} itself", []
            return describe_broker(backend.config, keys, usable_brokers=len(backend.catalog.usable_brokers()))
        case other:
            return ErrorCode.INVALID_REQUEST, f"resources of type {other} have no settings here", []


def _described(entry: ConfigEntry, synonyms: bool, documented: bool) -> dict[str, object]:
    return {
        "name": entry.name,
        "value": entry.value,
        "read_only": entry.read_only,
        "config_source": entry.source.value,
        "is_sensitive": entry.sensitive,
        "synonyms": [
            {"name": each.name, "value": each.value, "source": each.source.value} for each in entry.synonyms
        ]
        if synonyms
        else [],
        "config_type": entry.type.value,
        "documentation": entry.doc if documented else None,
    }
