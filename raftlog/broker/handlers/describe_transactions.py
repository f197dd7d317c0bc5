"""DescribeTransactions (65), v0: what a transactional id is doing.

Behaviour: the coordinator alone answers. A broker that knows of no coordinator says
COORDINATOR_LOAD_IN_PROGRESS. Start time -1 outside of a transaction. Of a transaction that is
decided, the partitions of which some may still wait for their marker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.broker.routing import coordinator_refusal
from raftlog.metadata.transaction_table import TransactionalId
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import encode_element
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation, ResourceKind

if TYPE_CHECKING:
    from raftlog.protocol.requests import DescribeTransactionsRequest

AT_ONCE: Final = 2_000
"""Ids and partitions that are described before others get their turn: about two milliseconds."""


async def handle(call: Call, request: DescribeTransactionsRequest) -> Answer:
    refusal = await coordinator_refusal(call.backend)
    states: list[bytes] = []
    count = 0
    # Each once: a transaction over many partitions, named thousands of times, would be gigabytes.
    for name in {each: each for each in request.transactional_ids}:
        value = call.backend.catalog.transactions.get(name)
        if refused := call.refusal(Operation.DESCRIBE, ResourceKind.TRANSACTIONAL_ID, name):
            state = _failed(name, refused)
        elif refusal:
            state = _failed(name, refusal)
        elif value is None:
            state = _failed(name, ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
        else:
            state = _state(call, name, value)
            count += len(value.partitions)
        states.append(
            encode_element(
                ApiKey.DESCRIBE_TRANSACTIONS, call.version, "response", "transaction_states", state
            )
        )
        count += 1
        if count >= AT_ONCE:
            count = 0
            await trio.lowlevel.checkpoint()
    return {"transaction_states": states}


def _state(call: Call, name: str, value: TransactionalId) -> dict[str, object]:
    topics: dict[str, list[int]] = {}
    for topic_id, number in value.partitions:
        topic = call.backend.catalog.topics_by_id.get(topic_id)
        if topic is not None and call.sees(Operation.DESCRIBE, ResourceKind.TOPIC, topic.name):
            topics.setdefault(topic.name, []).append(number)
    return {
        "error_code": ErrorCode.NONE,
        "transactional_id": name,
        "transaction_state": value.state.value,
        "transaction_timeout": value.timeout_ms,
        "transaction_start_time": value.started_ms,
        "producer_id": value.producer_id,
        "producer_epoch": value.epoch,
        "topics": [{"topic": topic, "partitions": numbers} for topic, numbers in topics.items()],
    }


def _failed(name: str, code: ErrorCode) -> dict[str, object]:
    return {
        "error_code": code,
        "transactional_id": name,
        "transaction_state": "",
        "transaction_timeout": 0,
        "transaction_start_time": 0,
        "producer_id": -1,
        "producer_epoch": -1,
        "topics": [],
    }
