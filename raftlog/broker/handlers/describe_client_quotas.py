"""DescribeClientQuotas (48), v0 to v1: the quotas of users, client ids and addresses (KIP-546).

Behaviour: each part of a filter names one, the default (1) or any (2). A strict filter means entities of just
those kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.metadata.acls import kept_host
from raftlog.metadata.quota_table import Entity
from raftlog.metadata.quotas import ADDRESS, CLIENT, USER
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import ComponentData, DescribeClientQuotasRequest

EXACT: Final = 0
DEFAULT: Final = 1
ANY: Final = 2


def handle(call: Call, request: DescribeClientQuotasRequest) -> Answer:
    problem = _problem(request)
    if problem is not None:
        return {"error_code": ErrorCode.INVALID_REQUEST, "error_message": problem, "entries": None}
    return {
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "entries": [
            {
                "entity": [{"entity_type": kind, "entity_name": name} for kind, name in entity],
                "values": [{"key": key, "value": value} for key, value in values.items()],
            }
            for entity, values in call.backend.catalog.quotas.all()
            if _means(request, entity)
        ],
    }


def _problem(request: DescribeClientQuotasRequest) -> str | None:
    kinds = [each.entity_type for each in request.components]
    if len(set(kinds)) != len(kinds):
        return "a kind of entity is named twice"
    for each in request.components:
        if each.entity_type not in (USER, CLIENT, ADDRESS):
            return f"there are no quotas of {each.entity_type[:100]!r}"
        if each.match_type not in (EXACT, DEFAULT, ANY):
            return f"there is no match of type {each.match_type}"
        if (each.match is not None) != (each.match_type == EXACT):
            return "a name is given where one is to be matched, and only there"
    if ADDRESS in kinds and len(kinds) > 1:
        return "an ip has quotas by itself"
    return None


def _means(request: DescribeClientQuotasRequest, entity: Entity) -> bool:
    names = dict(entity)
    if request.strict and len(names) != len(request.components):
        return False
    return all(
        each.entity_type in names and _fits(each, names[each.entity_type]) for each in request.components
    )


def _fits(each: ComponentData, name: str | None) -> bool:
    if each.match_type == EXACT:
        return name == (kept_host(each.match or "") if each.entity_type == ADDRESS else each.match)
    return name is None if each.match_type == DEFAULT else True
