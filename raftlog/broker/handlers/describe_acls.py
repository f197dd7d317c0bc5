"""DescribeAcls (29), v1 to v3: who may do what.

Behaviour: null and ANY mean whatever; the pattern MATCH means every rule that a name comes under. Without an
authorizer SECURITY_DISABLED, as Kafka answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker.acl_filters import AclFilter
from raftlog.broker.call import Call
from raftlog.broker.errors import NO_AUTHORIZER
from raftlog.broker.registry import Answer
from raftlog.metadata.acl_table import AclBinding
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import encode_element
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import DescribeAclsRequest

AT_A_TIME: Final = 500
"""Rules that are encoded before others have their turn."""


async def handle(call: Call, request: DescribeAclsRequest) -> Answer:
    if call.backend.authorizer is None:
        return _failed(ErrorCode.SECURITY_DISABLED, NO_AUTHORIZER)
    wanted = AclFilter(
        request.resource_type_filter,
        request.resource_name_filter,
        request.pattern_type_filter,
        request.principal_filter,
        request.host_filter,
        request.operation,
        request.permission_type,
    )
    if wanted.problem is not None:
        return _failed(ErrorCode.INVALID_REQUEST, wanted.problem)
    patterns: dict[tuple[int, int, str], list[AclBinding]] = {}
    for binding in await wanted.find(call.backend.catalog.acls):
        patterns.setdefault((binding.kind, binding.pattern, binding.name), []).append(binding)
    resources: list[bytes] = []
    since = 0
    for bindings in patterns.values():
        resources.append(
            encode_element(ApiKey.DESCRIBE_ACLS, call.version, "response", "resources", _resource(bindings))
        )
        since += len(bindings)
        if since >= AT_A_TIME:
            since = 0
            await trio.lowlevel.checkpoint()
    return {"error_code": ErrorCode.NONE, "error_message": None, "resources": resources}


def _failed(code: ErrorCode, text: str) -> Answer:
    return {"error_code": code, "error_message": text, "resources": []}


def _resource(bindings: list[AclBinding]) -> dict[str, object]:
    first = bindings[0]
    return {
        "resource_type": first.kind,
        "resource_name": first.name,
        "pattern_type": first.pattern,
        "acls": [
            {
                "principal": binding.principal,
                "host": binding.host,
                "operation": binding.operation,
                "permission_type": binding.permission,
            }
            for binding in bindings
        ],
    }
