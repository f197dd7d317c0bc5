"""OffsetForLeaderEpoch (23), v2 to v4: where a leader epoch ended (KIP-101, KIP-320).

Behaviour: a consumer asks it after a leader changed, to find out whether what it has read was cut off. It was
not: only committed records are ever served. So only who leads for certain, and knows all that is committed,
says where an epoch ended: the log of another may end before what the consumer has read, which would make it
start over. The replica id is ignored: every caller is a consumer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.errors import partition_error_code
from raftlog.broker.registry import Answer
from raftlog.broker.routing import allowed_partition, confirm_leaders
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation

if TYPE_CHECKING:
    from raftlog.protocol.requests import OffsetForLeaderEpochRequest, OffsetForLeaderPartition


async def handle(call: Call, request: OffsetForLeaderEpochRequest) -> Answer:
    asked = [
        allowed_partition(call, Operation.DESCRIBE, topic.topic, each.partition)
        for topic in request.topics
        for each in topic.partitions
    ]
    await confirm_leaders([each for each in asked if not isinstance(each, ErrorCode)], call.now)
    return {
        "topics": [
            {"topic": topic.topic, "partitions": [_end(call, topic.topic, each) for each in topic.partitions]}
            for topic in request.topics
        ]
    }


def _end(call: Call, topic: str, wanted: OffsetForLeaderPartition) -> dict[str, object]:
    replica = allowed_partition(call, Operation.DESCRIBE, topic, wanted.partition)
    if isinstance(replica, ErrorCode):
        return {"error_code": replica, "partition": wanted.partition}
    error, epoch, end = replica.reading.end_of_epoch(
        wanted.leader_epoch, leader_epoch=wanted.current_leader_epoch
    )
    return {
        "error_code": partition_error_code(error),
        "partition": wanted.partition,
        "leader_epoch": epoch,
        "end_offset": end,
    }
