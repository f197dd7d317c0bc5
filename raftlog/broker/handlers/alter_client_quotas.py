"""AlterClientQuotas (49), v0 to v1: set and remove the quotas of users, client ids and addresses (KIP-546).

Behaviour: what is right of a request is one entry; answered when it is in force on every broker. Quotas are
of each broker by itself, as Kafka's are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.changes import Changed, audit_change, change_everywhere
from raftlog.broker.registry import Answer
from raftlog.metadata.acls import plain_address
from raftlog.metadata.quotas import (
    ADDRESS,
    AT_ONCE_MAX,
    QUOTAS_LEVEL,
    AlterQuotas,
    QuotaChange,
    change_problem,
)
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import AlterClientQuotasRequest, EntityData, EntryData


async def handle(call: Call, request: AlterClientQuotasRequest) -> Answer:
    if len(request.entries) > AT_ONCE_MAX:
        return refused(request, ErrorCode.INVALID_REQUEST, f"{AT_ONCE_MAX} entities at once are the most")
    changes = [_change(each) for each in request.entries]
    problems = [change_problem(change) for change in changes]
    seen: set[object] = set()
    for at, change in enumerate(changes):
        if change.entity in seen:
            problems[at] = "the entity is named more than once"
        seen.add(change.entity)
    right = tuple(change for change, problem in zip(changes, problems, strict=True) if problem is None)
    outcome = Changed(ErrorCode.NONE, None)
    if right and not request.validate_only:
        outcome = await change_everywhere(call, [AlterQuotas(changes=right)], QUOTAS_LEVEL)
        if outcome.code is ErrorCode.NONE:
            for change in right:
                audit_change(call, "quota changed", entity=_text(change), values=str(dict(change.values)))
    return {
        "entries": [
            _row(each, *outcome) if problem is None else _row(each, ErrorCode.INVALID_REQUEST, problem)
            for each, problem in zip(request.entries, problems, strict=True)
        ]
    }


def refused(request: AlterClientQuotasRequest, code: ErrorCode, text: str) -> Answer:
    return {"entries": [_row(each, code, text) for each in request.entries]}


def _row(entry: EntryData, code: ErrorCode, text: str | None) -> dict[str, object]:
    return {
        "error_code": code,
        "error_message": text,
        "entity": [
            {"entity_type": part.entity_type, "entity_name": part.entity_name} for part in entry.entity
        ],
    }


def _change(entry: EntryData) -> QuotaChange:
    named = sorted(entry.entity, key=_kind)
    parts = [(part.entity_type, _name(part.entity_type, part.entity_name)) for part in named]
    values = {each.key: "" if each.remove else repr(each.value) for each in entry.ops}
    return QuotaChange(entity=tuple(parts), values=values)


def _kind(part: EntityData) -> str:
    return part.entity_type


def _name(kind: str, name: str | None) -> str | None:
    """An address as connections have it."""
    if kind != ADDRESS or name is None:
        return name
    try:
        return str(plain_address(name))
    except ValueError:
        return ""


def _text(change: QuotaChange) -> str:
    return ", ".join(f"{kind} {'default' if name is None else repr(name)}" for kind, name in change.entity)
