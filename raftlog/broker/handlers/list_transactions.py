"""ListTransactions (66), v0 to v1: the transactional ids that this broker coordinates.

Behaviour: clients ask every broker; the coordinator has them all, and the others none. A broker that knows of
no coordinator says COORDINATOR_LOAD_IN_PROGRESS. Filters by state, by producer id and by how long a
transaction has been open (v1).
Missing on purpose: filters by pattern (v2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.broker.routing import coordinator_refusal
from raftlog.metadata.transaction_table import TransactionalId, TransactionState
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation, ResourceKind

if TYPE_CHECKING:
    from raftlog.protocol.requests import ListTransactionsRequest

AT_ONCE: Final = 2_000
"""Ids that are looked at before others get their turn: about two milliseconds."""
STATES: Final = frozenset(state.value for state in TransactionState)


async def handle(call: Call, request: ListTransactionsRequest) -> Answer:
    refusal = await coordinator_refusal(call.backend)
    wanted = _Wanted(call, request)
    table = call.backend.catalog.transactions
    found = []
    for number, name in enumerate(() if refusal else list(table), 1):
        if number % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        value = table.get(name)
        if value is None or not wanted.includes(value):
            continue
        if call.sees(Operation.DESCRIBE, ResourceKind.TRANSACTIONAL_ID, name):
            found.append(
                {
                    "transactional_id": name,
                    "producer_id": value.producer_id,
                    "transaction_state": value.state.value,
                }
            )
    return {
        "error_code": ErrorCode.NONE if refusal is ErrorCode.NOT_COORDINATOR else refusal,
        "unknown_state_filters": [state for state in request.state_filters if state not in STATES],
        "transaction_states": found,
    }


class _Wanted:
    """The filters of a request: it may name thousands of producers, and there are thousands of ids."""

    def __init__(self, call: Call, request: ListTransactionsRequest) -> None:
        self._states = frozenset(request.state_filters)
        self._producer_ids = frozenset(request.producer_id_filters)
        self._shortest_ms = request.duration_filter
        self._now_ms = call.now_ms

    def includes(self, value: TransactionalId) -> bool:
        if self._states and value.state.value not in self._states:
            return False
        if self._producer_ids and value.producer_id not in self._producer_ids:
            return False
        shortest = self._shortest_ms
        return shortest < 0 or (value.started_ms >= 0 and self._now_ms - value.started_ms > shortest)
