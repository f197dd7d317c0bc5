"""SyncGroup (14), v0 to v5: bring the leader's assignment to every member.

Behaviour: the answer comes when the leader's assignment has; it echoes the protocol's type and name (v5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.errors import group_error_code
from raftlog.cluster.groups import SyncRequest, SyncResult

if TYPE_CHECKING:
    from raftlog.protocol.requests import SyncGroupRequest


def handle(call: Call, request: SyncGroupRequest) -> None:
    call.backend.groups.sync(
        SyncRequest(
            group_id=request.group_id,
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            generation_id=request.generation_id,
            protocol_type=request.protocol_type,
            protocol_name=request.protocol_name,
            assignments={each.member_id: each.assignment for each in request.assignments},
        ),
        call.now,
        lambda result: _reply(call, result),
    )
    call.backend.coordination.groups_changed()


def _reply(call: Call, result: SyncResult) -> None:
    call.reply(
        {
            "error_code": group_error_code(result.error),
            "protocol_type": result.protocol_type,
            "protocol_name": result.protocol_name,
            "assignment": result.assignment,
        }
    )
