"""DeleteAcls (31), v1 to v3: take rules back, by filters.

Behaviour: the rules that each filter means are looked up first, and deleted together. So many that they take
several entries go in pieces, those that allow first. Answered when they are in force nowhere. Without an
authorizer SECURITY_DISABLED, as Kafka answers.
Missing on purpose: a request that means more than DELETED_MAX rules is refused.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from raftlog.broker.acl_filters import AclFilter
from raftlog.broker.call import Call
from raftlog.broker.changes import Changed, audit_change, change_everywhere
from raftlog.broker.errors import NO_AUTHORIZER
from raftlog.broker.registry import Answer
from raftlog.metadata.acl_table import AclBinding
from raftlog.metadata.acls import ACLS_LEVEL, AT_ONCE_MAX, in_pieces
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import DeleteAclsFilter, DeleteAclsRequest

DELETED_MAX: Final = 10_000
"""Rules that one request deletes: its answer names each of them."""

log = logging.getLogger("raftlog.broker")


async def handle(call: Call, request: DeleteAclsRequest) -> Answer:
    acls = call.backend.catalog.acls
    if call.backend.authorizer is None:
        return refused(request, ErrorCode.SECURITY_DISABLED, NO_AUTHORIZER)
    if len(request.filters) > AT_ONCE_MAX:
        return refused(request, ErrorCode.INVALID_REQUEST, f"{AT_ONCE_MAX} filters at once are the most")
    filters = [_filter(each) for each in request.filters]
    found = [[] if each.problem else await each.find(acls) for each in filters]
    meant = {binding: None for some in found for binding in some}
    if len(meant) > DELETED_MAX:
        text = f"the filters mean {len(meant)} ACLs, {DELETED_MAX} at once are the most"
        return refused(request, ErrorCode.INVALID_REQUEST, text)
    outcome = Changed(ErrorCode.NONE, None)
    if meant:
        outcome = await change_everywhere(call, in_pieces(list(meant)), ACLS_LEVEL)
    if outcome.code is ErrorCode.NONE:
        for binding in meant:
            audit_change(call, "acl deleted", rule=str(binding))
        _warn_of_open(call, list(meant))
    return {
        "filter_results": [
            _result(ErrorCode.INVALID_REQUEST, each.problem, ())
            if each.problem
            else _result(outcome.code, outcome.text, () if outcome.code else some)
            for each, some in zip(filters, found, strict=True)
        ]
    }


def refused(request: DeleteAclsRequest, code: ErrorCode, text: str | None) -> Answer:
    return {"filter_results": [_result(code, text, ()) for _ in request.filters]}


def _warn_of_open(call: Call, deleted: list[AclBinding]) -> None:
    """Who deletes the last rule about something may not know that it is everybody's then."""
    if not call.backend.config.bool("allow.everyone.if.no.acl.found"):
        return
    acls = call.backend.catalog.acls
    opened = sorted({one.name for one in deleted if not acls.is_ruled(one.kind, one.name)})
    if opened:
        log.warning(
            "no ACL is about %s any more, and allow.everyone.if.no.acl.found is true: everybody may use them",
            ", ".join(repr(name[:100]) for name in opened[:10]),
        )


def _filter(each: DeleteAclsFilter) -> AclFilter:
    return AclFilter(
        each.resource_type_filter,
        each.resource_name_filter,
        each.pattern_type_filter,
        each.principal_filter,
        each.host_filter,
        each.operation,
        each.permission_type,
    )


def _result(code: ErrorCode, text: str | None, bindings: list[AclBinding] | tuple[()]) -> dict[str, object]:
    return {
        "error_code": code,
        "error_message": text,
        "matching_acls": [
            {
                "error_code": ErrorCode.NONE,
                "error_message": None,
                "resource_type": binding.kind,
                "resource_name": binding.name,
                "pattern_type": binding.pattern,
                "principal": binding.principal,
                "host": binding.host,
                "operation": binding.operation,
                "permission_type": binding.permission,
            }
            for binding in bindings
        ],
    }
