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
from raftlog.net.frames import WORD_SIZE, FrameCutter
from raftlog.transport.wire import Buffers, frame_size

PIECE_BYTES: Final = 256 << 10
"""20 ms at 100 Mbit/s: what a heartbeat may have to wait for, behind something large."""
WHOLE_BYTES_MAX: Final = 5 << 18
"""A frame of one full append goes whole, since pieces cost the receiver a copy: 100 ms at 100 Mbit/s."""
LANE_BYTES_MAX: Final = 64 << 20
"""Bytes that wait in one lane for one peer; a longer frame is taken only when none waits."""
LANE_FRAMES_MAX: Final = 1 << 15
"""Frames that wait there, however small: each costs some hundred bytes of objects."""
RESERVE: Final = 16 << 20
"""Bytes of memory that a frame gets before they have come."""

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
    """The frames that wait for one connection, and which bytes go next."""

    def __init__(self, *, in_pieces: bool) -> None:
        """`in_pieces`: the peer understands pieces; else all frames go whole."""
        self._cut_above = WHOLE_BYTES_MAX if in_pieces else sys.maxsize
        self._lanes: tuple[deque[_Outgoing], ...] = tuple(deque() for _ in Lane)
        self._lane_bytes = [0 for _ in Lane]

    @property
    def bytes_waiting(self) -> int:
        return sum(self._lane_bytes)

    def add(self, lane: Lane, frame: Buffers, size: int) -> bool:
        """Queue a frame; False when its lane is full."""
        frames, waiting = self._lanes[lane], self._lane_bytes[lane]
        if waiting and (waiting + size > LANE_BYTES_MAX or len(frames) >= LANE_FRAMES_MAX):
            return False
        frames.append(_Outgoing(frame, size))
        self._lane_bytes[lane] = waiting + size
        return True

    def take(self) -> Buffers:
        """What the connection sends next: a piece, or whole frames of about as many bytes. Nothing passes
        them any more. Empty when nothing waits."""
        taken: Buffers = []
        room = PIECE_BYTES
        for lane, frames in enumerate(self._lanes):
            while frames and room > 0:
                room -= self._take_from(lane, frames, taken)
        return taken

    def _take_from(self, lane: int, frames: deque[_Outgoing], taken: Buffers) -> int:
        """Take the lane's next frame, or a piece of it; how many bytes that are."""
        frame = frames[0]
        if frame.is_whole and frame.size <= self._cut_above:
            size = frame.size
            taken += frame.buffers
        else:
            size = min(frame.size, PIECE_BYTES)
            taken.append((_IS_PIECE | lane << _LANE_SHIFT | size).to_bytes(WORD_SIZE, "big"))
            taken += frame.take(size)
        if size == frame.size:
            frames.popleft()
        else:
            frame.size -= size
            frame.is_whole = False
        self._lane_bytes[lane] -= size
        return size


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
    """Frames out of what one connection receives: those that come whole, and those that come in pieces."""

    def __init__(self, scratch: memoryview) -> None:
        """`scratch`: see `FrameCutter`."""
        self._cutter = FrameCutter(scratch, _bytes_behind, bytearray, reserve=RESERVE, keeps_word=True)
        self.buffer = self._cutter.buffer
        """Where to receive into next."""
        self._incoming: dict[int, _Incoming] = {}

    def received(self, count: int) -> list[memoryview]:
        """`count` bytes were received there; the frames that are complete. Raises InvalidInput."""
        frames = []
        for part in self._cutter.received(count):
            frame = part if part[0] < 0x80 else self._add_piece(part)
            if frame is not None:
                frames.append(memoryview(frame))
        return frames

    def _add_piece(self, piece: bytearray) -> bytearray | None:
        """The lane's frame, if this completes it."""
        lane, data = piece[0] >> 4 & 7, memoryview(piece)[WORD_SIZE:]
        incoming = self._incoming.get(lane)
        if incoming is None:
            if len(data) < WORD_SIZE:
                raise InvalidInput(f"a piece of {len(data)} bytes in lane {lane}")
            incoming = self._incoming[lane] = _Incoming(frame_size(int.from_bytes(data[:WORD_SIZE], "big")))
        end = incoming.filled + len(data)
        if end > len(incoming.frame):
            raise InvalidInput(f"a piece of {len(data)} bytes goes beyond its frame's end")
        incoming.frame[incoming.filled : end] = data
        incoming.filled = end
        if end < len(incoming.frame):
            return None
        return self._incoming.pop(lane).frame


class _Incoming:
    """A frame that comes in pieces."""

    __slots__ = ("filled", "frame")

    def __init__(self, size: int) -> None:
        self.frame = bytearray(size)
        self.filled = 0


def _bytes_behind(word: int) -> int:
    """What follows a frame's length, or a piece's word. Raises InvalidInput."""
    if not word & _IS_PIECE:
        return frame_size(word) - WORD_SIZE
    lane, size = word >> _LANE_SHIFT & 7, word & _SIZE_MASK
    if lane not in _LANES or not size:
        raise InvalidInput(f"a piece of {size} bytes in lane {lane}")
    return size
