"""Produce (0), v3 to v13: append batches.

Behaviour: every partition's batch goes to its Raft group; the answer goes out when the last of them is
committed or refused, straight from the driver's turn. acks=1 is answered like acks=all, acks=0 not at all:
an error closes the connection. A partition led elsewhere is answered with its leader (v10, KIP-951); while
leadership is being handed over the answer waits for the new leader's name, which is nearer than the client's
next try.
v0 to v2 are advertised, for librdkafka's sake, and refused with UNSUPPORTED_VERSION.
Batches of a transaction need a transactional id in the request; the first of a transaction on a partition
waits until the coordinator has said that the partition is in it (KIP-890). From v12 on the coordinator adds
the partition instead: such a producer says nothing else before its first batch.
A batch that says which offset it expects (`protocol.expected_offset`, which Kafka does not have) is alone in
its request. When the log ends elsewhere it is answered OFFSET_OUT_OF_RANGE, the end being the base offset.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Final

import trio

from raftlog.broker.backend import Backend
from raftlog.broker.call import Call
from raftlog.broker.errors import partition_error_code
from raftlog.broker.routing import endpoints, find_partition, find_topic, leader_hint
from raftlog.metadata.names import INTERNAL_TOPICS
from raftlog.partition.values import PartitionError, ProduceResult
from raftlog.partition.verifying import Membership, OnVerified
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.produce import (
    ProduceAnswer,
    ProduceRequest,
    decode_produce_request,
    encode_produce_response,
)
from raftlog.rights import Operation, ResourceKind

SERVED_FROM: Final = 3
LEADER_HINTS_FROM: Final = 10
ABORTABLE_FROM: Final = 11
"""The version from which on a producer knows the error that it should abort after."""
ADDS_FROM: Final = 12
"""The version from which on a batch adds its partition to the producer's transaction."""
ACKS: Final = (-1, 0, 1)
ELECTION_WAIT_S: Final = 0.5
"""How long an answer waits for the name of a new leader; handing over takes a hundredth of that."""

decode = decode_produce_request


def handle(call: Call, request: ProduceRequest) -> Awaitable[None] | None:
    pending = _Pending(call, request)
    refusal = _refusal(call, request)
    ill_compared = _ill_compared(request) if request.compares else None
    call.expect_answer_within(request.timeout_ms / 1000, pending.expire)
    now, now_ms, backend = call.now, call.now_ms, call.backend
    asking = None
    if request.transactional_id is not None:
        asking = _Asking(backend, request.transactional_id, adds=call.version >= ADDS_FROM)
    for row, (topic, partitions) in enumerate(request.topics):
        is_internal = topic in INTERNAL_TOPICS
        denied = refusal or call.topic_refusal(Operation.WRITE, topic)
        for column, (index, records, expected) in enumerate(partitions):
            if ill_compared and not denied:
                pending.refuse(row, column, ErrorCode.INVALID_REQUEST, ill_compared)
                continue
            if denied:
                pending.refuse(row, column, denied)
                continue
            if is_internal:
                pending.refuse(row, column, ErrorCode.INVALID_TOPIC_EXCEPTION)
                continue
            if records is None:
                pending.refuse(row, column, ErrorCode.INVALID_RECORD, "null instead of records")
                continue
            replica = find_partition(backend, topic, index)
            if isinstance(replica, ErrorCode):
                pending.refuse(row, column, replica)
                continue
            verify = None if asking is None else partial(asking.verify, (replica.topic_id, index))
            on_done = partial(pending.resolve, row, column)
            replica.producing.produce(
                records,
                now=now,
                now_ms=now_ms,
                on_done=on_done,
                verify=verify,
                expected_offset=expected,
            )
    if pending.leaderless and not backend.presence.is_cut_off:
        return _wait_for_leaders(backend, pending)
    pending.all_started()
    return None


async def _wait_for_leaders(backend: Backend, pending: _Pending) -> None:
    """Before the answer, and before the next request of this client is looked at: it would fare no better."""
    with trio.move_on_after(ELECTION_WAIT_S):
        for name in list(pending.leaderless):  # meanwhile others may be refused
            topic = find_topic(backend, name)
            if not isinstance(topic, ErrorCode):
                await backend.leaders.wait_for_leaders(topic)
    pending.all_started()


def _refusal(call: Call, request: ProduceRequest) -> ErrorCode | None:
    """Why nothing of the request can be done."""
    if call.version < SERVED_FROM:
        return ErrorCode.UNSUPPORTED_VERSION
    if request.acks not in ACKS:
        return ErrorCode.INVALID_REQUIRED_ACKS
    transactional_id = request.transactional_id
    if transactional_id is not None and not call.may(
        Operation.WRITE, ResourceKind.TRANSACTIONAL_ID, transactional_id
    ):
        return ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    return None


def _ill_compared(request: ProduceRequest) -> str | None:
    """Why no batch of the request may say which offset it expects."""
    if sum(len(partitions) for _, partitions in request.topics) > 1:
        return "a batch that expects an offset is alone in its request"
    if request.acks == 0:
        return "a batch that expects an offset wants an answer: acks=0 has none"
    return None


