"""ListPartitionReassignments (46), v0: the moves that are under way (KIP-455).

Behaviour: `replicas` are the old ones and those being added, as Kafka shows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import ListPartitionReassignmentsRequest


def handle(call: Call, request: ListPartitionReassignmentsRequest) -> Answer:
    wanted = None
    if request.topics is not None:
        wanted = {(topic.name, index) for topic in request.topics for index in topic.partition_indexes}
    topics: dict[str, list[dict[str, object]]] = {}
    for topic, number, assignment in call.backend.operations.moves():
        if wanted is None or (topic.name, number) in wanted:
            topics.setdefault(topic.name, []).append(
                {
                    "partition_index": number,
                    "replicas": assignment.hosts,
                    "adding_replicas": assignment.adding,
                    "removing_replicas": assignment.removing,
                }
            )
    return {
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "topics": [{"name": name, "partitions": partitions} for name, partitions in topics.items()],
    }
