"""Reads changelogs into stores, before a task may run.

The target is the high watermark of when the task began, and the reader's *position* has to reach it: what is
compacted away, control batches and aborted records move a position without a record. Reading `read_committed`
waits for open transactions of a worker that died.
"""

from __future__ import annotations

import logging
import time
from typing import Final

import trio

from raftlog.client.client import Client
from raftlog.client.metadata import TopicPartition
from raftlog.streams.errors import StreamsError
from raftlog.streams.outputs import Restore
from raftlog.streams.restoring import Changelog, OnLost, Restoring
from raftlog.streams.task import Task

log: Final = logging.getLogger("raftlog.streams")

TOLD_SECONDS: Final = 10.0
STALL_SECONDS: Final = 60.0
"""Without progress for so long a restore is given up, with an error: silence would help nobody."""


class Restorer:
    """Restores the tasks of one worker; any number at a time."""

    def __init__(self, client: Client, topic_ids: dict[str, str], on_lost: OnLost) -> None:
        self._client = client
        self._topic_ids = topic_ids
        self._on_lost = on_lost

    async def restore(self, task: Task, restore: Restore) -> None:
        """Bring a store to where its changelog is. Cancelled, the next restore goes on from the last flush.

        Raises StateError when the changelog does not fit what the disk has, StreamsError when it cannot be
        read on.
        """
        key = TopicPartition(restore.topic, task.partition)
        topic_id = self._topic_ids.get(restore.topic, "")
        async with self._client.consumer(
            partitions=[key],
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        ) as consumer:
            at_ms = int(time.time() * 1000)
            start = (await consumer.beginning_offsets(key))[key]
            end = await self._high_watermark(key)
            restoring = Restoring(task, restore, Changelog(topic_id, start, end, at_ms), self._on_lost)
            if not restoring.is_done:
                consumer.seek(key.topic, key.partition, restoring.position)
            moved = told = trio.current_time()
            while not restoring.is_done:
                records, before = await consumer.poll(5_000, max_wait_ms=200), restoring.position
                restoring.take(records, consumer.positions().get(key, before))
                now = trio.current_time()
                if restoring.position > before:
                    moved = now
                elif now - moved > STALL_SECONDS:
                    raise StreamsError(
                        f"{key.topic}-{key.partition}: nothing came for {STALL_SECONDS:g} s at {before}"
                    )
                if now - told > TOLD_SECONDS:
                    told = now
                    log.info("%s-%d: %r", *key, restoring)
            restoring.keep()

    async def _high_watermark(self, key: TopicPartition) -> int:
        return (await self._client.admin.end_offsets(key.topic))[key]
