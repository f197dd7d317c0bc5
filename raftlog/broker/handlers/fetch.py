"""Fetch (1), v4 to v17: read committed batches.

Behaviour: whole batches from the one that holds the offset, the first of an answer even when it is larger
than every limit (KIP-74); large ranges go from the file to the socket without passing through here, once
they have been checked. What is not in the page cache is brought there by a thread first. With
less than `min_bytes` the answer waits for the high watermark to move; an error, an empty request or a
closing session never waits. Topics by id from v13, leaders and where they listen from v16 (KIP-951).
A read_committed consumer sees what ends before the last stable offset, and is told whose records in it were
aborted (KIP-98); `min_bytes` counts what it sees.
Missing on purpose: sessions (the session id is always 0, which clients accept: KIP-227), reading from
followers, and replicas: who claims to be one is a consumer.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import trio

from raftlog.broker.backend import Partition
from raftlog.broker.call import Call
from raftlog.broker.errors import partition_error_code
from raftlog.broker.routing import confirm_leaders, endpoints, find_partition, leader_hint
from raftlog.net.sending import Chunk
from raftlog.net.stream import FileRange
from raftlog.partition.values import FetchResult, PartitionError
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.fetch import FetchAnswer, encode_fetch_response
from raftlog.protocol.requests import fetch_topic_name
from raftlog.protocol.schema import milliseconds, uuid_bytes
from raftlog.rights import Operation
from raftlog.storage.segment_reader import Slice
from raftlog.storage.warming import Warming

if TYPE_CHECKING:
    from raftlog.protocol.requests import FetchRequest

TOPIC_IDS_FROM: Final = 13
STORAGE_ERROR_FROM: Final = 6
INITIAL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
"""The epochs of a session that name everything wanted, whatever the session: one that would begin, one that
ends (KIP-227). Any other goes on from what the session knows."""
LEADER_HINTS_FROM: Final = 12
READ_COMMITTED: Final = 1
"""The isolation level of a reader that sees no record of a transaction that is open or was aborted."""
SENDFILE_MIN: Final = 32 * 1024
"""Bytes of a range from which sendfile is cheaper than reading it and sending it with the rest."""
READ_AT_ONCE_MAX: Final = 8 << 20
"""Bytes of an answer, whatever the client takes: all of them are read and checked before the loop goes on, a
few milliseconds' work."""
AT_ONCE_MAX: Final = 2000
"""Partitions of a request that is read, looked up and answered in one go."""
DISK_READERS: Final = 4
"""Threads that read from the disk ahead of answers; a disk is not faster for more."""
WAIT_MAX_S: Final = 60.0
"""The longest that an answer is held back, whatever the client asks for: it may be gone meanwhile."""


class Wanted(NamedTuple):
    """A partition as the request names it; `replica` is an error code when it is not here."""

    partition: int
    replica: Partition | ErrorCode
    offset: int
    max_bytes: int
    leader_epoch: int
    committed: bool
    """Whether only what is decided is wanted."""


class Found(NamedTuple):
    """What a pass over the partitions gave, in the request's order."""

    results: list[list[FetchResult | ErrorCode]]
    size: int
    has_error: bool
    out_of_range: list[Partition]


Topics = list[tuple[str | bytes, list[Wanted]]]

_disk_readers: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("disk_readers")


