"""DeleteAcls (31), v1 to v3: take rules back; refused, since there is no authorizer.

Behaviour: SECURITY_DISABLED, as Kafka answers without one.
Missing on purpose: authorization, which is not built yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.errors import NO_AUTHORIZER
from raftlog.broker.registry import Answer
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import DeleteAclsRequest


def handle(call: Call, request: DeleteAclsRequest) -> Answer:
    refused = {"error_code": ErrorCode.SECURITY_DISABLED, "error_message": NO_AUTHORIZER, "matching_acls": []}
    return {"filter_results": [refused for _ in request.filters]}
