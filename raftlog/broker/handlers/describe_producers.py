"""DescribeProducers (61), v0: who writes to a partition, and whose transaction holds its readers back.

Behaviour: the leader answers, as of what is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.broker.routing import confirm_leaders, find_partition
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import DescribeProducersRequest


async def handle(call: Call, request: DescribeProducersRequest) -> Answer:
    named = ((topic.name, index) for topic in request.topics for index in topic.partition_indexes)
    replicas = [find_partition(call.backend, name, index) for name, index in named]
    await confirm_leaders([each for each in replicas if not isinstance(each, ErrorCode)], call.now)
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [_partition(call, topic.name, index) for index in topic.partition_indexes],
            }
            for topic in request.topics
        ]
    }


def _partition(call: Call, topic: str, index: int) -> dict[str, object]:
    replica = find_partition(call.backend, topic, index)
    if not isinstance(replica, ErrorCode) and not replica.is_leader:
        replica = ErrorCode.NOT_LEADER_OR_FOLLOWER
    if isinstance(replica, ErrorCode):
        return {"partition_index": index, "error_code": replica, "active_producers": []}
    return {
        "partition_index": index,
        "error_code": ErrorCode.NONE,
        "active_producers": [
            {
                "producer_id": each.producer_id,
                "producer_epoch": each.epoch,
                "last_sequence": each.last_sequence,
                "last_timestamp": each.last_used_ms,
                "coordinator_epoch": each.coordinator_epoch,
                "current_txn_start_offset": each.transaction_start,
            }
            for each in replica.marking.describe()
        ],
    }
