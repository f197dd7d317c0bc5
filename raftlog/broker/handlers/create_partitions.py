"""CreatePartitions (37), v0 to v3: let topics grow.

Behaviour: `count` is the new total; answered when the new partitions have leaders. Keys move to other
partitions from then on, as they do with Kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.concurrent import for_each_once
from raftlog.broker.creating import TOO_FAST, may_mutate
from raftlog.broker.errors import admin_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.admin import AdminFailure
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.schema import patience_s
from raftlog.rights import Operation, ResourceKind
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.protocol.requests import CreatePartitionsRequest, CreatePartitionsTopic


STRICT_FROM: Final = 3
"""As in CreateTopics."""


async def handle(call: Call, request: CreatePartitionsRequest) -> Answer:
    timeout = patience_s(request.timeout)

    async def grow(wanted: CreatePartitionsTopic) -> dict[str, object]:
        code, message = call.refusal(Operation.ALTER, ResourceKind.TOPIC, wanted.name), None
        if code:
            text = call.why_not(Operation.ALTER, ResourceKind.TOPIC, wanted.name)
            return {"name": wanted.name, "error_code": code, "error_message": text}
        more = wanted.count - call.backend.catalog.partition_count(wanted.name)
        if not request.validate_only and not may_mutate(call, max(more, 0), STRICT_FROM):
            return {
                "name": wanted.name,
                "error_code": ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                "error_message": TOO_FAST,
            }
        outcome = await call.backend.admin.create_partitions(
            wanted.name,
            wanted.count,
            _assignments(wanted),
            timeout=timeout,
            validate_only=request.validate_only,
        )
        if isinstance(outcome, AdminFailure):
            code, message = admin_error_code(outcome.error), outcome.message
        return {"name": wanted.name, "error_code": code, "error_message": message}

    return {"results": await for_each_once(request.topics, lambda topic: topic.name, grow, _named_twice)}


def _named_twice(wanted: CreatePartitionsTopic) -> dict[str, object]:
    message = f"topic {wanted.name!r} is named more than once"
    return {"name": wanted.name, "error_code": ErrorCode.INVALID_REQUEST, "error_message": message}


def _assignments(wanted: CreatePartitionsTopic) -> list[list[BrokerId]] | None:
    if wanted.assignments is None:
        return None
    return [[BrokerId(broker) for broker in each.broker_ids] for each in wanted.assignments]
