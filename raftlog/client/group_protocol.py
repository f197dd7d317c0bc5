"""What members of a consumer group tell each other through the coordinator, which does not read it.

A member's subscription and the assignment that the leader gives it: bytes with a version in front, of which
later versions only append (ConsumerProtocolSubscription and ConsumerProtocolAssignment of Apache Kafka).
Whatever other members sent, reading raises InvalidInput and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from raftlog.client.metadata import TopicPartition
from raftlog.errors import InvalidInput

SUBSCRIPTION_VERSION = 3
ASSIGNMENT_VERSION = 1
NO_GENERATION = -1

_I16 = struct.Struct(">h")
_I32 = struct.Struct(">i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What a member wants, and what it has. `generation` is when it had that, -1 when it does not say."""

    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()
    generation: int = NO_GENERATION
    rack: str | None = None
    instance_id: str | None = None
    user_data: bytes | None = None
    """What an assignor has its members tell."""


def encode_subscription(subscription: Subscription) -> bytes:
    """A subscription as version 3."""
    parts = [_I16.pack(SUBSCRIPTION_VERSION), _I32.pack(len(subscription.topics))]
    parts += [_string(topic) for topic in subscription.topics]
    # The Java client before 2.x of the protocol looks for the generation in the user data.
    told = subscription.user_data
    told = _I32.pack(subscription.generation) if told is None else told
    parts += [_I32.pack(len(told)), told]
    parts += [_partitions(subscription.owned), _I32.pack(subscription.generation)]
    rack = subscription.rack
    parts.append(_I16.pack(-1) if rack is None else _string(rack))
    return b"".join(parts)


def decode_subscription(data: bytes, instance_id: str | None = None) -> Subscription:
    """A subscription of any version."""
    reader = _Reader(data)
    version = reader.i16()
    topics = tuple(reader.string() for _ in range(reader.count()))
    user_data = reader.bytes()
    owned: tuple[TopicPartition, ...] = ()
    generation, rack = NO_GENERATION, None
    if version >= 1:
        owned = reader.partitions()
    if version >= 2:
        generation = reader.i32()
    if user_data is not None and len(user_data) == _I32.size:  # a generation, and no assignor's own
        generation = _I32.unpack(user_data)[0] if version < 2 else generation
        user_data = None
    if version >= 3:
        rack = reader.maybe_string()
    return Subscription(
        topics=topics,
        owned=owned,
        generation=generation,
        rack=rack,
        instance_id=instance_id,
        user_data=user_data,
    )


def encode_assignment(partitions: Iterable[TopicPartition], user_data: bytes = b"") -> bytes:
    """An assignment, and what an assignor has for the member."""
    told = _I32.pack(len(user_data)) + user_data if user_data else _I32.pack(-1)
    return _I16.pack(ASSIGNMENT_VERSION) + _partitions(partitions) + told


def decode_assignment(data: bytes) -> tuple[TopicPartition, ...]:
    """An assignment of any version; no bytes are an empty one."""
    return decode_told(data)[0]


def decode_told(data: bytes) -> tuple[tuple[TopicPartition, ...], bytes]:
    """The same, and what an assignor has for the member."""
    if not data:
        return (), b""
    reader = _Reader(data)
    reader.i16()
    return reader.partitions(), reader.bytes() or b""


def by_topic(partitions: Iterable[TopicPartition]) -> Mapping[str, list[int]]:
    """The partitions of each topic, sorted."""
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(partitions):
        topics.setdefault(topic, []).append(partition)
    return topics


def _string(text: str) -> bytes:
    data = text.encode()
    return _I16.pack(len(data)) + data


def _partitions(partitions: Iterable[TopicPartition]) -> bytes:
    topics = by_topic(partitions)
    parts = [_I32.pack(len(topics))]
    for topic, numbers in topics.items():
        parts += [_string(topic), struct.pack(f">i{len(numbers)}i", len(numbers), *numbers)]
    return b"".join(parts)


class _Reader:
    """Reads fields one after the other; InvalidInput where the bytes end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if size < 0 or end > len(self._data):
            raise InvalidInput(
                f"a group member's data of {len(self._data)} bytes ends in the middle of a field"
            )
        taken, self._position = self._data[self._position : end], end
        return taken

    def i16(self) -> int:
        return int(_I16.unpack(self._take(2))[0])

    def i32(self) -> int:
        return int(_I32.unpack(self._take(4))[0])

    def count(self) -> int:
        """An array's length; its elements take two bytes at least."""
        count = self.i32()
        if not 0 <= count <= (len(self._data) - self._position) // 2:
            raise InvalidInput(f"a group member's data claims {count} elements")
        return count

    def maybe_string(self) -> str | None:
        length = self.i16()
        return None if length < 0 else self._take(length).decode("utf-8", "replace")

    def string(self) -> str:
        return self.maybe_string() or ""

    def bytes(self) -> bytes | None:
        length = self.i32()
        return None if length < 0 else self._take(length)

    def partitions(self) -> tuple[TopicPartition, ...]:
        found = []
        for _ in range(self.count()):
            topic = self.string()
            found += [TopicPartition(topic, self.i32()) for _ in range(self.count())]
        return tuple(found)
