"""What a part of the API asks of who has it, when Kafka's own requests are enough: a broker (`context.Api`),
or a console beside a cluster (`raftlog.outside`)."""

from __future__ import annotations

from collections.abc import Sized
from typing import Final, Protocol

import trio

from raftlog.http.access import Access
from raftlog.http.messages import Refusal, Send, Stream
from raftlog.http.own_client import OwnClient

STREAMS_MAX: Final = 32
"""Of all connections: a page has one, and two where somebody follows a topic."""


class KnownTopic(Protocol):
    @property
    def partitions(self) -> Sized: ...


class Source(Protocol):
    @property
    def client(self) -> OwnClient: ...
    @property
    def access(self) -> Access: ...
    @property
    def stopping(self) -> trio.Event:
        """Set when streams should end."""
        ...

    def topic(self, name: str) -> KnownTopic:
        """Raises Refusal for one that there is not."""
        ...

    def counted(self, stream: Stream) -> Stream:
        """A stream that is one of so many. Raises Refusal when there are too many."""
        ...


class Holder(Protocol):
    streams: int
    """Answers that go on until their client leaves."""


def counted(holder: Holder, stream: Stream) -> Stream:
    """`Source.counted`, for who keeps the number."""
    if holder.streams >= STREAMS_MAX:
        raise Refusal(503, "BUSY", f"{STREAMS_MAX} streams are open; try again", retriable=True)

    async def run(send: Send) -> None:
        holder.streams += 1
        try:
            await stream(send)
        finally:
            holder.streams -= 1

    return run


def no_topic(name: str) -> Refusal:
    return Refusal(404, "UNKNOWN_TOPIC_OR_PARTITION", f"there is no topic {name[:260]!r}")


def partition_of(source: Source, topic: str, text: str) -> int:
    """A partition's number, of a path. Raises Refusal for one that there is not."""
    count = len(source.topic(topic).partitions)
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) >= count:
        raise Refusal(404, "UNKNOWN_TOPIC_OR_PARTITION", f"there is no partition {topic}-{text[:20]}")
    return int(text)
