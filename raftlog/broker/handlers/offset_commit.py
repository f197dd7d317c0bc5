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

from collections.abc import Awaitable
from typing import TYPE_CHECKING, assert_never

import trio

from raftlog.broker.call import INLINE_ROWS_MAX, Call
from raftlog.broker.committing import Codes, answer, storable
from raftlog.broker.errors import group_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.groups import CommitCheck, GroupError
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.offsets import CommitResult
from raftlog.metadata.noun import Refusal, Refused
from raftlog.metadata.offsets import GroupCommit, OffsetsCommitted
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import OffsetCommitRequest


def handle(call: Call, request: OffsetCommitRequest) -> Answer | Awaitable[Answer] | None:
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
        return answer(request, {}, group_error_code(error))
    refused, offsets = storable(call, request)
    if not offsets:
        return answer(request, refused, ErrorCode.NONE)
    commit = GroupCommit(request.group_id, call.now_ms, tuple(offsets))
    if sum(len(topic.partitions) for topic in request.topics) > INLINE_ROWS_MAX:
        return _commit_many(call, request, refused, commit)
    backend.offsets.commit(commit, lambda result: call.reply(_answer(request, refused, result)))
    return None


async def _commit_many(
    call: Call, request: OffsetCommitRequest, refused: Codes, commit: GroupCommit
) -> Answer:
    """As a small commit, but that the answer is left to be encoded in a thread."""
    await trio.lowlevel.checkpoint()  # many were just read
    results: list[CommitResult] = []
    is_done = trio.Event()

    def on_done(result: CommitResult) -> None:
        results.append(result)
        is_done.set()

    call.backend.offsets.commit(commit, on_done)
    await is_done.wait()
    return _answer(request, refused, results[0])


def _answer(request: OffsetCommitRequest, refused: Codes, result: CommitResult) -> Answer:
    match result:
        case OffsetsCommitted(unknown):
            gone = {(topic, partition) for _, topic, partition in unknown}
            codes = refused | dict.fromkeys(gone, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            return answer(request, codes, ErrorCode.NONE)
        case ProposalFailed():
            # Committing again does no harm, so the client may: it looks for the coordinator first.
            return answer(request, refused, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        case Refused(Refusal.TOO_LARGE):
            return answer(request, refused, ErrorCode.INVALID_COMMIT_OFFSET_SIZE)
        case Refused():
            return answer(request, refused, ErrorCode.INVALID_REQUEST)
        case _:
            assert_never(result)


def refused(request: OffsetCommitRequest, code: ErrorCode, text: str) -> Answer:
    return answer(request, {}, code)
