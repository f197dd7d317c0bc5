"""LeaveGroup (13), v0 to v5: members go, and the group rebalances without waiting for their sessions.

Behaviour: before v3 one member, whose error is the answer's; from v3 on many, static ones by instance id
too (KIP-345), each with its own error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.errors import group_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.groups import GroupError, LeaveRequest, LeavingMember

if TYPE_CHECKING:
    from raftlog.protocol.requests import LeaveGroupRequest

MANY_FROM: Final = 3


def handle(call: Call, request: LeaveGroupRequest) -> Answer:
    leaving = tuple(LeavingMember(each.member_id, each.group_instance_id) for each in request.members)
    result = call.backend.groups.leave(LeaveRequest(group_id=request.group_id, members=leaving), call.now)
    call.backend.coordination.groups_changed()
    error = result.error
    if call.version < MANY_FROM and error is GroupError.NONE and result.members:
        error = result.members[0].error
    return {
        "error_code": group_error_code(error),
        "members": [
            {
                "member_id": member.member_id,
                "group_instance_id": member.instance_id,
                "error_code": group_error_code(member.error),
            }
            for member in result.members
        ],
    }
