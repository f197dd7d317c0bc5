"""Questions about offsets, asked of the brokers that know: committed ones of the coordinator, earliest,
latest and by time of the leaders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from raftlog.client.cluster import Cluster
from raftlog.client.connections import CLIENT_LANE
from raftlog.client.errors import RequestTimedOut, broker_error
from raftlog.client.group_protocol import by_topic
from raftlog.client.metadata import TopicPartition
from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.schema import timestamp_ms

OFFSETS_PATIENCE_S: Final = 5.0
"""How long a broker may take; then who leads or coordinates is looked up again, and asked again: asking and
committing twice do no harm."""
NAMED_TOPICS_MAX: Final = 9
"""From version 10 on OffsetFetch and OffsetCommit name topics by id; until then by name."""


class CommittedOffset(NamedTuple):
    """Where a group goes on in a partition, with what was noted beside it."""

    offset: int
    leader_epoch: int = -1
    metadata: str = ""


class OffsetAndTimestamp(NamedTuple):
    """A record by its place; `timestamp` is in milliseconds since the epoch, -1 when it is not known."""

    offset: int
    timestamp: int


async def list_offsets(
    cluster: Cluster, wanted: Mapping[TopicPartition, int], *, lane: str = CLIENT_LANE, isolation: int = 0
) -> dict[TopicPartition, OffsetAndTimestamp | None]:
    """One attempt to look up offsets: EARLIEST, LATEST, or the first at or after a time in milliseconds.

    None where there is no such record. Raises a retriable error when a leader is not known or has moved.
    """
    found: dict[TopicPartition, OffsetAndTimestamp | None] = {}

    async def ask(leader: int, keys: list[TopicPartition]) -> None:
        fields = {
            "replica_id": -1,
            "isolation_level": isolation,
            "topics": [
                {
                    "name": topic,
                    "partitions": [
                        {
                            "partition_index": number,
                            "current_leader_epoch": -1,
                            "timestamp": wanted[TopicPartition(topic, number)],
                        }
                        for number in numbers
                    ],
                }
                for topic, numbers in by_topic(keys).items()
            ],
            "timeout": int(cluster.settings.request_timeout_ms),
        }
        answer = await cluster.ask(
            leader, ApiKey.LIST_OFFSETS, fields, lane=lane, patience_s=OFFSETS_PATIENCE_S
        )
        for topic in answer.topics:
            for one in topic.partitions:
                key = TopicPartition(str(topic.name), int(one.partition_index))
                if int(one.error_code) != 0:
                    raise broker_error(int(one.error_code), f"offset of {key!r}")
                offset = int(one.offset)
                time = one.timestamp if isinstance(one.timestamp, int) else timestamp_ms(one.timestamp)
                found[key] = OffsetAndTimestamp(offset, time) if offset >= 0 else None

    await cluster.ask_leaders(wanted, ask)
    missing = wanted.keys() - found.keys()
    if missing:
        raise RequestTimedOut(f"the brokers did not say the offsets of {sorted(missing)}")
    return found


async def fetch_committed(
    cluster: Cluster,
    coordinator: int,
    group: str,
    partitions: Iterable[TopicPartition] | None,
    *,
    stable: bool = False,
    lane: str = CLIENT_LANE,
) -> dict[TopicPartition, CommittedOffset | None]:
    """One attempt to read a group's committed offsets, all that there are for None. With `stable` it raises a
    retriable error while a transaction that is still open holds others (KIP-447)."""
    topics = (
        None
        if partitions is None
        else [{"name": t, "partition_indexes": numbers} for t, numbers in by_topic(partitions).items()]
    )
    fields = {
        "group_id": group,
        "topics": topics,
        "groups": [{"group_id": group, "member_id": None, "member_epoch": -1, "topics": topics}],
        "require_stable": stable,
    }
    answer = await cluster.ask(
        coordinator, ApiKey.OFFSET_FETCH, fields,
        lane=lane, most=NAMED_TOPICS_MAX, patience_s=OFFSETS_PATIENCE_S,
    )  # fmt: skip
    body: Any = answer.groups[0] if hasattr(answer, "groups") else answer
    if int(getattr(body, "error_code", 0)) != 0:
        raise broker_error(int(body.error_code), f"offsets of group {group!r}")
    found: dict[TopicPartition, CommittedOffset | None] = dict.fromkeys(partitions or ())
    for topic in body.topics:
        for one in topic.partitions:
            key = TopicPartition(str(topic.name), int(one.partition_index))
            if int(one.error_code) != 0:
                raise broker_error(int(one.error_code), f"committed offset of {key!r}")
            if one.committed_offset >= 0:
                epoch = int(getattr(one, "committed_leader_epoch", -1))
                found[key] = CommittedOffset(int(one.committed_offset), epoch, one.metadata or "")
    return found


def offsets_by_topic(offsets: Mapping[TopicPartition, CommittedOffset]) -> list[dict[str, Any]]:
    """Offsets as the requests that commit them write them."""
    return [
        {
            "name": topic,
            "partitions": [
                {
                    "partition_index": number,
                    "committed_offset": offsets[TopicPartition(topic, number)].offset,
                    "committed_leader_epoch": offsets[TopicPartition(topic, number)].leader_epoch,
                    "committed_metadata": offsets[TopicPartition(topic, number)].metadata,
                }
                for number in numbers
            ],
        }
        for topic, numbers in by_topic(offsets).items()
    ]


async def commit_offsets(
    cluster: Cluster,
    coordinator: int,
    group: str,
    offsets: Mapping[TopicPartition, CommittedOffset],
    *,
    generation: int = -1,
    member_id: str = "",
    instance_id: str | None = None,
    lane: str = CLIENT_LANE,
) -> None:
    """One attempt to commit. Raises the first partition's error that is not NONE."""
    fields = {
        "group_id": group,
        "generation_id_or_member_epoch": generation,
        "member_id": member_id,
        "group_instance_id": instance_id,
        "retention_time": -1,
        "topics": offsets_by_topic(offsets),
    }
    answer = await cluster.ask(
        coordinator, ApiKey.OFFSET_COMMIT, fields,
        lane=lane, most=NAMED_TOPICS_MAX, patience_s=OFFSETS_PATIENCE_S,
    )  # fmt: skip
    for topic in answer.topics:
        for one in topic.partitions:
            if int(one.error_code) != ErrorCode.NONE:
                raise broker_error(int(one.error_code), f"commit of {topic.name}-{one.partition_index}")
