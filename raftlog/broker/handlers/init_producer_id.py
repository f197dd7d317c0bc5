"""InitProducerId (22), v0 to v5: an id for an idempotent or a transactional producer.

Behaviour: without a transactional id every call gives an id that nobody has had, at epoch 0; a producer that
asks to go on from an epoch of its own (KIP-360) gets a new id too, which serves the same end. With one the id
stays and the epoch goes up, so that whoever used it before is fenced; what that had open is aborted first,
and the answer waits for it. While nobody leads the metadata the answer waits a little, then says
COORDINATOR_LOAD_IN_PROGRESS, after which every client asks again.
Missing on purpose: transactions in two phases of their own (v6, KIP-939).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker.call import Call
from raftlog.broker.errors import transaction_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.transactions.coordinator import TransactionError
from raftlog.metadata.transaction_steps import NAME_BYTES_MAX
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.schema import milliseconds
from raftlog.rights import CLUSTER_NAME, Operation, ResourceKind

if TYPE_CHECKING:
    from raftlog.protocol.requests import InitProducerIdRequest

PATIENCE_S: Final = 2.0
RETRY_S: Final = 0.1
PRODUCER_FENCED_FROM: Final = 4


async def handle(call: Call, request: InitProducerIdRequest) -> Answer:
    if request.transactional_id is not None:
        if refused := call.refusal(Operation.WRITE, ResourceKind.TRANSACTIONAL_ID, request.transactional_id):
            return _refused(refused)
        return await _transactional(call, request, request.transactional_id)
    if not call.sees(Operation.IDEMPOTENT_WRITE, ResourceKind.CLUSTER, CLUSTER_NAME) and not call.may(
        Operation.WRITE, ResourceKind.TOPIC, None
    ):
        return _refused(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    with trio.move_on_after(PATIENCE_S):
        while True:
            producer_id = await call.backend.producer_ids.allocate()
            if not isinstance(producer_id, ProposalFailed):
                return {"error_code": ErrorCode.NONE, "producer_id": producer_id, "producer_epoch": 0}
            await trio.sleep(RETRY_S)
    return _refused(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)


async def _transactional(call: Call, request: InitProducerIdRequest, transactional_id: str) -> Answer:
    timeout_ms = milliseconds(request.transaction_timeout)
    if not 0 < len(transactional_id.encode()) <= NAME_BYTES_MAX:
        return _refused(ErrorCode.INVALID_REQUEST)
    if (request.producer_id < 0) != (request.producer_epoch < 0):
        return _refused(ErrorCode.INVALID_REQUEST)
    if not 0 < timeout_ms <= call.backend.config.int("transaction.max.timeout.ms"):
        return _refused(ErrorCode.INVALID_TRANSACTION_TIMEOUT)
    found = await call.backend.transactions.init_producer(
        transactional_id, timeout_ms, request.producer_id, request.producer_epoch
    )
    if isinstance(found, TransactionError):
        has_code = call.version >= PRODUCER_FENCED_FROM
        fenced = ErrorCode.PRODUCER_FENCED if has_code else ErrorCode.INVALID_PRODUCER_EPOCH
        return _refused(transaction_error_code(found, fenced=fenced))
    return {
        "error_code": ErrorCode.NONE,
        "producer_id": found.producer_id,
        "producer_epoch": found.epoch,
    }


def _refused(code: ErrorCode) -> Answer:
    return {"error_code": code, "producer_id": -1, "producer_epoch": -1}
