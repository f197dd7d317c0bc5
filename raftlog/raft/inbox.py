"""Messages that wait for a turn of the driver, bounded in number and in bytes.

What finds no room is dropped, as on a link that is cut: whoever sent it sends it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from raftlog.raft.messages import Append, Message, payload_size
from raftlog.types import METADATA_GROUP, BrokerId

INBOX_MESSAGES_MAX: Final = 20_000
INBOX_BYTES_MAX: Final = 128 << 20
"""Bytes of appends among them; one frame is taken however long it is."""
PART_MESSAGES: Final = 50
"""Messages of one delivery that are taken together: a frame may hold some for each group of a broker."""
PART_BYTES: Final = 1 << 20
"""Bytes of appends among them; one that is larger is taken alone."""

Part = tuple[BrokerId, Sequence[Message], int]
"""A sender, some of what it sent, and the bytes of the appends in that."""


def _parts(messages: Sequence[Message]) -> Iterator[tuple[Sequence[Message], int]]:
    """A long delivery in parts, with the bytes of the appends in each."""
    begin = size = 0
    for end, message in enumerate(messages):
        more = payload_size(message) if type(message) is Append else 0
        if end - begin == PART_MESSAGES or (size + more > PART_BYTES and end > begin):
            yield messages[begin:end], size
            begin, size = end, 0
        size += more
    if begin < len(messages):
        yield messages[begin:], size


class Inbox:
    """The metadata group's messages go first: without it nothing else has a place."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.dropped = 0
        self._urgent: list[tuple[BrokerId, Sequence[Message]]] = []
        self._parts: deque[Part] = deque()

    @property
    def is_empty(self) -> bool:
        return not self._parts and not self._urgent

    @property
    def has_parts(self) -> bool:
        """Something waits besides the metadata group's messages."""
        return bool(self._parts)

    def put(self, sender: BrokerId, messages: Sequence[Message]) -> bool:
        """Whether there was room."""
        size = sum([payload_size(message) for message in messages if type(message) is Append])
        is_full = self.bytes + size > INBOX_BYTES_MAX and self.bytes
        if self.messages + len(messages) > INBOX_MESSAGES_MAX or is_full:
            self.dropped += len(messages)
            return False
        self.messages += len(messages)
        urgent = [message for message in messages if message.group == METADATA_GROUP]
        if urgent:
            self._urgent.append((sender, urgent))
            messages = [message for message in messages if message.group != METADATA_GROUP]
            size = sum([payload_size(message) for message in messages if type(message) is Append])
        if len(messages) > PART_MESSAGES or size > PART_BYTES:
            self._parts.extend([(sender, part, bytes_) for part, bytes_ in _parts(messages)])
        elif messages:
            self._parts.append((sender, messages, size))
        self.bytes += size
        return True

    def take_urgent(self) -> list[tuple[BrokerId, Sequence[Message]]]:
        """All that waits for the metadata group."""
        urgent = self._urgent
        if not urgent:
            return []
        self._urgent = []
        for _, messages in urgent:
            self.messages -= len(messages)
        return urgent

    def take_part(self) -> Part:
        """What came first of the rest."""
        part = self._parts.popleft()
        self.messages -= len(part[1])
        self.bytes -= part[2]
        return part
