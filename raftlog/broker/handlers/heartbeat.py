"""Heartbeat (12), v0 to v4: a member is alive, and learns whether its group rebalances."""

from __future__ import annotations

from typing import Any

from raftlog.broker.call import Call
from raftlog.broker.errors import group_error_code
from raftlog.cluster.groups import HeartbeatRequest
from raftlog.protocol.heartbeat import encode_heartbeat_response


def handle(call: Call, request: Any) -> None:
    error = call.node.groups.heartbeat(
        HeartbeatRequest(
            group_id=request.group_id,
            member_id=request.member_id,
            instance_id=getattr(request, "group_instance_id", None),
            generation_id=request.generation_id,
        ),
        call.now,
    )
    call.reply_chunks(
        [encode_heartbeat_response(call.version, call.header.correlation_id, group_error_code(error))]
    )
