"""DescribeGroups (15), v0 to v6: members, state and assignments of groups.

Behaviour: a group that nobody knows is Dead without an error before v6, and GROUP_ID_NOT_FOUND from v6 on
(KIP-1043).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker import authorized
from raftlog.broker.call import Call
from raftlog.broker.errors import group_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.groups import GroupDescription, GroupError, GroupState
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import encode_element
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation, ResourceKind

if TYPE_CHECKING:
    from raftlog.protocol.requests import DescribeGroupsRequest

NOT_FOUND_FROM: Final = 6
AT_A_TIME: Final = 20
"""Groups that are described before others have their turn."""


async def handle(call: Call, request: DescribeGroupsRequest) -> Answer:
    asks = request.include_authorized_operations
    groups: list[bytes] = []
    # Each once: a group of many members, named thousands of times, would be gigabytes.
    for group in {each: each for each in request.groups}:
        groups.append(
            encode_element(
                ApiKey.DESCRIBE_GROUPS, call.version, "response", "groups", _describe(call, group, asks)
            )
        )
        if len(groups) % AT_A_TIME == 0:
            await trio.lowlevel.checkpoint()
    return {"groups": groups}


def _describe(call: Call, group_id: str, asks_for_operations: bool) -> dict[str, object]:
    code, message = ErrorCode.NONE, None
    if not call.may(Operation.DESCRIBE, ResourceKind.GROUP, group_id):
        code = ErrorCode.GROUP_AUTHORIZATION_FAILED
        message = call.why_not(Operation.DESCRIBE, ResourceKind.GROUP, group_id)
        dead = GroupDescription(group_id=group_id, state=GroupState.DEAD)
        return _described(group_id, dead, code, message, authorized.NOT_ASKED)
    found = call.backend.groups.describe(group_id)
    if isinstance(found, GroupError):
        code = group_error_code(found)
        found = GroupDescription(group_id=group_id, state=GroupState.DEAD)
    elif found.state is GroupState.DEAD and call.version >= NOT_FOUND_FROM:
        code, message = ErrorCode.GROUP_ID_NOT_FOUND, f"there is no group {group_id!r}"
    operations = authorized.NOT_ASKED
    if asks_for_operations and not code:
        operations = authorized.operations_on(call, ResourceKind.GROUP, group_id)
    return _described(group_id, found, code, message, operations)


def _described(
    group_id: str,
    found: GroupDescription,
    code: ErrorCode,
    message: str | None,
    operations: int,
) -> dict[str, object]:
    return {
        "error_code": code,
        "error_message": message,
        "group_id": group_id,
        "group_state": found.state.value,
        "protocol_type": found.protocol_type,
        "protocol_data": found.protocol_name,
        "members": [
            {
                "member_id": member.member_id,
                "group_instance_id": member.instance_id,
                "client_id": member.client_id,
                "client_host": member.client_host,
                "member_metadata": member.metadata,
                "member_assignment": member.assignment,
            }
            for member in found.members
        ],
        "authorized_operations": operations,
    }
