"""DeleteTopics (20), v1 to v6: delete topics, their records and the groups' offsets in them.

Behaviour: by name, or by id from v6 on. Refused altogether by `delete.topic.enable = false`.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.concurrent import for_each_once
from raftlog.broker.creating import TOO_FAST, may_mutate
from raftlog.broker.errors import admin_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.admin import AdminFailure
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.schema import ZERO_UUID, patience_s
from raftlog.rights import Operation, ResourceKind

if TYPE_CHECKING:
    from raftlog.protocol.requests import DeleteTopicsRequest

DISABLED_ERROR_FROM: Final = 3
STRICT_FROM: Final = 5
"""As in CreateTopics."""


async def handle(call: Call, request: DeleteTopicsRequest) -> Answer:
    timeout = patience_s(request.timeout)
    wanted = [(each.name, each.topic_id) for each in request.topics]

    async def delete(which: tuple[str | None, uuid.UUID | None]) -> dict[str, object]:
        return await _delete(call, *which, timeout)

    return {"responses": await for_each_once(wanted, lambda which: which, delete, _named_twice)}


def _named_twice(which: tuple[str | None, uuid.UUID | None]) -> dict[str, object]:
    name, topic_id = which
    asked_id = ZERO_UUID if topic_id is None else topic_id.bytes
    return _result(name, asked_id, ErrorCode.INVALID_REQUEST, "the topic is named more than once")


async def _delete(
    call: Call, name: str | None, topic_id: uuid.UUID | None, timeout: float
) -> dict[str, object]:
    asked_id = ZERO_UUID if topic_id is None else topic_id.bytes
    if (name is None) == (topic_id is None):
        return _result(name, asked_id, ErrorCode.INVALID_REQUEST, "give a name or an id, and not both")
    if (refused := _refused(call, name, asked_id)) is not None:
        return refused
    if not call.backend.config.bool("delete.topic.enable"):
        disabled = call.version >= DISABLED_ERROR_FROM
        code = ErrorCode.TOPIC_DELETION_DISABLED if disabled else ErrorCode.INVALID_REQUEST
        return _result(name, asked_id, code, "delete.topic.enable is false")
    known = call.backend.catalog.topic(asked_id if name is None else name)
    if known is not None and not may_mutate(call, len(known.partitions), STRICT_FROM):
        return _result(name, asked_id, ErrorCode.THROTTLING_QUOTA_EXCEEDED, TOO_FAST)
    outcome = await call.backend.admin.delete_topic(asked_id if name is None else name, timeout=timeout)
    if isinstance(outcome, AdminFailure):
        return _result(name, asked_id, admin_error_code(outcome.error), outcome.message)
    return _result(outcome.name, outcome.topic_id, ErrorCode.NONE, None)


def _refused(call: Call, name: str | None, topic_id: bytes) -> dict[str, object] | None:
    """What whoever may not delete a topic is told; its name only where it is no secret."""
    code = call.topic_refusal(Operation.DELETE, topic_id if name is None else name)
    if not code:
        return None
    shown = name
    if shown is None and (known := call.backend.catalog.topics_by_id.get(topic_id)) is not None:
        shown = known.name if call.sees(Operation.DESCRIBE, ResourceKind.TOPIC, known.name) else None
    text = "the topic may not be deleted"
    if shown is not None:
        text = call.why_not(Operation.DELETE, ResourceKind.TOPIC, shown)
    return _result(shown, topic_id, code, text)


def _result(name: str | None, topic_id: bytes, code: ErrorCode, message: str | None) -> dict[str, object]:
    return {"name": name, "topic_id": topic_id, "error_code": code, "error_message": message}
