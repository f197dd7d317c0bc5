"""OffsetCommit (8), v2 to v9: store a group's positions.

Behaviour: answered when the offsets are on a majority of disks, all of a request together. A group without
members takes commits of anyone who names no generation; otherwise member and generation must be right.
Retention times of clients (v2 to v4) are ignored, as by Kafka since KIP-211. Negative offsets are kept as
they come, as by Kafka: kafkajs means the beginning and the end by -2 and -1, others take them for none.
Of a partition that is named twice the last offset stands. A commit of more than 8 MiB is refused
(INVALID_COMMIT_OFFSET_SIZE), in Kafka one of more than the offsets topic's `max.message.bytes`.
Missing on purpose: topics by id (v10).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, assert_never

from raftlog.broker.call import Call
from raftlog.broker.errors import group_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.groups import CommitCheck, GroupError
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.metadata.noun import Refusal, Refused
from raftlog.metadata.offsets import GroupCommit, OffsetCommit, OffsetsCommitted
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation

if TYPE_CHECKING:
    from raftlog.protocol.requests import OffsetCommitRequest

_Key = tuple[str, int]


def handle(call: Call, request: OffsetCommitRequest) -> None:
    backend = call.backend
    error = backend.groups.check_commit(
        CommitCheck(
            group_id=request.group_id,
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            generation_id=request.generation_id_or_member_epoch,
        ),
        call.now,
    )
    if error is not GroupError.NONE:
        _reply(call, request, {}, group_error_code(error))
        return
    refused, offsets = _sort(call, request)
    if not offsets:
        _reply(call, request, refused, ErrorCode.NONE)
        return

    def on_done(result: OffsetsCommitted | Refused | ProposalFailed) -> None:
        match result:
            case OffsetsCommitted(unknown):
                gone = {(topic, partition) for _, topic, partition in unknown}
                codes = refused | dict.fromkeys(gone, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                _reply(call, request, codes, ErrorCode.NONE)
            case ProposalFailed():
                # Committing again does no harm, so the client may: it looks for the coordinator first.
                _reply(call, request, refused, ErrorCode.COORDINATOR_NOT_AVAILABLE)
            case Refused(Refusal.TOO_LARGE):
                _reply(call, request, refused, ErrorCode.INVALID_COMMIT_OFFSET_SIZE)
            case Refused():
                _reply(call, request, refused, ErrorCode.INVALID_REQUEST)
            case _:
                assert_never(result)

    backend.offsets.commit(GroupCommit(request.group_id, call.now_ms, tuple(offsets)), on_done)


def _sort(call: Call, request: OffsetCommitRequest) -> tuple[dict[_Key, ErrorCode], Collection[OffsetCommit]]:
    """What cannot be stored, with the reason, and what can, each partition once."""
    catalog = call.backend.catalog
    metadata_max = call.backend.config.int("offset.metadata.max.bytes")
    refused: dict[_Key, ErrorCode] = {}
    offsets: dict[_Key, OffsetCommit] = {}
    for topic in request.topics:
        denied = call.topic_refusal(Operation.READ, topic.name)
        known = catalog.topics.get(topic.name)
        for each in topic.partitions:
            index, metadata = each.partition_index, each.committed_metadata or ""
            if denied:
                refused[topic.name, index] = denied
            elif known is None or not 0 <= index < len(known.partitions):
                refused[topic.name, index] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            elif len(metadata.encode()) > metadata_max:
                refused[topic.name, index] = ErrorCode.OFFSET_METADATA_TOO_LARGE
            else:
                epoch = each.committed_leader_epoch
                offsets[topic.name, index] = OffsetCommit(
                    topic.name, index, each.committed_offset, epoch, metadata
                )
    return refused, offsets.values()


def refused(request: OffsetCommitRequest, code: ErrorCode, text: str) -> Answer:
    return _answer(request, {}, code)


def _reply(
    call: Call, request: OffsetCommitRequest, codes: dict[_Key, ErrorCode], otherwise: ErrorCode
) -> None:
    call.reply(_answer(request, codes, otherwise))


def _answer(request: OffsetCommitRequest, codes: dict[_Key, ErrorCode], otherwise: ErrorCode) -> Answer:
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
