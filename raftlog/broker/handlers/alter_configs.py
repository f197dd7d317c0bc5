"""AlterConfigs (33), v0 to v2: replace the settings of topics.

Behaviour: what is not named falls back to the default: that is what this API means, and why Kafka replaced it
by IncrementalAlterConfigs. Answered when it is committed.
Sarama leaves out the last byte of v2, the number of tagged fields: it is taken to be none.
Missing on purpose: settings of brokers, which are given at their start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.concurrent import for_each_once
from raftlog.broker.registry import Answer
from raftlog.broker.topic_settings import (
    Change,
    alter_topic,
    named_twice,
    refused_resource,
    resource_key,
)
from raftlog.errors import InvalidInput
from raftlog.protocol.codec import RequestHeader, decode_request

if TYPE_CHECKING:
    from raftlog.protocol.requests import AlterConfigsRequest, AlterConfigsResource

COMPLETED_MAX: Final = 1024 * 1024
"""Bytes of a request to which a byte that is missing is added: a copy has to be made."""


def decode(frame: bytearray, header: RequestHeader) -> object:
    try:
        return decode_request(frame, header)
    except InvalidInput:
        if len(frame) > COMPLETED_MAX:
            raise
        return decode_request(bytes(frame) + b"\0", header)


async def handle(call: Call, request: AlterConfigsRequest) -> Answer:
    async def alter(resource: AlterConfigsResource) -> dict[str, object]:
        topic = refused_resource(call, resource)
        if isinstance(topic, dict):
            return topic
        null = [each.name for each in resource.configs if each.value is None]
        wanted = {each.name: each.value for each in resource.configs if each.value is not None}
        change = Change(wanted, sorted({*topic.configs, *null} - wanted.keys()))
        return await alter_topic(call.backend, resource, change, validate_only=request.validate_only)

    return {"responses": await for_each_once(request.resources, resource_key, alter, named_twice)}
