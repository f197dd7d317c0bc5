"""How frames share one connection: urgent ones pass large ones, which go in pieces.

    piece     u32: 1 bit set, 3 bits lane, 28 bits size | that many bytes of the lane's frame

A frame that takes a second to send must not keep a heartbeat waiting for a second: its follower would take
the leader for dead, elect another, and drop what it was about to acknowledge. So each lane has its order, a
lane of a lower number goes first, and a frame of more than `WHOLE_BYTES_MAX` is cut. The pieces of one lane
are of one frame, until that is complete: its length says when.

Plain Python over buffers: it knows no sockets and no messages. Payloads are not copied to be sent.
"""

from __future__ import annotations

import sys
from collections import deque
from enum import IntEnum
from typing import Final

from raftlog.errors import InvalidInput
from raftlog.transport.wire import Buffers, frame_size

PIECE_BYTES: Final = 256 << 10
"""20 ms at 100 Mbit/s: what a heartbeat may have to wait for, behind something large."""
WHOLE_BYTES_MAX: Final = 5 << 18
"""A frame of one full append goes whole, since pieces cost the receiver a copy: 100 ms at 100 Mbit/s."""
LANE_BYTES_MAX: Final = 64 << 20
"""Bytes that wait in one lane for one peer; a longer frame is taken only when none waits."""
READ_BUFFER_BYTES: Final = 256 << 10
"""One read of a connection; a frame that is longer gets a buffer of its own."""
BUFFERS_MAX: Final = 1024
"""Buffers that one sendmsg takes (IOV_MAX)."""

_IS_PIECE: Final = 1 << 31
_LANE_SHIFT: Final = 28
_SIZE_MASK: Final = (1 << _LANE_SHIFT) - 1


class Lane(IntEnum):
    """Which frames go first. Messages of one group's log must keep their order, so they share a lane."""

    URGENT = 0
    """Who leads, who votes, what is acknowledged, and what the layer above says. Small, of all groups."""
    METADATA = 1
    """The metadata group's log: brokers are fenced, and topics not created, while it waits."""
    LOG = 2


_LANES: Final = frozenset(map(int, Lane))


class Outflow:
    """What one connection has yet to send."""

    def __init__(self, *, in_pieces: bool) -> None:
        """`in_pieces`: the peer understands pieces; else all frames go whole."""
        self.queued_bytes = 0
        self._cut_above = WHOLE_BYTES_MAX if in_pieces else sys.maxsize
        self._lanes: tuple[deque[_Outgoing], ...] = tuple(deque() for _ in Lane)
        self._lane_bytes = [0 for _ in Lane]
        self._begun: deque[bytes | bytearray | memoryview] = deque()
        """The rest of what the socket has been offered: whole frames and whole pieces."""

    def add(self, lane: Lane, frame: Buffers, size: int) -> bool:
        """Queue a frame; False when its lane is full."""
        if self._lane_bytes[lane] and self._lane_bytes[lane] + size > LANE_BYTES_MAX:
            return False
        self._lanes[lane].append(_Outgoing(frame, size))
        self._lane_bytes[lane] += size
        self.queued_bytes += size
        return True

    def add_rest(self, frame: Buffers, sent: int, size: int) -> None:
        """What is left of a frame that was offered to the socket when nothing waited."""
        self._begun += frame
        self.queued_bytes += size
        self.sent(sent)

    def next_buffers(self) -> Buffers:
        """What the socket should be offered now; empty when nothing waits."""
        begun = self._begun
        if not begun:
            room = PIECE_BYTES
            for lane, frames in enumerate(self._lanes):
                while frames and room > 0:
                    room -= self._begin(lane, frames)
        return [begun[i] for i in range(min(len(begun), BUFFERS_MAX))]

    def _begin(self, lane: int, frames: deque[_Outgoing]) -> int:
        """Move the lane's next frame, or a piece of it, to what has begun; how many bytes that are."""
        frame = frames[0]
        if frame.is_whole and frame.size <= self._cut_above:
            size = frame.size
            self._begun += frame.buffers
        else:
            size = min(frame.size, PIECE_BYTES)
            header = (_IS_PIECE | lane << _LANE_SHIFT | size).to_bytes(4, "big")
            self._begun.append(header)
            self._begun += frame.take(size)
            self.queued_bytes += len(header)
        if size == frame.size:
            frames.popleft()
        else:
            frame.size -= size
            frame.is_whole = False
        self._lane_bytes[lane] -= size
        return size

    def sent(self, count: int) -> None:
        """The socket took the first `count` bytes of `next_buffers`."""
        self.queued_bytes -= count
        begun = self._begun
        while begun and count >= len(begun[0]):
            count -= len(begun.popleft())
        if count:
            begun[0] = memoryview(begun[0])[count:]


