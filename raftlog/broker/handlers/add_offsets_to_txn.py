"""AddOffsetsToTxn (25), v0 to v4: a consumer group's offsets become part of a producer's transaction.

Behaviour: durable before the answer. While the transaction before waits for its markers the answer is held
back, where Kafka says CONCURRENT_TRANSACTIONS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.errors import transaction_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.transactions.coordinator import TransactionError
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import AddOffsetsToTxnRequest

PRODUCER_FENCED_FROM: Final = 2


async def handle(call: Call, request: AddOffsetsToTxnRequest) -> Answer | None:
    producer = request.transactional_id, request.producer_id, request.producer_epoch
    if call.is_late(*producer):
        return None
    if not request.group_id:
        return {"error_code": ErrorCode.INVALID_GROUP_ID}
    result = await call.backend.transactions.add(*producer, group=request.group_id)
    if isinstance(result, TransactionError):
        has_code = call.version >= PRODUCER_FENCED_FROM
        fenced = ErrorCode.PRODUCER_FENCED if has_code else ErrorCode.INVALID_PRODUCER_EPOCH
        return {"error_code": transaction_error_code(result, fenced=fenced)}
    return {"error_code": ErrorCode.NONE}
