"""CreateAcls (30), v1 to v3: allow or deny somebody something (KIP-11, KIP-290).

Behaviour: the rules of a request that are right become one entry, and are in force together. Answered when
they are in force on every broker: one that cannot be reached has stopped deciding for clients by then
(`cluster/enforcement.py`). Without an authorizer SECURITY_DISABLED, as Kafka answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.changes import Changed, audit_change, change_everywhere
from raftlog.broker.errors import NO_AUTHORIZER
from raftlog.broker.registry import Answer
from raftlog.metadata.acl_table import AclBinding
from raftlog.metadata.acls import ACLS_LEVEL, AT_ONCE_MAX, CreateAcls, binding_problem, kept_host
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import AclCreation, CreateAclsRequest

TOO_MANY: Final = Changed(ErrorCode.INVALID_REQUEST, f"{AT_ONCE_MAX} ACLs at once are the most")


async def handle(call: Call, request: CreateAclsRequest) -> Answer:
    if call.backend.authorizer is None:
        return refused(request, ErrorCode.SECURITY_DISABLED, NO_AUTHORIZER)
    if len(request.creations) > AT_ONCE_MAX:
        return refused(request, *TOO_MANY)
    bindings = [_binding(each) for each in request.creations]
    problems = [binding_problem(binding) for binding in bindings]
    right = tuple(binding for binding, problem in zip(bindings, problems, strict=True) if problem is None)
    new = [binding for binding in right if binding not in call.backend.catalog.acls]
    outcome = Changed(ErrorCode.NONE, None)
    if right:
        outcome = await change_everywhere(call, [CreateAcls(bindings=right)], ACLS_LEVEL)
    if outcome.code is ErrorCode.NONE:
        for binding in new:
            audit_change(call, "acl created", rule=str(binding))
    return {
        "results": [
            _row(*outcome) if problem is None else _row(ErrorCode.INVALID_REQUEST, problem)
            for problem in problems
        ]
    }


def refused(request: CreateAclsRequest, code: ErrorCode, text: str | None) -> Answer:
    return {"results": [_row(code, text) for _ in request.creations]}


def _row(code: ErrorCode, text: str | None) -> dict[str, object]:
    return {"error_code": code, "error_message": text}


def _binding(each: AclCreation) -> AclBinding:
    return AclBinding(
        each.resource_type,
        each.resource_pattern_type,
        each.resource_name,
        each.principal,
        kept_host(each.host),
        each.operation,
        each.permission_type,
    )
