"""WriteTxnMarkers (27), v1 to v2: an administrator ends a transaction that hangs on a partition.

Behaviour: it is what `kafka-transactions.sh abort` sends. The transaction is aborted here if it is open and
no transactional id has the partition in a transaction: then nobody else would ever end it. One that its
coordinator knows is refused with INVALID_TXN_STATE, since other partitions of it may come to be committed:
`raftlog txn abort` ends it as a whole. A commit is refused: what was written for a transaction that nobody
knows must not be shown as one. Brokers of raftlog have their own way to send each other markers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from raftlog.broker.backend import Partition
from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.broker.routing import find_partition
from raftlog.metadata.transaction_table import TransactionalId
from raftlog.partition.markers import BY_HAND, Marker
from raftlog.partition.marking import Marked
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import WritableTxnMarker, WriteTxnMarkersRequest

MARKERS_MAX: Final = 1_000
"""In one request; the tool sends one."""
AT_ONCE: Final = 5_000
"""Transactional ids that are looked at before others get their turn: two milliseconds."""

_CODES: Final = {
    Marked.DONE: ErrorCode.NONE,
    Marked.PRODUCER_FENCED: ErrorCode.INVALID_PRODUCER_EPOCH,
    Marked.COORDINATOR_FENCED: ErrorCode.TRANSACTION_COORDINATOR_FENCED,
    Marked.NOT_NOW: ErrorCode.NOT_LEADER_OR_FOLLOWER,
}


class _Wanted(NamedTuple):
    """A marker for one partition."""

    marker: WritableTxnMarker
    topic: str
    partition: int
    replica: Partition | ErrorCode
    since: int
    """Where the transaction begins that was open when the administrator asked."""


async def handle(call: Call, request: WriteTxnMarkersRequest) -> Answer:
    wanted = [
        _look(call, marker, topic.name, index)
        for marker in request.markers
        for topic in marker.topics
        for index in topic.partition_indexes
    ]
    codes: list[ErrorCode] = []
    if len(wanted) > MARKERS_MAX:
        codes = [ErrorCode.INVALID_REQUEST] * len(wanted)
    elif await call.backend.coordination.catch_up():
        # Whoever has one of those transactions is in the catalog by now: its partition was added before.
        owners = await _owners(call, {each.marker.producer_id for each in wanted})
        for each in wanted:
            codes.append(await _end(call, each, owners))
    else:
        codes = [ErrorCode.COORDINATOR_NOT_AVAILABLE] * len(wanted)
    return _answer(request, codes)


def refused(request: WriteTxnMarkersRequest, code: ErrorCode, text: str) -> Answer:
    return _answer(request, itertools.repeat(code))


def _answer(request: WriteTxnMarkersRequest, codes: Iterable[ErrorCode]) -> Answer:
    """A code for each partition, in the order in which the request names them."""
    left = iter(codes)
    return {
        "markers": [
            {
                "producer_id": marker.producer_id,
                "topics": [
                    {
                        "name": topic.name,
                        "partitions": [
                            {"partition_index": index, "error_code": next(left)}
                            for index in topic.partition_indexes
                        ],
                    }
                    for topic in marker.topics
                ],
            }
            for marker in request.markers
        ]
    }


def _look(call: Call, marker: WritableTxnMarker, topic: str, index: int) -> _Wanted:
    replica = find_partition(call.backend, topic, index)
    since = -1 if isinstance(replica, ErrorCode) else replica.marking.open_since(marker.producer_id)
    return _Wanted(marker, topic, index, replica, since)


async def _owners(call: Call, producer_ids: set[int]) -> dict[int, TransactionalId]:
    """The transactions of these producers that a transactional id knows."""
    table, found = call.backend.catalog.transactions, dict[int, TransactionalId]()
    for number, name in enumerate([*table.ongoing, *table.prepared], 1):
        value = table.get(name)
        if value is not None and value.producer_id in producer_ids:
            found[value.producer_id] = value
        if number % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return found


async def _end(call: Call, wanted: _Wanted, owners: dict[int, TransactionalId]) -> ErrorCode:
    marker, topic, partition, replica, since = wanted
    if marker.transaction_result:
        return ErrorCode.INVALID_REQUEST
    if isinstance(replica, ErrorCode):
        return replica
    owner = owners.get(marker.producer_id)
    is_owned = owner is not None and (replica.topic_id, partition) in owner.partitions
    if is_owned or replica.marking.open_since(marker.producer_id) != since:
        call.refuse(f"{topic}-{partition}", "the transaction does not hang: abort it by its transactional id")
        return ErrorCode.INVALID_TXN_STATE
    ended, found = trio.Event(), list[Marked]()

    def answered(marked: Marked) -> None:
        found.append(marked)
        ended.set()

    by_hand = Marker(marker.producer_id, marker.producer_epoch, False, marker.coordinator_epoch, BY_HAND)
    replica.marking.write(by_hand, now=call.now, now_ms=call.now_ms, on_done=answered)
    await ended.wait()
    return _CODES[found[0]]