def handle(call: Call, request: FetchRequest) -> Coroutine[None, None, None] | None:
    if request.session_epoch not in (INITIAL_EPOCH, FINAL_EPOCH):
        _reply(call, [], Found([], 0, True, []), error=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        return None
    if call.throttle_ms:  # above its quota: it is told when to come again, and nothing is read
        _reply(call, [], Found([], 0, False, []))
        return None
    if sum(len(each.partitions) for each in request.topics) > AT_ONCE_MAX:
        return _in_turns(call, request)
    return _serve(call, request, _resolve(call, request))


async def _in_turns(call: Call, request: FetchRequest) -> None:
    """Between what takes long for many partitions, others have their turn."""
    await trio.lowlevel.checkpoint()
    topics = _resolve(call, request)
    await trio.lowlevel.checkpoint()
    later = _serve(call, request, topics)
    if later is not None:
        await later


def _serve(call: Call, request: FetchRequest, topics: Topics) -> Coroutine[None, None, None] | None:
    memory, config = call.backend.memory, call.backend.config
    allowed = min(config.int("fetch.max.bytes"), max(1, memory.room_for_answers), READ_AT_ONCE_MAX)
    max_bytes = min(request.max_bytes, allowed)
    cold = _cold(topics, max_bytes)
    if cold:
        return _warm(call, request, topics, max_bytes, cold)
    return _answer_or_wait(call, request, topics, max_bytes)


async def _warm(
    call: Call, request: FetchRequest, topics: Topics, max_bytes: int, cold: list[Warming]
) -> None:
    """Have what the answer takes read from the disk, where the event loop does not wait for it."""
    try:
        limiter = _disk_readers.get()
    except LookupError:
        limiter = trio.CapacityLimiter(DISK_READERS)
        _disk_readers.set(limiter)
    for warming in cold:
        await trio.to_thread.run_sync(warming.run, abandon_on_cancel=True, limiter=limiter)
    topics = _judged_again(call, topics)
    later = _answer_or_wait(call, request, topics, max_bytes)
    if later is not None:
        await later


def _answer_or_wait(
    call: Call, request: FetchRequest, topics: Topics, max_bytes: int
) -> Coroutine[None, None, None] | None:
    found = _read(topics, max_bytes)
    if found.out_of_range:
        return _read_again(call, topics, max_bytes, found)
    wait_s = min(milliseconds(request.max_wait) / 1000, WAIT_MAX_S)
    min_bytes = min(request.min_bytes, max_bytes)
    if found.size >= min_bytes or found.has_error or wait_s <= 0 or not topics:
        _reply(call, topics, found)
        return None
    return _wait(call, topics, max_bytes, min_bytes, wait_s)


def _resolve(call: Call, request: FetchRequest) -> Topics:
    backend, by_id, epochs = call.backend, call.version >= TOPIC_IDS_FROM, call.version >= 9
    committed = request.isolation_level == READ_COMMITTED
    topics: Topics = []
    for each in request.topics:
        topic = uuid_bytes(each.topic_id) if by_id else fetch_topic_name(each)
        denied = call.topic_refusal(Operation.READ, topic)
        topics.append(
            (
                topic,
                [
                    Wanted(
                        one.partition,
                        denied or find_partition(backend, topic, one.partition),
                        one.fetch_offset,
                        one.partition_max_bytes,
                        one.current_leader_epoch if epochs else -1,
                        committed,
                    )
                    for one in each.partitions
                ],
            )
        )
    return topics


def _cold(topics: Topics, max_bytes: int) -> list[Warming]:
    """What the answer would take and is not in the page cache."""
    cold: list[Warming] = []
    left = max_bytes
    for _, partitions in topics:
        for _, replica, offset, partition_max, _, committed in partitions:
            if isinstance(replica, ErrorCode):
                continue
            if offset >= (replica.reading.last_stable_offset if committed else replica.high_watermark):
                continue
            limit = max(min(partition_max, left), 1)
            warming = replica.reading.cold(offset, limit)
            if warming is not None:
                cold.append(warming)
                left -= limit
                if left <= 0:
                    return cold
    return cold


def _read(topics: Topics, max_bytes: int) -> Found:
    """One pass. The first batch found is given whole; after it, what fits."""
    rows: list[list[FetchResult | ErrorCode]] = []
    size, has_error, out_of_range = 0, False, list[Partition]()
    for _, partitions in topics:
        row: list[FetchResult | ErrorCode] = []
        for _, replica, offset, partition_max, epoch, committed in partitions:
            if isinstance(replica, ErrorCode):
                row.append(replica)
                has_error = True
                continue
            limit = min(partition_max, max_bytes - size)
            result = replica.reading.fetch(offset, max(limit, 1), leader_epoch=epoch, committed=committed)
            found = result.slice
            if found is None:
                has_error = has_error or result.error is not None
                if result.error is PartitionError.OFFSET_OUT_OF_RANGE:
                    out_of_range.append(replica)
            elif size and found.length > limit:
                result = result._replace(slice=None, aborted=())
            else:
                size += found.length
            row.append(result)
        rows.append(row)
    return Found(rows, size, has_error, out_of_range)


def _is_judged(call: Call) -> bool:
    """Whether it matters who asks: there is an authorizer, or clients log in here."""
    return call.backend.authorizer is not None or call.origin.gate is not None


def _judged_again(call: Call, topics: Topics) -> Topics:
    """While an answer was held back, its client may have lost the right to it. Raises InvalidInput for one
    whose session is over."""
    if not _is_judged(call):
        return topics
    if call.origin.gate is not None:
        call.origin.gate.check_session()
    judged: Topics = []
    for topic, partitions in topics:
        denied = call.topic_refusal(Operation.READ, topic)
        judged.append((topic, [one._replace(replica=denied) for one in partitions] if denied else partitions))
    return judged


async def _read_again(call: Call, topics: Topics, max_bytes: int, found: Found) -> None:
    """An offset that is out of range makes consumers start over, so it is said only by who leads for certain:
    a leader that was paused and replaced has not seen what its consumers have read since."""
    await confirm_leaders(found.out_of_range, call.now)
    topics = _judged_again(call, topics)
    _reply(call, topics, _read(topics, max_bytes))


async def _wait(call: Call, topics: Topics, max_bytes: int, min_bytes: int, wait_s: float) -> None:
    """Read again whenever a high watermark or a leadership moves, until there is enough or time is up."""
    alarm = _Alarm()
    replicas = [
        wanted.replica
        for _, partitions in topics
        for wanted in partitions
        if not isinstance(wanted.replica, ErrorCode)
    ]
    for replica in replicas:
        replica.waiters.add(alarm)
    try:
        found = _read(topics, max_bytes)
        with trio.move_on_after(wait_s):
            while found.size < min_bytes and not found.has_error:
                await alarm.wait()
                topics = _judged_again(call, topics)
                found = _read(topics, max_bytes)
    finally:
        for replica in replicas:
            replica.waiters.remove(alarm)
    if _is_judged(call):  # what was found before the wait counts no more
        topics = _judged_again(call, topics)
        found = _read(topics, max_bytes)
    if found.out_of_range:
        await _read_again(call, topics, max_bytes, found)
        return
    _reply(call, topics, found)


class _Alarm:
    """Wakes one task when it is called; calls that come before it waits again are one."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def __call__(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


def _reply(call: Call, topics: Topics, found: Found, *, error: ErrorCode = ErrorCode.NONE) -> None:
    hints_wanted = call.version >= LEADER_HINTS_FROM
    rows: list[tuple[str | bytes, list[FetchAnswer]]] = []
    hints = []
    for (topic, partitions), results in zip(topics, found.results, strict=True):
        answers: list[FetchAnswer] = []
        for wanted, result in zip(partitions, results, strict=True):
            answer = _answer(call, wanted.partition, result)
            if answer.size and not isinstance(wanted.replica, ErrorCode):
                wanted.replica.counters.bytes_out += answer.size
            if answer.error == ErrorCode.NOT_LEADER_OR_FOLLOWER and hints_wanted:
                hint = leader_hint(call.backend, topic, wanted.partition)
                answer = answer._replace(leader=hint)
                hints.append(hint)
            answers.append(answer)
        rows.append((topic, answers))
    if call.quotas is not None and found.size:
        call.pause(call.quotas.fetched(call.origin.user, call.client_id, found.size, call.now))
    chunks: list[object] = encode_fetch_response(
        call.version,
        call.header.correlation_id,
        rows,
        endpoints(call, hints),
        error=error,
        throttle_ms=call.throttle_ms,
    )
    call.reply_chunks(cast("list[Chunk]", chunks))


def _answer(call: Call, index: int, result: FetchResult | ErrorCode) -> FetchAnswer:
    if isinstance(result, ErrorCode):
        return FetchAnswer(index, result)
    code = partition_error_code(result.error)
    if code is ErrorCode.KAFKA_STORAGE_ERROR and call.version < STORAGE_ERROR_FROM:
        code = ErrorCode.NOT_LEADER_OR_FOLLOWER
    answer = FetchAnswer(
        index,
        code,
        result.high_watermark,
        result.log_start_offset,
        last_stable_offset=result.last_stable_offset,
    )
    if result.slice is None:
        return answer
    return answer._replace(
        records=_records(result.slice),
        size=result.slice.length,
        aborted=[(one.producer_id, one.first_offset) for one in result.aborted],
    )


def _records(found: Slice) -> Chunk:
    if found.length < SENDFILE_MIN or not found.may_lend:
        return found.read()
    fileno = found.fileno
    if fileno < 0:  # a disk that is not the system's, as in simulations
        return found.read()
    return FileRange(found.file, fileno, found.position, found.length)
