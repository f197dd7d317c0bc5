"""OffsetDelete (47), v0: forget a group's positions in some partitions (KIP-496).

Behaviour: refused for topics that a member of the group subscribes to. Answered when it is committed.
"""

from __future__ import annotations

from typing import Any

from raftlog.broker.call import Call
from raftlog.broker.errors import group_error_code, refusal_code
from raftlog.broker.registry import Answer
from raftlog.cluster.groups import GroupError
from raftlog.metadata.commands import DeleteOffsets
from raftlog.protocol.errors import ErrorCode


async def handle(call: Call, request: Any) -> Answer:
    group, topics = request.group_id, request.topics
    verdict = call.node.groups.check_delete_offsets(group, [topic.name for topic in topics])
    if isinstance(verdict, GroupError):
        return {"error_code": group_error_code(verdict), "topics": []}
    allowed = tuple(
        (topic.name, each.partition_index)
        for topic in topics
        if verdict.get(topic.name, GroupError.NONE) is GroupError.NONE
        for each in topic.partitions
    )
    code = ErrorCode.NONE
    if allowed:
        code = refusal_code(await call.node.propose(DeleteOffsets(group=group, partitions=allowed)))
    if code is not ErrorCode.NONE:
        return {"error_code": code, "topics": []}
    return {
        "error_code": ErrorCode.NONE,
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {
                        "partition_index": each.partition_index,
                        "error_code": group_error_code(verdict.get(topic.name, GroupError.NONE)),
                    }
                    for each in topic.partitions
                ],
            }
            for topic in topics
        ],
    }
