"""CreatePartitions (37), v0 to v3: let topics grow.

Behaviour: `count` is the new total; answered when the new partitions have leaders. Keys move to other
partitions from then on, as they do with Kafka.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.concurrent import for_each
from raftlog.broker.errors import admin_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.admin import AdminFailure
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.schema import milliseconds
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.protocol.requests import CreatePartitionsRequest, CreatePartitionsTopic


async def handle(call: Call, request: CreatePartitionsRequest) -> Answer:
    counts = Counter(topic.name for topic in request.topics)
    timeout = milliseconds(request.timeout) / 1000

    async def grow(wanted: CreatePartitionsTopic) -> dict[str, object]:
        code, message = ErrorCode.NONE, None
        if counts[wanted.name] > 1:
            code, message = ErrorCode.INVALID_REQUEST, f"topic {wanted.name!r} is named more than once"
        else:
            outcome = await call.node.admin.create_partitions(
                wanted.name,
                wanted.count,
                _assignments(wanted),
                timeout=timeout,
                validate_only=request.validate_only,
            )
            if isinstance(outcome, AdminFailure):
                code, message = admin_error_code(outcome.error), outcome.message
        return {"name": wanted.name, "error_code": code, "error_message": message}

    return {"results": await for_each(request.topics, grow)}


def _assignments(wanted: CreatePartitionsTopic) -> list[list[BrokerId]] | None:
    if wanted.assignments is None:
        return None
    return [[BrokerId(broker) for broker in each.broker_ids] for each in wanted.assignments]
