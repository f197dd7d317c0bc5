"""The numbers that must not be mixed up, each with a type of its own.

A Raft index counts entries of a group, an offset counts records of a partition, a file position
counts bytes of a segment. Ranges are half open everywhere: `log_end_offset` is the next offset to be
written, `[start, end)` holds `end - start` things.
"""

from typing import Final, NewType

TopicName = NewType("TopicName", str)
PartitionId = NewType("PartitionId", int)
BrokerId = NewType("BrokerId", int)

Offset = NewType("Offset", int)
"""A record's place in its partition; dense from 0."""

RaftIndex = NewType("RaftIndex", int)
"""An entry's place in its Raft group; the first entry has index 1, and 0 means "before all"."""

BEFORE_ALL: Final = RaftIndex(0)

Term = NewType("Term", int)
"""A Raft term; to Kafka clients it is the leader epoch."""

FilePosition = NewType("FilePosition", int)
"""A byte's place in a segment file."""

GroupKey = NewType("GroupKey", bytes)
"""A Raft group's name on disk and on the wire: a topic id (16 bytes) and a partition (4, big-endian)."""

GROUP_KEY_SIZE: Final = 20

METADATA_TOPIC_ID: Final = bytes(15) + b"\x01"
"""The topic id that KRaft gives __cluster_metadata (KIP-516 reserves it)."""


def group_key(topic_id: bytes, partition: int) -> GroupKey:
    """The key of a partition's Raft group. `topic_id` is the 16 bytes of the topic's UUID."""
    assert len(topic_id) == 16, len(topic_id)
    return GroupKey(topic_id + partition.to_bytes(4, "big"))


def partition_of_group(key: bytes) -> tuple[bytes, int]:
    """The topic id and the partition that `group_key` made a key of."""
    return key[:16], int.from_bytes(key[16:], "big")


METADATA_GROUP: Final = group_key(METADATA_TOPIC_ID, 0)
