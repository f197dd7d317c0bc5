"""FindCoordinator (10), v0 to v6: where a group, or a transactional id, is coordinated.

Behaviour: all groups and transactions are coordinated by the broker that leads the metadata group. While
there is none the answer is held back a little, then COORDINATOR_NOT_AVAILABLE: some clients give up after a
few of those. A broker that is cut off names any of the others, which knows more. From v4 on many keys at once
(KIP-699).
While a broker of a build without transactions is in the cluster, transactional ids are refused, as
`errors.NO_TRANSACTIONS` says.
Missing on purpose: coordinators of share groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker.call import Call
from raftlog.broker.errors import NO_TRANSACTIONS
from raftlog.broker.registry import Answer
from raftlog.broker.rights import REFUSED
from raftlog.broker.routing import any_of, elsewhere
from raftlog.metadata.catalog import BrokerInfo
from raftlog.metadata.features import known_to_all
from raftlog.metadata.transaction_steps import TRANSACTIONS_LEVEL
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation, ResourceKind

if TYPE_CHECKING:
    from raftlog.protocol.requests import FindCoordinatorRequest

GROUP: Final = 0
_KINDS: Final = {GROUP: ResourceKind.GROUP, 1: ResourceKind.TRANSACTIONAL_ID, 2: ResourceKind.GROUP}
PATIENCE_S: Final = 1.0
RETRY_S: Final = 0.02


async def handle(call: Call, request: FindCoordinatorRequest) -> Answer:
    keys = request.coordinator_keys
    refused = {key: answer for key in keys if (answer := _refused(call, request.key_type, key)) is not None}
    found = await _find(call, request.key_type) if len(refused) < len(set(keys)) or not keys else {}
    if call.version < 4:
        return next(iter(refused.values()), found)
    return {"coordinators": [{"key": key, **refused.get(key, found)} for key in keys]}


def _refused(call: Call, key_type: int, key: str) -> dict[str, object] | None:
    """What whoever may not describe a group or a transactional id is told, with a text that clients show."""
    kind = _KINDS.get(key_type)
    if kind is None or call.may(Operation.DESCRIBE, kind, key):
        return None
    return _nobody(REFUSED[kind], call.why_not(Operation.DESCRIBE, kind, key))


async def _find(call: Call, key_type: int) -> dict[str, object]:
    match key_type:
        case 0:  # a group
            return await _find_leader(call)
        case 1:  # a transactional id
            found = await _find_leader(call)
            known = known_to_all(call.backend.catalog.brokers.values())
            if found["error_code"] is ErrorCode.NONE and known < TRANSACTIONS_LEVEL:
                return _nobody(NO_TRANSACTIONS, "a broker of an older version is in the cluster")
            return found
        case 2:  # a share group
            return _nobody(ErrorCode.UNSUPPORTED_VERSION, "share groups are not built yet")
        case other:
            return _nobody(ErrorCode.INVALID_REQUEST, f"there is no coordinator of type {other}")


async def _find_leader(call: Call) -> dict[str, object]:
    backend = call.backend
    with trio.move_on_after(PATIENCE_S):
        while True:
            coordinator = backend.coordination.coordinator_id
            broker = backend.catalog.brokers.get(coordinator) if coordinator is not None else None
            if broker is not None:
                return _somebody(call, broker)
            if others := elsewhere(backend):
                return _somebody(call, backend.catalog.brokers[any_of(others)])
            await trio.sleep(RETRY_S)
    return _nobody(ErrorCode.COORDINATOR_NOT_AVAILABLE, "nobody leads the metadata group just now")


def _somebody(call: Call, broker: BrokerInfo) -> dict[str, object]:
    host, port = call.address_of(broker)
    return {
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "node_id": broker.id,
        "host": host,
        "port": port,
    }


def _nobody(code: ErrorCode, message: str) -> dict[str, object]:
    return {"error_code": code, "error_message": message, "node_id": -1, "host": "", "port": -1}
