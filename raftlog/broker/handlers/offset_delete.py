"""OffsetDelete (47), v0: forget a group's positions in some partitions (KIP-496).

Behaviour: refused for topics that a member of the group subscribes to, and for partitions that there are not.
Answered when it is committed; so many partitions that they take several entries may go in part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.errors import group_error_code, refusal_code
from raftlog.broker.registry import Answer
from raftlog.cluster.groups import GroupError
from raftlog.metadata.offsets import DeleteOffsets
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation

if TYPE_CHECKING:
    from raftlog.protocol.requests import OffsetDeleteRequest, OffsetDeleteRequestTopic

ENTRY_PARTITIONS: Final = 1000
"""Partitions in one entry: a quarter of a MiB where the topic's name is as long as can be."""


async def handle(call: Call, request: OffsetDeleteRequest) -> Answer:
    group, topics = request.group_id, request.topics
    verdict = call.backend.groups.check_delete_offsets(group, [topic.name for topic in topics])
    if isinstance(verdict, GroupError):
        return {"error_code": group_error_code(verdict), "topics": []}
    codes = {(topic.name, at): code for topic, at, code in _judge(call, topics, verdict)}
    chosen = [key for key, code in codes.items() if code is ErrorCode.NONE]
    for first in range(0, len(chosen), ENTRY_PARTITIONS):
        some = tuple(chosen[first : first + ENTRY_PARTITIONS])
        command = DeleteOffsets(group=group, partitions=some)
        code = refusal_code(await call.backend.proposer.propose_as_leader(command))
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
                        "error_code": codes[topic.name, each.partition_index],
                    }
                    for each in topic.partitions
                ],
            }
            for topic in topics
        ],
    }


def _judge(
    call: Call, topics: Sequence[OffsetDeleteRequestTopic], verdict: dict[str, GroupError]
) -> Iterator[tuple[OffsetDeleteRequestTopic, int, ErrorCode]]:
    """Every partition that is named, with what stands against it."""
    for topic in topics:
        denied = call.topic_refusal(Operation.READ, topic.name)
        count = call.backend.catalog.partition_count(topic.name)
        code = denied or group_error_code(verdict.get(topic.name, GroupError.NONE))
        for each in topic.partitions:
            at = each.partition_index
            yield topic, at, code if denied or 0 <= at < count else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
