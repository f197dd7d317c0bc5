"""DescribeProducers (61), v0: who writes to a partition, and whose transaction holds its readers back.

Behaviour: the leader answers, as of what is committed. A partition that is named twice is answered once, and
an answer names PRODUCERS_MAX producers or a few more: partitions behind that are refused, where Kafka's
answer has no bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.broker.routing import allowed_partition, confirm_leaders
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation

if TYPE_CHECKING:
    from raftlog.protocol.requests import DescribeProducersRequest


PRODUCERS_MAX: Final = 100_000
"""A partition has up to 20,000."""
AT_ONCE: Final = 1_000
"""Partitions and producers that are described before others get their turn: about two milliseconds, or one
partition."""


async def handle(call: Call, request: DescribeProducersRequest) -> Answer:
    named: dict[str, dict[int, int]] = {}
    for topic in request.topics:
        named.setdefault(topic.name, {}).update({index: index for index in topic.partition_indexes})
    replicas = [
        allowed_partition(call, Operation.READ, name, index) for name in named for index in named[name]
    ]
    await confirm_leaders([each for each in replicas if not isinstance(each, ErrorCode)], call.now)
    topics: list[dict[str, object]] = []
    total = since = 0
    for name, indexes in named.items():
        partitions: list[dict[str, object]] = []
        for index in indexes:
            if total >= PRODUCERS_MAX:
                partitions.append(_refused(index, ErrorCode.INVALID_REQUEST, "ask for fewer partitions"))
                continue
            partition, count = _partition(call, name, index)
            partitions.append(partition)
            total, since = total + count, since + 1 + count
            if since >= AT_ONCE:
                since = 0
                await trio.lowlevel.checkpoint()
        topics.append({"name": name, "partitions": partitions})
    return {"topics": topics}


def _refused(index: int, code: ErrorCode, message: str | None = None) -> dict[str, object]:
    return {"partition_index": index, "error_code": code, "error_message": message, "active_producers": []}


def _partition(call: Call, topic: str, index: int) -> tuple[dict[str, object], int]:
    """The partition's part of the answer, and how many producers are in it."""
    replica = allowed_partition(call, Operation.READ, topic, index)
    if not isinstance(replica, ErrorCode) and not replica.is_leader:
        replica = ErrorCode.NOT_LEADER_OR_FOLLOWER
    if isinstance(replica, ErrorCode):
        return _refused(index, replica), 0
    producers = [
        {
            "producer_id": each.producer_id,
            "producer_epoch": each.epoch,
            "last_sequence": each.last_sequence,
            "last_timestamp": each.last_used_ms,
            "coordinator_epoch": each.coordinator_epoch,
            "current_txn_start_offset": each.transaction_start,
        }
        for each in replica.marking.describe()
    ]
    answer = {"partition_index": index, "error_code": ErrorCode.NONE, "active_producers": producers}
    return answer, len(producers)
