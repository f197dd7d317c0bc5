"""A stream between two ends in memory. What it holds on the way is bounded, as by a kernel.

`test_net_stream` holds it against what is said of every stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from raftlog.net.stream import Buffer, FileRange


class MemoryStream:
    """One end. `pair` makes two."""

    def __init__(self, capacity: int) -> None:
        self.peer_host = "memory"
        self.capacity = capacity
        self.sent = bytearray()
        """What the other end has yet to receive."""
        self.calls = 0
        """Of `send`."""
        self.offered: list[tuple[int, bytes]] = []
        """What each `send` was offered, and how many bytes had been taken before."""
        self._bytes_taken = 0
        self._refused = b""
        self._other = self
        self._is_shut = False
        self._changed = trio.Event()

    @classmethod
    def pair(cls, capacity: int = 1000) -> tuple[MemoryStream, MemoryStream]:
        one, other = cls(capacity), cls(capacity)
        one._other, other._other = other, one
        return one, other

    async def readable(self) -> None:
        while not self._other.sent and not self._other._is_shut:
            await self._wait()
        await trio.lowlevel.checkpoint()

    def receive_into(self, buffer: memoryview) -> int:
        arrived = self._other.sent
        if not arrived:
            if self._other._is_shut or self._is_shut:
                return 0
            raise BlockingIOError
        count = min(len(arrived), len(buffer))
        buffer[:count] = arrived[:count]
        del arrived[:count]
        self._change()
        return count

    async def writable(self) -> None:
        while len(self.sent) >= self.capacity and not self._other._is_shut:
            await self._wait()
        await trio.lowlevel.checkpoint()

    def send(self, buffers: Sequence[Buffer]) -> int:
        self.calls += 1
        data = b"".join(buffers)
        self.offered.append((self._bytes_taken, data))
        assert data.startswith(self._refused), "what was not taken is offered again first"
        self._refused = data
        taken = self._take(data)
        self._refused = b""
        return taken

    def send_file(self, part: FileRange) -> int:
        data = part.file.pread(part.length, part.position)
        if not data:
            raise OSError("a file is shorter than it was")
        return self._take(data)

    def _take(self, data: bytes) -> int:
        if self._is_shut or self._other._is_shut:
            raise BrokenPipeError
        taken = data[: self.capacity - len(self.sent)]
        if data and not taken:
            raise BlockingIOError
        self.sent += taken
        self._bytes_taken += len(taken)
        self._change()
        return len(taken)

    def shut_down(self) -> None:
        self._is_shut = True
        self._change()

    def close(self) -> None:
        self.shut_down()

    async def _wait(self) -> None:
        if self._is_shut:
            raise trio.ClosedResourceError
        await self._changed.wait()
        if self._is_shut:
            raise trio.ClosedResourceError

    def _change(self) -> None:
        for end in (self, self._other):
            end._changed.set()
            end._changed = trio.Event()
