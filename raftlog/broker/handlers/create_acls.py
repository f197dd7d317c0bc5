"""CreateAcls (30), v1 to v3: allow or deny somebody something; refused, since there is no authorizer.

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
    from raftlog.protocol.requests import CreateAclsRequest


def handle(call: Call, request: CreateAclsRequest) -> Answer:
    refused = {"error_code": ErrorCode.SECURITY_DISABLED, "error_message": NO_AUTHORIZER}
    return {"results": [refused for _ in request.creations]}
