"""OffsetFetch (9), v1 to v9: a group's positions.

Behaviour: the partitions asked for, or all that were committed (null topics, v2). Offset -1 where nothing
was. From v8 on many groups at once. Who requires stable offsets (v7) is told UNSTABLE_OFFSET_COMMIT where an
open transaction is about to move one (KIP-447).
Any broker answers, once it has applied all that was committed when it was asked. librdkafka never asks again
after NOT_COORDINATOR (its issue 5586): its member would go on with heartbeats and read nothing.
Missing on purpose: topics by id (v10); member epochs of the new consumer protocol (v9) are not looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.broker.steps import Turns
from raftlog.metadata.offset_table import CommittedOffset
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation, ResourceKind

if TYPE_CHECKING:
    from raftlog.protocol.requests import OffsetFetchRequest, OffsetFetchRequestTopics

GROUPS_FROM: Final = 8
REQUEST_ERROR_FROM: Final = 2

_NONE: Final = CommittedOffset(-1)


async def handle(call: Call, request: OffsetFetchRequest) -> Answer:
    refused = {
        group.group_id: call.refusal(Operation.DESCRIBE, ResourceKind.GROUP, group.group_id)
        for group in request.groups
    }
    # Who was paused, or is behind, must not hand out positions that have moved since.
    turns = Turns()
    error = ErrorCode.NONE if await call.backend.coordination.catch_up() else ErrorCode.NOT_COORDINATOR
    if call.version >= GROUPS_FROM:
        return {
            "groups": [
                {
                    "group_id": group.group_id,
                    "topics": await _topics(
                        call,
                        group.group_id,
                        group.topics,
                        refused[group.group_id] or error,
                        turns,
                        stable=request.require_stable,
                    ),
                    "error_code": refused[group.group_id] or error,
                }
                for group in request.groups
            ]
        }
    (group,) = request.groups
    error = refused[group.group_id] or error
    topics = await _topics(call, group.group_id, group.topics, error, turns, stable=request.require_stable)
    return {"topics": topics, "error_code": error}


async def _topics(
    call: Call,
    group: str,
    wanted: Sequence[OffsetFetchRequestTopics] | None,
    error: ErrorCode,
    turns: Turns,
    *,
    stable: bool,
) -> list[dict[str, object]]:
    if error is not ErrorCode.NONE and call.version >= REQUEST_ERROR_FROM:
        return []
    offsets = call.backend.catalog.group_offsets
    unstable = call.backend.catalog.transactions.unstable(group) if stable else set()
    if wanted is None:
        known = [(topic, offsets.rows(group, topic)) for topic in offsets.topics(group) if _sees(call, topic)]
        return [await _topic(topic, list(rows), rows, unstable, error, turns) for topic, rows in known]
    return [
        await _topic(
            each.name, each.partition_indexes, offsets.rows(group, each.name), unstable, error, turns
        )
        for each in wanted
        if error is not ErrorCode.NONE or _sees(call, each.name)
    ]


def _sees(call: Call, topic: str) -> bool:
    return call.sees(Operation.DESCRIBE, ResourceKind.TOPIC, topic)


async def _topic(
    name: str,
    partitions: Sequence[int],
    committed: Mapping[int, CommittedOffset],
    unstable: Collection[tuple[str, int]],
    error: ErrorCode,
    turns: Turns,
) -> dict[str, object]:
    rows = []
    for partition in partitions:
        await turns.after(1)
        is_moving = error is ErrorCode.NONE and (name, partition) in unstable
        offset = _NONE if is_moving or error else committed.get(partition, _NONE)
        rows.append(
            {
                "partition_index": partition,
                "committed_offset": offset.offset,
                "committed_leader_epoch": offset.leader_epoch,
                "metadata": offset.metadata,
                "error_code": ErrorCode.UNSTABLE_OFFSET_COMMIT if is_moving else error,
            }
        )
    return {"name": name, "partitions": rows}
