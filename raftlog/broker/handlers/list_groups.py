"""ListGroups (16), v0 to v5: the groups that this broker coordinates.

Behaviour: groups with members and groups that only have offsets; filtered by state (v4, KIP-518) and type
(v5). A broker that coordinates none answers with an empty list: clients ask every broker and put the
answers together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.cluster.groups import GroupError
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import CLUSTER_NAME, Operation, ResourceKind

if TYPE_CHECKING:
    from raftlog.protocol.requests import ListGroupsRequest


def handle(call: Call, request: ListGroupsRequest) -> Answer:
    states, types = request.states_filter, request.types_filter
    sees_all = call.sees(Operation.DESCRIBE, ResourceKind.CLUSTER, CLUSTER_NAME)
    groups = call.backend.groups.list_groups(states, types)
    return {
        "error_code": ErrorCode.NONE,
        "groups": [
            {
                "group_id": group.group_id,
                "protocol_type": group.protocol_type,
                "group_state": group.state.value,
                "group_type": group.group_type,
            }
            for group in ([] if isinstance(groups, GroupError) else groups)
            if sees_all or call.sees(Operation.DESCRIBE, ResourceKind.GROUP, group.group_id)
        ],
    }