class _Outgoing:
    """A frame, or what is left of it."""

    __slots__ = ("buffers", "is_whole", "size")

    def __init__(self, frame: Buffers, size: int) -> None:
        self.buffers: deque[bytes | bytearray | memoryview] = deque(frame)
        self.size = size
        self.is_whole = True

    def take(self, size: int) -> Buffers:
        """The next `size` bytes, as views."""
        taken: Buffers = []
        while size:
            buffer = self.buffers.popleft()
            if len(buffer) > size:
                view = memoryview(buffer)
                self.buffers.appendleft(view[size:])
                buffer = view[:size]
            taken.append(buffer)
            size -= len(buffer)
        return taken


class Inflow:
    """Frames out of what one connection reads. Small ones are copied out of one buffer, so that an entry that
    stays uncommitted does not hold all of it; a large one is read into its own."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self._start = self._end = 0
        self._incoming: dict[int, _Incoming] = {}
        self._target: _Incoming | None = None
        self._target_left = 0
        """Bytes that go straight into the target's own buffer: the rest of a piece, or of a whole frame."""

    def space(self) -> memoryview:
        """Where to read to next."""
        if self._target is not None:
            position = self._target.position
            return self._target.frame[position : position + self._target_left]
        return self._buffer[self._end :]

    def received(self, count: int) -> list[memoryview]:
        """`count` bytes were read there; the frames that are complete. Raises InvalidInput."""
        target = self._target
        if target is not None:
            target.position += count
            self._target_left -= count
            if self._target_left:
                return []
            self._target = None
            return self._complete(target)
        self._end += count
        frames: list[memoryview] = []
        while self._end - self._start >= 4 and self._take_next(frames):
            pass
        left = self._end - self._start
        if left and self._start:
            self._buffer[:left] = bytes(self._buffer[self._start : self._end])
        self._start, self._end = 0, left
        return frames

    def _take_next(self, frames: list[memoryview]) -> bool:
        """Take the frame or piece that the buffer begins with; False when more must be read first."""
        start, available = self._start, self._end - self._start
        word = int.from_bytes(self._buffer[start : start + 4], "big")
        if word & _IS_PIECE:
            return self._take_piece(word, frames)
        size = frame_size(self._buffer[start : start + 4])
        if size <= available:
            frames.append(memoryview(bytes(self._buffer[start : start + size])))
            self._start += size
            return True
        if size > READ_BUFFER_BYTES:
            self._read_into(_Incoming(-1, size), size, frames)
        return False

    def _take_piece(self, word: int, frames: list[memoryview]) -> bool:
        lane, size = word >> _LANE_SHIFT & 7, word & _SIZE_MASK
        incoming = self._incoming.get(lane)
        if lane not in _LANES or size < (4 if incoming is None else 1):
            raise InvalidInput(f"a piece of {size} bytes in lane {lane}")
        if incoming is None:
            prefix = self._buffer[self._start + 4 : min(self._start + 8, self._end)]
            if len(prefix) < 4:
                return False
            incoming = self._incoming[lane] = _Incoming(lane, frame_size(prefix))
        if incoming.position + size > len(incoming.frame):
            raise InvalidInput(f"a piece of {size} bytes goes beyond its frame's end")
        self._start += 4
        self._read_into(incoming, size, frames)
        return self._target is None

    def _read_into(self, incoming: _Incoming, size: int, frames: list[memoryview]) -> None:
        """Give a frame the next `size` bytes: those that are here, and then those that come."""
        count = min(size, self._end - self._start)
        position = incoming.position
        incoming.frame[position : position + count] = self._buffer[self._start : self._start + count]
        incoming.position += count
        self._start += count
        if count < size:
            self._target, self._target_left = incoming, size - count
        else:
            frames += self._complete(incoming)

    def _complete(self, incoming: _Incoming) -> list[memoryview]:
        if incoming.position < len(incoming.frame):
            return []
        self._incoming.pop(incoming.lane, None)
        return [incoming.frame]


class _Incoming:
    """A frame that is not complete yet."""

    __slots__ = ("frame", "lane", "position")

    def __init__(self, lane: int, size: int) -> None:
        self.lane = lane
        self.frame = memoryview(bytearray(size))
        self.position = 0
