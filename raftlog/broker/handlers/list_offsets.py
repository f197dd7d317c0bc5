"""ListOffsets (2), v1 to v11: which offset a timestamp maps to.

Behaviour: earliest (-2, -4), latest (-1), the record with the largest timestamp (-3, KIP-734), or the first
record at or after a timestamp, exactly. A special timestamp that the version has not, or that nobody knows,
is UNSUPPORTED_VERSION. A leader that does not know its high watermark yet answers
OFFSET_NOT_AVAILABLE. For a read_committed consumer the log ends at the last stable offset.
Missing on purpose: tiered storage; what is asked about it (-5, -6) has no offset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.backend import Partition
from raftlog.broker.call import Call
from raftlog.broker.errors import partition_error_code
from raftlog.broker.registry import Answer
from raftlog.broker.routing import allowed_partition, confirm_leaders
from raftlog.broker.steps import Turns, in_threads
from raftlog.partition.values import EARLIEST, EARLIEST_LOCAL, LATEST, MAX_TIMESTAMP
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation

if TYPE_CHECKING:
    from raftlog.protocol.requests import ListOffsetsPartition, ListOffsetsRequest

TIERED: Final = (-5, -6)
SPECIAL_FROM: Final = {LATEST: 1, EARLIEST: 1, MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, -5: 9, -6: 11}
"""The version that brought each timestamp with a meaning of its own."""
NOT_AVAILABLE_FROM: Final = 5
READ_COMMITTED: Final = 1
NEVER: Final = 1 << 15


async def handle(call: Call, request: ListOffsetsRequest) -> Answer:
    asked, turns = list[Partition](), Turns()
    for topic in request.topics:
        for wanted in topic.partitions:
            replica = allowed_partition(call, Operation.DESCRIBE, topic.name, wanted.partition_index)
            if wanted.timestamp < 0 and not isinstance(replica, ErrorCode):
                asked.append(replica)
            await turns.after(1)
    await confirm_leaders(asked, call.now)
    committed = request.isolation_level == READ_COMMITTED
    topics: list[dict[str, object]] = []
    for topic in request.topics:
        rows: list[dict[str, object]] = []
        for wanted in topic.partitions:
            rows.append(await _find(call, topic.name, wanted, committed))
            await turns.after(1)
        topics.append({"name": topic.name, "partitions": rows})
    return {"topics": topics}


async def _find(call: Call, topic: str, wanted: ListOffsetsPartition, committed: bool) -> dict[str, object]:
    index = wanted.partition_index
    replica = allowed_partition(call, Operation.DESCRIBE, topic, index)
    if isinstance(replica, ErrorCode):
        return {"partition_index": index, "error_code": replica}
    if wanted.timestamp < 0 and call.version < SPECIAL_FROM.get(wanted.timestamp, NEVER):
        return {"partition_index": index, "error_code": ErrorCode.UNSUPPORTED_VERSION}
    if wanted.timestamp in TIERED:
        return {"partition_index": index, "error_code": ErrorCode.NONE}
    steps = replica.reading.find_offset_steps(
        wanted.timestamp, leader_epoch=wanted.current_leader_epoch, committed=committed
    )
    found = await in_threads(steps)
    code = partition_error_code(found.error)
    if code is ErrorCode.OFFSET_NOT_AVAILABLE and call.version < NOT_AVAILABLE_FROM:
        code = ErrorCode.LEADER_NOT_AVAILABLE
    return {
        "partition_index": index,
        "error_code": code,
        "timestamp": found.timestamp,
        "offset": found.offset,
        "leader_epoch": found.leader_epoch,
    }
