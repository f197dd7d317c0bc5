"""JoinGroup (11), v0 to v9: enter a consumer group, or come back to it.

Behaviour: the answer comes when the group's rebalance is complete. From v4 on a new member is first given an
id (KIP-394), from v5 on a member may be static (KIP-345), from v9 on a static leader that comes back is told
to leave the assignment as it is (KIP-814).
Missing on purpose: the new consumer protocol (KIP-848), which has APIs of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.errors import group_error_code
from raftlog.cluster.groups import GroupProtocol, JoinRequest, JoinResult
from raftlog.protocol.schema import milliseconds

if TYPE_CHECKING:
    from raftlog.protocol.requests import JoinGroupRequest

MEMBER_ID_FIRST_FROM: Final = 4
SKIPS_ASSIGNMENT_FROM: Final = 9


def handle(call: Call, request: JoinGroupRequest) -> None:
    session_timeout_ms = milliseconds(request.session_timeout)
    rebalance_timeout_ms = session_timeout_ms
    if call.version >= 1:
        rebalance_timeout_ms = milliseconds(request.rebalance_timeout)
    call.backend.groups.join(
        JoinRequest(
            group_id=request.group_id,
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            client_id=call.client_id,
            client_host=f"/{call.origin.host}",
            session_timeout_ms=session_timeout_ms,
            rebalance_timeout_ms=rebalance_timeout_ms,
            protocol_type=request.protocol_type,
            protocols=tuple(GroupProtocol(each.name, each.metadata) for each in request.protocols),
            require_known_member_id=call.version >= MEMBER_ID_FIRST_FROM,
            can_skip_assignment=call.version >= SKIPS_ASSIGNMENT_FROM,
        ),
        call.now,
        lambda result: _reply(call, result),
    )
    call.backend.coordination.groups_changed()


def _reply(call: Call, result: JoinResult) -> None:
    call.reply(
        {
            "error_code": group_error_code(result.error),
            "generation_id": result.generation_id,
            "protocol_type": result.protocol_type,
            "protocol_name": result.protocol_name,
            "leader": result.leader,
            "skip_assignment": result.skip_assignment,
            "member_id": result.member_id,
            "members": [
                {
                    "member_id": member.member_id,
                    "group_instance_id": member.instance_id,
                    "metadata": member.metadata,
                }
                for member in result.members
            ],
        }
    )
