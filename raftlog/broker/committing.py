"""What a request commits for a group, and its answer: OffsetCommit and TxnOffsetCommit are alike in that."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, TypeAlias

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.metadata.offsets import OffsetCommit
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation

if TYPE_CHECKING:
    from raftlog.protocol.requests import OffsetCommitRequest, TxnOffsetCommitRequest

    Request: TypeAlias = OffsetCommitRequest | TxnOffsetCommitRequest

Codes = dict[tuple[str, int], ErrorCode]
"""By topic and partition."""


def storable(call: Call, request: Request) -> tuple[Codes, Collection[OffsetCommit]]:
    """What cannot be stored, with the reason, and what can, each partition once."""
    catalog = call.backend.catalog
    metadata_max = call.backend.config.int("offset.metadata.max.bytes")
    refused: Codes = {}
    offsets: dict[tuple[str, int], OffsetCommit] = {}
    for topic in request.topics:
        denied = call.topic_refusal(Operation.READ, topic.name)
        count = catalog.partition_count(topic.name)
        for each in topic.partitions:
            index, metadata = each.partition_index, each.committed_metadata or ""
            if denied:
                refused[topic.name, index] = denied
            elif not 0 <= index < count:
                refused[topic.name, index] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            elif len(metadata.encode()) > metadata_max:
                refused[topic.name, index] = ErrorCode.OFFSET_METADATA_TOO_LARGE
            else:
                epoch = each.committed_leader_epoch
                offsets[topic.name, index] = OffsetCommit(
                    topic.name, index, each.committed_offset, epoch, metadata
                )
    return refused, offsets.values()


def answer(request: Request, codes: Codes, otherwise: ErrorCode) -> Answer:
    """The code of each partition that the request names: `otherwise` where there is none for it."""
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {
                        "partition_index": each.partition_index,
                        "error_code": codes.get((topic.name, each.partition_index), otherwise),
                    }
                    for each in topic.partitions
                ],
            }
            for topic in request.topics
        ]
    }
