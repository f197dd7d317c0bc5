"""DescribeQuorum (55), v0 to v2: how the Raft group of the metadata does (KIP-595, KIP-836, KIP-853).

Behaviour: any broker may be asked; it asks the metadata's leader. The log is called `__cluster_metadata`, and
its first entry has offset 0. A follower's last fetch is when the leader heard of it last. If it has the whole
log, it was caught up then; if not, when it was is unknown. Listeners (v2) are where this client reaches the
voters.
Missing on purpose: ids of folders; the groups of topics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.cluster.quorum import Quorum, QuorumMember
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import DescribeQuorumRequest

TOPIC: Final = "__cluster_metadata"
PARTITION: Final = 0
NOBODY: Final = -1
UNKNOWN: Final = -1


async def handle(call: Call, request: DescribeQuorumRequest) -> Answer:
    state = await call.backend.quorum.describe()
    return {
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "topics": [
            {
                "topic_name": topic.topic_name,
                "partitions": [
                    _partition(call, topic.topic_name, each.partition_index, state)
                    for each in topic.partitions
                ],
            }
            for topic in request.topics
        ],
        "nodes": [] if state is None else _nodes(call, state),
    }


def _partition(call: Call, topic: str, index: int, state: Quorum | None) -> dict[str, object]:
    if (topic, index) != (TOPIC, PARTITION):
        return _refused(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"only {TOPIC}-{PARTITION} is described")
    if state is None:
        return _refused(index, ErrorCode.LEADER_NOT_AVAILABLE, "nobody is known to lead the metadata")
    end = max(member.last_index for member in state.members)
    rows = [(member.is_voter, _replica(call, member, end)) for member in state.members]
    return {
        "partition_index": index,
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "leader_id": state.leader,
        "leader_epoch": state.term,
        "high_watermark": state.commit_index,
        "current_voters": [row for is_voter, row in rows if is_voter],
        "observers": [row for is_voter, row in rows if not is_voter],
    }


def _replica(call: Call, member: QuorumMember, end: int) -> dict[str, object]:
    heard_ms = call.now_ms - member.silent_ms
    return {
        "replica_id": member.broker,
        "replica_directory_id": None,
        "log_end_offset": member.last_index,  # indexes begin at 1: the offset behind the last entry
        "last_fetch_timestamp": heard_ms,
        "last_caught_up_timestamp": heard_ms if member.last_index == end else UNKNOWN,
    }


def _refused(index: int, code: ErrorCode, message: str) -> dict[str, object]:
    return {
        "partition_index": index,
        "error_code": code,
        "error_message": message,
        "leader_id": NOBODY,
        "leader_epoch": UNKNOWN,
        "high_watermark": UNKNOWN,
        "current_voters": [],
        "observers": [],
    }


def _nodes(call: Call, state: Quorum) -> list[dict[str, object]]:
    brokers = call.backend.catalog.brokers
    known = [brokers[each.broker] for each in state.members if each.is_voter and each.broker in brokers]
    return [
        {
            "node_id": broker.id,
            "listeners": [
                {
                    "name": call.origin.listener,
                    "host": call.address_of(broker)[0],
                    "port": call.address_of(broker)[1],
                }
            ],
        }
        for broker in known
    ]
