"""InitProducerId (22), v0 to v5: an id for an idempotent producer.

Behaviour: every call gives an id that nobody has had, at epoch 0; a producer that asks to go on from an
epoch of its own (KIP-360) gets a new id too, which serves the same end. While nobody leads the metadata the
answer waits a little, then says COORDINATOR_LOAD_IN_PROGRESS, after which every client asks again.
Missing on purpose: transactions; a transactional id is refused as `errors.NO_TRANSACTIONS` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker.call import Call
from raftlog.broker.errors import NO_TRANSACTIONS
from raftlog.broker.registry import Answer
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import InitProducerIdRequest

PATIENCE_S: Final = 2.0
RETRY_S: Final = 0.1


async def handle(call: Call, request: InitProducerIdRequest) -> Answer:
    if request.transactional_id is not None:
        return _refused(NO_TRANSACTIONS)
    with trio.move_on_after(PATIENCE_S):
        while True:
            producer_id = await call.backend.producer_ids.allocate()
            if not isinstance(producer_id, ProposalFailed):
                return {"error_code": ErrorCode.NONE, "producer_id": producer_id, "producer_epoch": 0}
            await trio.sleep(RETRY_S)
    return _refused(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)


def _refused(code: ErrorCode) -> Answer:
    return {"error_code": code, "producer_id": -1, "producer_epoch": -1}
