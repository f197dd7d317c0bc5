"""ElectLeaders (43), v0 to v2: give partitions back to their preferred leaders (KIP-183, KIP-460).

Behaviour: answered when the preferred leader leads, or cannot. Null asks for all partitions, and then those
that need no election are left out, as Kafka does.
Missing on purpose: unclean elections: a replica that lacks an acknowledged record cannot lead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.concurrent import for_each_once
from raftlog.broker.errors import admin_error_code
from raftlog.broker.registry import Answer
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import ElectLeadersRequest

PREFERRED: Final = 0


async def handle(call: Call, request: ElectLeadersRequest) -> Answer:
    named = request.topic_partitions
    is_for_all = named is None
    if named is None:
        catalog = call.backend.catalog
        wanted = [(topic.name, n) for topic in catalog.topics.values() for n in range(len(topic.partitions))]
    else:
        wanted = [(topic.topic, number) for topic in named for number in topic.partitions]
    unclean = request.election_type != PREFERRED

    async def elect(partition: tuple[str, int]) -> dict[str, object]:
        code, message = ErrorCode.NONE, None
        if unclean:
            code, message = ErrorCode.INVALID_REQUEST, "there are no unclean elections here"
        else:
            failure = await call.backend.operations.elect_preferred(*partition)
            if failure is not None:
                code, message = admin_error_code(failure.error), failure.message
        return {"partition_id": partition[1], "error_code": code, "error_message": message}

    topics: dict[str, list[dict[str, object]]] = {}
    results = await for_each_once(wanted, lambda partition: partition, elect, _named_twice)
    for (name, _), result in zip(wanted, results, strict=True):
        if not is_for_all or result["error_code"] is not ErrorCode.ELECTION_NOT_NEEDED:
            topics.setdefault(name, []).append(result)
    return {
        "error_code": ErrorCode.NONE,
        "replica_election_results": [
            {"topic": name, "partition_result": results} for name, results in topics.items()
        ],
    }


def refused(request: ElectLeadersRequest, code: ErrorCode, text: str) -> Answer:
    return {
        "error_code": code,
        "replica_election_results": [
            {
                "topic": topic.topic,
                "partition_result": [
                    {"partition_id": number, "error_code": code, "error_message": text}
                    for number in topic.partitions
                ],
            }
            for topic in request.topic_partitions or ()
        ],
    }


def _named_twice(partition: tuple[str, int]) -> dict[str, object]:
    return {
        "partition_id": partition[1],
        "error_code": ErrorCode.INVALID_REQUEST,
        "error_message": "the partition is named more than once",
    }
