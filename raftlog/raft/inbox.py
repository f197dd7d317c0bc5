"""Messages that wait for a turn of the driver, bounded in number and in bytes.

What finds no room is dropped, as on a link that is cut: whoever sent it sends it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from raftlog.raft.messages import APPEND_ENTRY_COST, Append, Message, payload_size
from raftlog.types import METADATA_GROUP, BrokerId

INBOX_MESSAGES_MAX: Final = 20_000
INBOX_BYTES_MAX: Final = 128 << 20
"""Bytes of appends among them; one frame is taken however long it is."""
PART_MESSAGES: Final = 50
"""Messages of one delivery that are taken together: a frame may hold some for each group of a broker."""
PART_COST_MAX: Final = 1 << 20
"""What the appends among them cost: their bytes, and those that an entry counts for beside its own. One that
costs more is taken alone."""


class Part(NamedTuple):
    """Some of what a broker sent, taken together."""

    sender: BrokerId
    messages: Sequence[Message]
    size: int
    """Bytes of the appends in that."""
    cost: int
    """How long they take, in bytes."""


def _cost(append: Append) -> int:
    return payload_size(append) + APPEND_ENTRY_COST * len(append.entries)


def _measured(sender: BrokerId, messages: Sequence[Message]) -> Part:
    appends = [message for message in messages if type(message) is Append]
    size = sum([payload_size(append) for append in appends])
    return Part(sender, messages, size, sum([_cost(append) for append in appends]))


def _cut(sender: BrokerId, messages: Sequence[Message]) -> Iterator[Part]:
    """A long delivery in parts."""
    begin = cost = 0
    for end, message in enumerate(messages):
        more = _cost(message) if type(message) is Append else 0
        if end - begin == PART_MESSAGES or (cost + more > PART_COST_MAX and end > begin):
            yield _measured(sender, messages[begin:end])
            begin, cost = end, 0
        cost += more
    if begin < len(messages):
        yield _measured(sender, messages[begin:])


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
        part = _measured(sender, messages)
        is_full = self.bytes + part.size > INBOX_BYTES_MAX and self.bytes
        if self.messages + len(messages) > INBOX_MESSAGES_MAX or is_full:
            self.dropped += len(messages)
            return False
        self.messages += len(messages)
        urgent = [message for message in messages if message.group == METADATA_GROUP]
        if urgent:
            self._urgent.append((sender, urgent))
            part = _measured(sender, [message for message in messages if message.group != METADATA_GROUP])
        if len(part.messages) > PART_MESSAGES or part.cost > PART_COST_MAX:
            self._parts.extend(_cut(sender, part.messages))
        elif part.messages:
            self._parts.append(part)
        self.bytes += part.size
        return True

    def forget(self, sender: BrokerId) -> None:
        """Drop what waits of a sender whose process has ended, as if it were lost on the way."""
        gone = [part for part in self._parts if part.sender == sender]
        self._parts = deque(part for part in self._parts if part.sender != sender)
        self.bytes -= sum(part.size for part in gone)
        urgent = [messages for by, messages in self._urgent if by == sender]
        self._urgent = [each for each in self._urgent if each[0] != sender]
        self.messages -= sum(len(part.messages) for part in gone) + sum(map(len, urgent))

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
        self.messages -= len(part.messages)
        self.bytes -= part.size
        return part
