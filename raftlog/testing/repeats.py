"""A network that delivers twice: what brokers send each other comes again, at once or seconds late.

Raft takes such a network for granted, and TCP is none: a copy needs a relay, a retry or another connection.
So the process that receives makes the copies itself. A file says how, and counts them:

    f64 which share of the frames comes again | f64 how late, at most, in seconds | u64 copies so far

Whoever plays the network writes the first two, and the process the third.
"""

from __future__ import annotations

import heapq
import itertools
import mmap
import random
import struct
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from raftlog.net.stream import Buffer, FileRange, Stream
from raftlog.transport.links import Links
from raftlog.types import BrokerId

HOW: Final = struct.Struct("<dd")
COUNT: Final = struct.Struct("<Q")
SIZE: Final = HOW.size + COUNT.size
SHORTLY_S: Final = 0.02
"""Half of the copies come within that time: what a frame still finds under way is seldom older."""
WAITING_MAX: Final = 1_000
"""Copies of one connection that have not come yet; beyond it frames come once."""
FRAME_MAX: Final = 1 << 20
_WORD: Final = 4
_IS_PIECE: Final = 1 << 31
_PIECE_SIZE: Final = (1 << 28) - 1
"""A word begins a whole frame, or a piece of a large one (`raftlog.transport.lanes`). Pieces come once."""


def follow(path: Path) -> None:
    """Have all links between brokers in this process go by the file, for good."""
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), SIZE)
    original = Links.__init__

    def init(self: Links, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)

        def through(peer: BrokerId, stream: Stream) -> Stream:
            return Repeating(stream, memory, random.Random())

        self.through = through

    Links.__init__ = init  # type: ignore[method-assign]


class Repeating:
    """What comes from one peer, and some of it again."""

    def __init__(self, stream: Stream, memory: mmap.mmap | bytearray, rng: random.Random) -> None:
        self._stream, self._memory, self._rng = stream, memory, rng
        self.peer_host = stream.peer_host
        self._begun = bytearray()
        """Of a frame whose end has not come yet: a copy must wait for it."""
        self._copies: list[tuple[float, int, bytes]] = []
        self._numbers = itertools.count()
        self._left = memoryview(b"")
        """Of the copy that comes now."""

    async def readable(self) -> None:
        if self._left or self._is_due():
            await trio.lowlevel.checkpoint()
            return
        due = self._copies[0][0] if self._copies and not self._begun else float("inf")
        with trio.move_on_at(due):
            await self._stream.readable()

    def receive_into(self, buffer: memoryview) -> int:
        if not self._left and self._is_due():
            self._left = memoryview(heapq.heappop(self._copies)[2])
            (count,) = COUNT.unpack_from(self._memory, HOW.size)
            COUNT.pack_into(self._memory, HOW.size, count + 1)
        if self._left:
            count = min(len(buffer), len(self._left))
            buffer[:count], self._left = self._left[:count], self._left[count:]
            return count
        count = self._stream.receive_into(buffer)
        self._begun += buffer[:count]
        self._cut()
        return count

    def _is_due(self) -> bool:
        return bool(self._copies) and not self._begun and self._copies[0][0] <= trio.current_time()

    def _cut(self) -> None:
        """Take the frames that are whole, and choose which of them come again, and when."""
        share, late = HOW.unpack_from(self._memory)
        at, begun = 0, self._begun
        while len(begun) - at >= _WORD:
            word = int.from_bytes(begun[at : at + _WORD], "big")
            end = at + _WORD + (word & _PIECE_SIZE if word & _IS_PIECE else word)
            if end > len(begun):
                break
            is_kept = not word & _IS_PIECE and end - at <= FRAME_MAX and len(self._copies) < WAITING_MAX
            if is_kept and self._rng.random() < share:
                when = trio.current_time() + self._rng.uniform(0, self._rng.choice((SHORTLY_S, late)))
                heapq.heappush(self._copies, (when, next(self._numbers), bytes(begun[at:end])))
            at = end
        del begun[:at]

    def writable(self) -> Awaitable[None]:
        return self._stream.writable()

    def send(self, buffers: Sequence[Buffer]) -> int:
        return self._stream.send(buffers)

    def send_file(self, part: FileRange) -> int:
        return self._stream.send_file(part)

    def shut_down(self) -> None:
        self._stream.shut_down()

    def close(self) -> None:
        self._stream.close()


class Repeats:
    """How one process's network repeats, from outside: by a file that is made here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(SIZE))

    def change(self, share: float, late: float) -> None:
        """From the next frame on. `share` of the frames comes again, up to `late` seconds later."""
        with self.path.open("r+b") as file:
            file.write(HOW.pack(share, late))

    def count(self) -> int:
        """Copies that the process has been given."""
        return int(COUNT.unpack_from(self.path.read_bytes(), HOW.size)[0])
