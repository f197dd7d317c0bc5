"""Heartbeat (12), v0 to v4: a member is alive, and learns whether its group rebalances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.errors import group_error_code
from raftlog.cluster.groups import HeartbeatRequest as Heartbeat
from raftlog.protocol.heartbeat import encode_heartbeat_response

if TYPE_CHECKING:
    from raftlog.protocol.requests import HeartbeatRequest


def handle(call: Call, request: HeartbeatRequest) -> None:
    error = call.backend.groups.heartbeat(
        Heartbeat(
            group_id=request.group_id,
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            generation_id=request.generation_id,
        ),
        call.now,
    )
    call.reply_chunks(
        [encode_heartbeat_response(call.version, call.header.correlation_id, group_error_code(error))]
    )