class _Asking:
    """What the partitions of a request ask the coordinator of its transactional id."""

    __slots__ = ("_adds", "_backend", "_producer_id", "_transactional_id")

    def __init__(self, backend: Backend, transactional_id: str, *, adds: bool) -> None:
        self._backend = backend
        self._adds = adds
        self._transactional_id = transactional_id
        self._producer_id: int | None = None

    def verify(
        self, partition: tuple[bytes, int], producer_id: int, epoch: int, on_verified: OnVerified
    ) -> None:
        """See `partition.verifying.Verify`. A transactional id is one producer's."""
        if self._producer_id not in (None, producer_id):
            on_verified(Membership.WRONG_PRODUCER, trio.current_time())
            return
        self._producer_id = producer_id
        self._backend.verification.verify(
            self._transactional_id, producer_id, epoch, partition, on_verified, adds=self._adds
        )


class _Pending:
    """A request whose partitions answer one by one."""

    __slots__ = ("_answers", "_call", "_missing", "_request", "leaderless")

    def __init__(self, call: Call, request: ProduceRequest) -> None:
        self._call = call
        self._request = request
        self._answers: list[list[ProduceAnswer | None]] = [
            [None] * len(partitions) for _, partitions in request.topics
        ]
        self._missing = 1 + sum(len(partitions) for _, partitions in request.topics)
        self.leaderless: set[str | bytes] = set()
        """Topics with a partition that is led elsewhere, nobody knows where."""

    def resolve(self, row: int, column: int, result: ProduceResult) -> None:
        """A partition is done. Called from the driver's turn: it raises nothing."""
        if self._answers[row][column] is not None:
            return  # answered by `expire` before
        try:
            error, base_offset, append_time, log_start_offset, message, keyless = result
            index = self._request.topics[row].partitions[column].partition
            if error is None:
                self._put(row, column, ProduceAnswer(index, 0, base_offset, append_time, log_start_offset))
            elif error is PartitionError.OFFSET_MISMATCH:  # nothing is wrong: another writer was faster
                code = self._code(error)
                answer = ProduceAnswer(index, code, base_offset, -1, log_start_offset, message)
                self._put(row, column, answer)
            else:
                self.refuse(row, column, self._code(error), message, keyless)
        except Exception:
            self._call.failed()

    def _code(self, error: PartitionError) -> ErrorCode:
        if error is PartitionError.NOT_IN_TRANSACTION and self._call.version >= ABORTABLE_FROM:
            return ErrorCode.TRANSACTION_ABORTABLE
        return partition_error_code(error)

    def refuse(
        self,
        row: int,
        column: int,
        code: ErrorCode,
        message: str | None = None,
        bad_records: Sequence[int] = (),
    ) -> None:
        topic, partitions = self._request.topics[row]
        index = partitions[column].partition
        if message is not None:
            name = topic if isinstance(topic, str) else topic.hex()
            self._call.refuse(f"{name}-{index}", f"{code.name}, {message}")
        if code is ErrorCode.NOT_LEADER_OR_FOLLOWER and leader_hint(self._call.backend, topic, index) is None:
            self.leaderless.add(topic)
        self._put(row, column, ProduceAnswer(index, code, message=message, bad_records=bad_records))

    def all_started(self) -> None:
        """Every partition was asked; those that have not answered yet will."""
        self._missing -= 1
        if not self._missing:
            self._finish()

    def expire(self) -> None:
        """The producer's patience is over: what has not answered may still happen."""
        for row, answers in enumerate(self._answers):
            for column, answer in enumerate(answers):
                if answer is None:
                    self.refuse(row, column, ErrorCode.REQUEST_TIMED_OUT)

    def _put(self, row: int, column: int, answer: ProduceAnswer) -> None:
        self._answers[row][column] = answer
        self._missing -= 1
        if not self._missing:
            self._finish()

    def _finish(self) -> None:
        """Answer, and let go of the request's bytes: a partition may hold on to this object for long."""
        call, acks = self._call, self._request.acks
        rows = [
            (topic, [self._led(topic, answer) for answer in answers if answer is not None])
            for (topic, _), answers in zip(self._request.topics, self._answers, strict=True)
        ]
        self._request = self._request._replace(topics=[])
        if acks == 0:
            failed = next((a for _, answers in rows for a in answers if a.error), None)
            if failed is None:
                call.end_without_answer()
            else:
                call.disconnect(f"acks=0 met {ErrorCode(failed.error).name}: there is no other way to say so")
            return
        hints = endpoints(call, (answer.leader for _, answers in rows for answer in answers))
        call.reply_chunks(
            [
                encode_produce_response(
                    call.version, call.header.correlation_id, rows, hints, throttle_ms=call.throttle_ms
                )
            ]
        )

    def _led(self, topic: str | bytes, answer: ProduceAnswer) -> ProduceAnswer:
        """The answer, with the leader's name where that helps."""
        if answer.error != ErrorCode.NOT_LEADER_OR_FOLLOWER or self._call.version < LEADER_HINTS_FROM:
            return answer
        return answer._replace(leader=leader_hint(self._call.backend, topic, answer.partition))
