"""AlterPartitionReassignments (45), v0 to v1: move replicas between brokers (KIP-455).

Behaviour: null replicas call a move off. Answered when the move is committed; the partition's leader carries
it out, one member at a time, and `ListPartitionReassignments` shows it until it is done. The replication
factor may change, unless v1 forbids it. A partition that is named twice is not moved at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.concurrent import for_each_once
from raftlog.broker.errors import admin_error_code
from raftlog.broker.registry import Answer
from raftlog.protocol.errors import ErrorCode
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.protocol.requests import AlterPartitionReassignmentsRequest, ReassignablePartition


async def handle(call: Call, request: AlterPartitionReassignmentsRequest) -> Answer:
    keeps_factor = not request.allow_replication_factor_change

    async def move(wanted: tuple[str, ReassignablePartition]) -> dict[str, object]:
        name, each = wanted
        code, message = ErrorCode.NONE, None
        topic = call.backend.catalog.topic(name)
        if (
            keeps_factor
            and topic is not None
            and each.replicas is not None
            and len(each.replicas) != topic.replication_factor
        ):
            code, message = ErrorCode.INVALID_REPLICATION_FACTOR, "the replication factor would change"
        else:
            target = None if each.replicas is None else [BrokerId(broker) for broker in each.replicas]
            failure = await call.backend.operations.move(name, each.partition_index, target)
            if failure is not None:
                code, message = admin_error_code(failure.error), failure.message
        return {"partition_index": each.partition_index, "error_code": code, "error_message": message}

    wanted = [(topic.name, each) for topic in request.topics for each in topic.partitions]
    results = iter(await for_each_once(wanted, _key, move, _named_twice))
    return {
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "allow_replication_factor_change": not keeps_factor,
        "responses": [
            {"name": topic.name, "partitions": [next(results) for _ in topic.partitions]}
            for topic in request.topics
        ],
    }


def refused(request: AlterPartitionReassignmentsRequest, code: ErrorCode, text: str) -> Answer:
    return {
        "error_code": code,
        "error_message": text,
        "responses": [
            {
                "name": topic.name,
                "partitions": [
                    {"partition_index": each.partition_index, "error_code": code, "error_message": text}
                    for each in topic.partitions
                ],
            }
            for topic in request.topics
        ],
    }


def _key(wanted: tuple[str, ReassignablePartition]) -> tuple[str, int]:
    name, each = wanted
    return name, each.partition_index


def _named_twice(wanted: tuple[str, ReassignablePartition]) -> dict[str, object]:
    return {
        "partition_index": wanted[1].partition_index,
        "error_code": ErrorCode.INVALID_REQUEST,
        "error_message": "the partition is named more than once",
    }
