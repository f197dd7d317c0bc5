"""Reading for who makes no record of what is read: batches, field by field.

It is a part of the consumer that its users do not see: streams take a batch apart themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import trio

from raftlog.client.consumer import Consumer
from raftlog.client.metadata import TopicPartition
from raftlog.records.record import Columns


async def poll_batches(
    consumer: Consumer[Any, Any], wanted: int, *, max_wait_ms: float, keys_only: Collection[str] = ()
) -> list[tuple[TopicPartition, Columns]]:
    """As `Consumer.poll`, but whole batches, so that it may be more records than wanted, and as they came:
    without deserializers. Of the topics `keys_only` there are no values (all None) and no headers."""
    await consumer._wait_for_records(trio.current_time() + max_wait_ms / 1000, wanted)
    return consumer._reading.take_batches(wanted, keys_only)


def lag_since(consumer: Consumer[Any, Any], since: float) -> dict[TopicPartition, int]:
    """The lag of each partition whose leader was asked since then, and has answered. What `Consumer.lag` says
    may be older: no answer comes while a leader is away."""
    return consumer._reading.lag_since(since)
