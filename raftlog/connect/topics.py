"""The topics that a worker keeps its own things in: compacted, and read as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from raftlog.client.client import Client
from raftlog.client.metadata import TopicPartition
from raftlog.connect.contract import Offsets
from raftlog.connect.errors import ConnectError, PositionLost

STALL_SECONDS: Final = 60.0
"""Without progress for so long reading is given up, with an error."""


async def prepare(client: Client, topic: str) -> None:
    """Make a topic, or look whether it keeps what it is given. Raises ConnectError."""
    await client.admin.create_topic(topic, partitions=1, configs={"cleanup.policy": "compact"}, exist_ok=True)
    policy = (await client.admin.describe_configs(topic=topic))["cleanup.policy"].value
    if policy != "compact":
        raise ConnectError(
            f"{topic} has cleanup.policy = {policy}, so that what is in it would be lost with time: "
            f"raftlog topic alter {topic} -c cleanup.policy=compact"
        )


async def read_all(
    client: Client,
    topic: str,
    take: Callable[[bytes | None, bytes | None], None],
    since: Offsets | None = None,
) -> Offsets:
    """Give all that is there now, or what has come `since`: keys and values of committed records, partition
    by partition in order. Gives up to where that was. Raises PositionLost when `since` is not in the log any
    more, and ConnectError when nothing comes: a transaction that is left open is waited for."""
    ends = await client.admin.end_offsets(topic)
    starts = await client.admin.beginning_offsets(topic)
    if since is not None:
        for key, end in ends.items():
            if not starts[key] <= since.get(key, -1) <= end:
                raise PositionLost(f"{key} has {starts[key]} to {end}, and {since.get(key)} comes next")
        starts = since
    left = {key: end for key, end in ends.items() if end > starts[key]}
    if not left:
        return ends
    async with client.consumer(
        partitions=list(left),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
    ) as consumer:
        for key in left:
            consumer.seek(key.topic, key.partition, starts[key])
        moved, before = trio.current_time(), dict[TopicPartition, int]()
        while any((at := consumer.positions()).get(key, 0) < end for key, end in left.items()):
            for record in await consumer.poll(5_000, max_wait_ms=100):
                take(record.key, record.value)
            if at != before:
                before, moved = at, trio.current_time()
            elif trio.current_time() - moved > STALL_SECONDS:
                raise ConnectError(f"{topic}: nothing came for {STALL_SECONDS:g} s at {at}")
    return ends
