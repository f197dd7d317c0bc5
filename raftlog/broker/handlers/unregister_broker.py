"""UnregisterBroker (64), v0: forget a broker that keeps no replica any more (KIP-631)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.errors import admin_error_code
from raftlog.broker.registry import Answer
from raftlog.protocol.errors import ErrorCode
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.protocol.requests import UnregisterBrokerRequest


async def handle(call: Call, request: UnregisterBrokerRequest) -> Answer:
    failure = await call.backend.operations.remove_broker(BrokerId(request.broker_id))
    if failure is None:
        return {"error_code": ErrorCode.NONE, "error_message": None}
    return {"error_code": admin_error_code(failure.error), "error_message": failure.message}
