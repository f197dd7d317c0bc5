"""DeleteRecords (21), v0 to v2: move the start of partitions forward.

Behaviour: offset -1 means the high watermark; the new start is the answer's low watermark. Below the start it
is no error and changes nothing. Of a partition that is named twice the last row counts, as on Kafka. Answered
when a majority of disks has the new start; a partition that has not answered when the request's time is over
is REQUEST_TIMED_OUT, and its start may still move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from raftlog.broker.call import Call
from raftlog.broker.errors import partition_error_code
from raftlog.broker.registry import Answer
from raftlog.broker.routing import allowed_partition
from raftlog.partition.values import PartitionError
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.schema import patience_s
from raftlog.rights import Operation

if TYPE_CHECKING:
    from raftlog.protocol.requests import DeleteRecordsPartition, DeleteRecordsRequest


async def handle(call: Call, request: DeleteRecordsRequest) -> Answer:
    pending = _Pending()
    wanted: dict[str, dict[int, DeleteRecordsPartition]] = {}
    for topic in request.topics:
        wanted.setdefault(topic.name, {}).update({row.partition_index: row for row in topic.partitions})
    topics = [
        {
            "name": name,
            "partitions": [_delete(call, name, each, pending) for each in rows.values()],
        }
        for name, rows in wanted.items()
    ]
    pending.ended()
    with trio.move_on_after(patience_s(request.timeout)):
        await pending.all_ended.wait()
    return {"topics": topics}


class _Pending:
    """How many partitions have not answered; 1 more until all were asked."""

    def __init__(self) -> None:
        self.all_ended = trio.Event()
        self.count = 1

    def ended(self) -> None:
        self.count -= 1
        if self.count == 0:
            self.all_ended.set()


def _delete(call: Call, topic: str, wanted: DeleteRecordsPartition, pending: _Pending) -> dict[str, object]:
    """The partition's answer, which is filled in when it comes."""
    index = wanted.partition_index
    answer: dict[str, object] = {
        "partition_index": index,
        "low_watermark": -1,
        "error_code": ErrorCode.REQUEST_TIMED_OUT,
    }

    def deleted(error: PartitionError | None, start: int) -> None:
        answer.update(error_code=partition_error_code(error), low_watermark=start)
        pending.ended()

    replica = allowed_partition(call, Operation.DELETE, topic, index)
    if isinstance(replica, ErrorCode):
        answer["error_code"] = replica
    else:
        pending.count += 1
        replica.delete_before(wanted.offset, now=call.now, on_done=deleted)
    return answer
