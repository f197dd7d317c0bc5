"""What waits to be sent over one connection.

Who has something to send gives it to the queue, and goes on: as much as the stream takes leaves at once, the
rest waits for `drain`. So a reader that is slow costs memory that has a bound, and nobody else's time. What
happens at the bound is the giver's choice: it is told that the queue is full, and waits, drops or closes.

Some bytes are better not put in a row before they must be: urgent ones may still pass them. They come by
`refill`, which is asked when nothing else waits.

Invariants: bytes leave in the order in which they were given. What was offered to the stream and not taken
is what it is offered next (`stream` says why). Buffers are held by reference, and must not change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, TypeAlias

import trio

from raftlog.net.stream import IOV_MAX, Buffer, FileRange, Stream

Chunk: TypeAlias = Buffer | FileRange

PUSHED_AT_ONCE_MAX: Final = 4 << 20
"""Bytes that are sent before others get a turn, however fast the reader is: a few milliseconds."""
UNBOUNDED: Final = float("inf")
"""For who bounds what it gives."""


class SendQueue:
    """The sending half of one connection. One task at a time may `drain` it."""

    __slots__ = ("_bytes_max", "_refill", "_stream", "bytes_sent", "bytes_waiting", "waiting")

    def __init__(
        self, stream: Stream, *, bytes_max: float, refill: Callable[[], Sequence[Chunk]] = tuple
    ) -> None:
        """`bytes_max` bounds what waits in memory; a file's bytes do not. `refill` gives what to send next,
        or nothing."""
        self._stream = stream
        self._bytes_max = bytes_max
        self._refill = refill
        self.waiting: deque[Chunk] = deque()
        """What waits, to look at."""
        self.bytes_waiting = 0
        """In memory, of what `add` and `refill` gave."""
        self.bytes_sent = 0
        """Of everything, since the connection began."""

    def __repr__(self) -> str:
        return f"<SendQueue {len(self.waiting)} chunks, {self.bytes_waiting} bytes>"

    def add(self, chunks: Sequence[Chunk]) -> bool:
        """Put something behind what waits. False, and it is not taken, when that would be too much; an empty
        queue takes anything."""
        size = _in_memory(chunks)
        if self.waiting and self.bytes_waiting + size > self._bytes_max:
            return False
        self.waiting += chunks
        self.bytes_waiting += size
        return True

    def send(self, buffers: Sequence[Buffer]) -> bool:
        """Add buffers and send what can be sent. False when they were not taken. Raises OSError when the
        connection is broken."""
        if self.waiting:
            return self.add(buffers)
        try:  # most messages fit: they never see the queue
            sent = self._stream.send(buffers)
        except BlockingIOError:
            sent = 0
        self.bytes_sent += sent
        size = sum(map(len, buffers))
        if sent < size:
            self.waiting += buffers
            self.bytes_waiting = size
            self._taken(sent)
        return True

    def push(self) -> None:
        """Send until nothing waits or the stream takes no more. Raises OSError when it is broken. What waits
        then is for `drain`."""
        chunks, left = self.waiting, PUSHED_AT_ONCE_MAX
        try:
            while chunks or self._refilled():
                if left <= 0:
                    return
                first = chunks[0]
                left -= self._push_file(first) if isinstance(first, FileRange) else self._push_buffers()
        except BlockingIOError:
            pass

    async def drain(self) -> None:
        """Send what waits, as the stream takes it, until nothing does. Raises OSError when the connection is
        broken, and trio.ClosedResourceError when it is closed here."""
        while self.waiting:
            await self._stream.writable()
            first = self.waiting[0] if self.waiting else b""
            if isinstance(first, FileRange) and first.is_cold:  # the reader was slow to take it
                await trio.to_thread.run_sync(first.warm, abandon_on_cancel=True)
            self.push()

    def clear(self) -> None:
        """Forget what waits."""
        self.waiting.clear()
        self.bytes_waiting = 0

    def _refilled(self) -> bool:
        more = self._refill()
        self.waiting += more
        self.bytes_waiting += _in_memory(more)
        return bool(more)

    def _push_file(self, part: FileRange) -> int:
        sent = self._stream.send_file(part)
        self.bytes_sent += sent
        part.position += sent
        part.length -= sent
        if part.length == 0:
            self.waiting.popleft()
        return sent

    def _push_buffers(self) -> int:
        buffers: list[Buffer] = []
        for chunk in islice(self.waiting, IOV_MAX):
            if isinstance(chunk, FileRange):
                break
            buffers.append(chunk)
        sent = self._stream.send(buffers)
        self.bytes_sent += sent
        self._taken(sent)
        return sent

    def _taken(self, count: int) -> None:
        """The stream took the first `count` bytes, all of them from memory."""
        chunks = self.waiting
        self.bytes_waiting -= count
        while chunks:
            first = chunks[0]
            if isinstance(first, FileRange):
                return
            if len(first) > count:
                if count:
                    chunks[0] = memoryview(first)[count:]
                return
            count -= len(first)
            chunks.popleft()


def _in_memory(chunks: Sequence[Chunk]) -> int:
    return sum([len(chunk) for chunk in chunks if not isinstance(chunk, FileRange)])
