"""DeleteGroups (42), v0 to v2: forget groups and their offsets.

Behaviour: refused while a group has members. Answered when it is committed; a group that is named twice is
deleted and answered once, as on Kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.concurrent import for_each
from raftlog.broker.errors import group_error_code, refusal_code
from raftlog.broker.registry import Answer
from raftlog.cluster.groups import GroupError
from raftlog.metadata.offsets import DeleteGroup
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation, ResourceKind

if TYPE_CHECKING:
    from raftlog.protocol.requests import DeleteGroupsRequest


async def handle(call: Call, request: DeleteGroupsRequest) -> Answer:
    async def delete(group: str) -> dict[str, object]:
        return {"group_id": group, "error_code": await _delete(call, group)}

    once = {group: group for group in request.groups_names}
    return {"results": await for_each(list(once), delete)}


async def _delete(call: Call, group: str) -> ErrorCode:
    if refused := call.refusal(Operation.DELETE, ResourceKind.GROUP, group):
        return refused
    error = call.backend.groups.delete(group, call.now)
    if error is not GroupError.NONE:
        return group_error_code(error)
    return refusal_code(await call.backend.proposer.propose_as_leader(DeleteGroup(group=group)))
