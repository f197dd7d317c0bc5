"""DescribeLogDirs (35), v1 to v4: the bytes of the replicas that this broker keeps.

Behaviour: one folder, `log.dirs`; each broker tells of its own replicas alone, so clients ask all of them. A
folder in which damage was found that is not repaired yet has an error, and its sizes all the same.
Missing on purpose: moving replicas between folders, of which there is one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import DescribeLogDirsRequest


def handle(call: Call, request: DescribeLogDirsRequest) -> Answer:
    backend = call.backend
    wanted = None
    if request.topics is not None:
        wanted = {(topic.topic, index) for topic in request.topics for index in topic.partitions}
    topics: dict[str, list[dict[str, object]]] = {}
    for topic in backend.catalog.topics.values():
        for index in range(len(topic.partitions)):
            replica = backend.replicas.partition(topic.name, index)
            if replica is not None and (wanted is None or (topic.name, index) in wanted):
                topics.setdefault(topic.name, []).append(
                    {
                        "partition_index": index,
                        "partition_size": replica.reading.size,
                        "offset_lag": 0,
                        "is_future_key": False,
                    }
                )
    folder = os.path.abspath(backend.config.str("log.dirs"))
    total, usable = _space(folder)
    return {
        "error_code": ErrorCode.NONE,
        "results": [
            {
                "error_code": ErrorCode.KAFKA_STORAGE_ERROR
                if backend.replicas.has_damage
                else ErrorCode.NONE,
                "log_dir": folder,
                "topics": [{"name": name, "partitions": rows} for name, rows in topics.items()],
                "total_bytes": total,
                "usable_bytes": usable,
            }
        ],
    }


def _space(folder: str) -> tuple[int, int]:
    """(total, usable) bytes of the file system; -1 where it does not say."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return -1, -1
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
