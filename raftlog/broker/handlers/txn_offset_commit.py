"""TxnOffsetCommit (28), v0 to v5: offsets that a group is at once a producer's transaction is committed.

Behaviour: answered when they are on a majority of disks; until the transaction ends they do not count. The
transaction is looked at first, then the member, as in Kafka: before v3 no member is named, and none is looked
for (KIP-447). A group that settles its assignments takes them: REBALANCE_IN_PROGRESS would end three clients.
From v5 on the group is made part of the transaction first: such a producer does not ask for that (KIP-890).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.committing import answer, storable
from raftlog.broker.errors import group_error_code, transaction_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.groups import CommitCheck
from raftlog.cluster.transactions.coordinator import TransactionError
from raftlog.metadata.transaction_table import TransactionState
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import TxnOffsetCommitRequest

ABORTABLE_FROM: Final = 4
ADDS_FROM: Final = 5


async def handle(call: Call, request: TxnOffsetCommitRequest) -> Answer | None:
    producer = request.transactional_id, request.producer_id, request.producer_epoch
    if call.version < ADDS_FROM and call.is_late(*producer, of_offsets=True):
        return None
    if call.version >= ADDS_FROM:
        added = await call.backend.transactions.add(*producer, group=request.group_id)
        if isinstance(added, TransactionError):
            return answer(request, {}, _code(call, added))
    error = await _problem(call, request)
    if error is not ErrorCode.NONE:
        return answer(request, {}, error)
    denied, offsets = storable(call, request)
    if not offsets:
        return answer(request, denied, ErrorCode.NONE)
    result = await call.backend.transactions.stage_offsets(*producer, request.group_id, tuple(offsets))
    if isinstance(result, TransactionError):
        return answer(request, denied, _code(call, result))
    unknown = dict.fromkeys(result.unknown, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    return answer(request, denied | unknown, ErrorCode.NONE)


async def _problem(call: Call, request: TxnOffsetCommitRequest) -> ErrorCode:
    """Why nothing of the request can be staged. What would end the producer is said only by who coordinates
    for certain: a coordinator that was paused and replaced does not know what its successor did."""
    coordination = call.backend.coordination
    if coordination.is_coordinator and _transaction_problem(call, request) is not None:
        if not await coordination.confirm_coordinator():
            return _code(call, TransactionError.NOT_COORDINATOR)
        error = _transaction_problem(call, request)
        if error is not None:
            return _code(call, error)
    return group_error_code(
        call.backend.groups.check_commit(
            CommitCheck(
                group_id=request.group_id,
                member_id=request.member_id,
                instance_id=request.group_instance_id,
                generation_id=request.generation_id,
                transactional=True,
            ),
            call.now,
        )
    )


def _transaction_problem(call: Call, request: TxnOffsetCommitRequest) -> TransactionError | None:
    """What stands against the request in the transaction, as far as is known here."""
    known = call.backend.catalog.transactions.get(request.transactional_id)
    if known is None or known.producer_id != request.producer_id:
        return TransactionError.UNKNOWN_ID
    if known.epoch != request.producer_epoch:
        return TransactionError.FENCED
    if known.state is not TransactionState.ONGOING or request.group_id not in known.groups:
        return TransactionError.WRONG_STATE
    return None


def _code(call: Call, error: TransactionError) -> ErrorCode:
    if error is TransactionError.WRONG_STATE and call.version >= ABORTABLE_FROM:
        return ErrorCode.TRANSACTION_ABORTABLE
    if error is TransactionError.CONCURRENT:  # aiokafka would give up
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if error is TransactionError.TOO_LARGE:
        return ErrorCode.INVALID_COMMIT_OFFSET_SIZE
    return transaction_error_code(error, fenced=ErrorCode.INVALID_PRODUCER_EPOCH)


def refused(request: TxnOffsetCommitRequest, code: ErrorCode, text: str) -> Answer:
    return answer(request, {}, code)
