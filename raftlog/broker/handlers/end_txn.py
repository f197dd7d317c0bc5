"""EndTxn (26), v0 to v5: commit or abort a producer's transaction.

Behaviour: answered when the decision is on a majority of disks; the markers follow, and the next transaction
waits for them. Who asks again gets the same answer, also after the coordinator has changed. An abort where
nothing was begun is answered with success, other than by Kafka: librdkafka sends it when it could not add its
first partition, and a refusal would end the producer. From v5 on the answer names the epoch of the next
transaction, or another producer id when the epochs are used up (KIP-890).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.errors import transaction_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.transactions.coordinator import TransactionError
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import EndTxnRequest

PRODUCER_FENCED_FROM: Final = 2
ENDS_EPOCH_FROM: Final = 5


async def handle(call: Call, request: EndTxnRequest) -> Answer | None:
    ends_epoch = call.version >= ENDS_EPOCH_FROM
    producer = request.transactional_id, request.producer_id, request.producer_epoch
    if not ends_epoch and call.is_late(*producer):
        return None
    result = await call.backend.transactions.end(
        *producer,
        commit=request.committed,
        ends_epoch=ends_epoch,
    )
    if isinstance(result, TransactionError):
        has_code = call.version >= PRODUCER_FENCED_FROM
        fenced = ErrorCode.PRODUCER_FENCED if has_code else ErrorCode.INVALID_PRODUCER_EPOCH
        return {"error_code": transaction_error_code(result, fenced=fenced)}
    return {
        "error_code": ErrorCode.NONE,
        "producer_id": result.producer_id,
        "producer_epoch": result.epoch,
    }
