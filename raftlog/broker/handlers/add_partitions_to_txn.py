"""AddPartitionsToTxn (24), v0 to v3: partitions become part of a producer's transaction.

Behaviour: durable before the answer, so that a coordinator that takes over knows where markers belong. All
or nothing: where a topic is unknown the others are OPERATION_NOT_ATTEMPTED. While the transaction before
waits for its markers the answer is held back, where Kafka says CONCURRENT_TRANSACTIONS.
Missing on purpose: v4 and v5, which brokers send each other in Kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.errors import transaction_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.transactions.coordinator import TransactionError
from raftlog.metadata.names import INTERNAL_TOPICS
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation

if TYPE_CHECKING:
    from raftlog.protocol.requests import AddPartitionsToTxnRequest

PRODUCER_FENCED_FROM: Final = 2

_Key = tuple[str, int]


async def handle(call: Call, request: AddPartitionsToTxnRequest) -> Answer | None:
    producer = (
        request.v3_and_below_transactional_id,
        request.v3_and_below_producer_id,
        request.v3_and_below_producer_epoch,
    )
    if call.is_late(*producer):
        return None
    partitions, cannot = _sort(call, request)
    if cannot:
        return _answer(request, cannot, ErrorCode.OPERATION_NOT_ATTEMPTED)
    result = await call.backend.transactions.add(
        *producer,
        partitions=tuple(partitions),
    )
    if isinstance(result, TransactionError):
        has_code = call.version >= PRODUCER_FENCED_FROM
        fenced = ErrorCode.PRODUCER_FENCED if has_code else ErrorCode.INVALID_PRODUCER_EPOCH
        return _answer(request, {}, transaction_error_code(result, fenced=fenced))
    return _answer(request, {}, ErrorCode.NONE)


def _sort(
    call: Call, request: AddPartitionsToTxnRequest
) -> tuple[list[tuple[bytes, int]], dict[_Key, ErrorCode]]:
    """The partitions by their topics' ids, and those that cannot be in a transaction."""
    partitions: list[tuple[bytes, int]] = []
    refused: dict[_Key, ErrorCode] = {}
    for topic in request.v3_and_below_topics:
        denied = call.topic_refusal(Operation.WRITE, topic.name)
        known = call.backend.catalog.topics.get(topic.name)
        for index in topic.partitions:
            if denied:
                refused[topic.name, index] = denied
            elif topic.name in INTERNAL_TOPICS:
                refused[topic.name, index] = ErrorCode.INVALID_TOPIC_EXCEPTION
            elif known is None or not 0 <= index < len(known.partitions):
                refused[topic.name, index] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                partitions.append((known.topic_id, index))
    return partitions, refused


def refused(request: AddPartitionsToTxnRequest, code: ErrorCode, text: str) -> Answer:
    return _answer(request, {}, code)


def _answer(request: AddPartitionsToTxnRequest, codes: dict[_Key, ErrorCode], otherwise: ErrorCode) -> Answer:
    return {
        "results_by_topic_v3_and_below": [
            {
                "name": topic.name,
                "results_by_partition": [
                    {
                        "partition_index": index,
                        "partition_error_code": codes.get((topic.name, index), otherwise),
                    }
                    for index in topic.partitions
                ],
            }
            for topic in request.v3_and_below_topics
        ]
    }
