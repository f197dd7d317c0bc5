"""DeleteRecords (21), v0 to v2: move the start of partitions forward.

Behaviour: offset -1 means the high watermark; the new start is the answer's low watermark.
"""

from __future__ import annotations

from typing import Any

from raftlog.broker.call import Call
from raftlog.broker.errors import partition_error_code
from raftlog.broker.registry import Answer
from raftlog.broker.routing import find_partition
from raftlog.protocol.errors import ErrorCode


def handle(call: Call, request: Any) -> Answer:
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [_delete(call, topic.name, each) for each in topic.partitions],
            }
            for topic in request.topics
        ]
    }


def _delete(call: Call, topic: str, wanted: Any) -> dict[str, Any]:
    replica = find_partition(call.node, topic, wanted.partition_index)
    if isinstance(replica, ErrorCode):
        code, start = replica, -1
    else:
        error, start = replica.delete_before(wanted.offset)
        code = partition_error_code(error)
    return {"partition_index": wanted.partition_index, "low_watermark": start, "error_code": code}
