"""Cuts a connection's bytes into frames, without I/O.

A frame is a length (4 bytes, big-endian) and that many bytes. Small frames are received many at a time
into a scratch buffer that all connections share (nothing stays in it between two receives) and copied
out; of a large frame everything behind its beginning is received in place.

Invariant: what is reserved for a frame is at most twice what has arrived of it plus RESERVE_MAX, so a
length costs the sender bytes, not just the receiver memory.
"""

from __future__ import annotations

from typing import Final

from raftlog.errors import InvalidInput

LENGTH_SIZE: Final = 4
SCRATCH_SIZE: Final = 256 * 1024
IN_PLACE_MIN: Final = 16 * 1024
"""Missing bytes of a frame from which they are received in place rather than copied."""
RESERVE_MAX: Final = 4 * 1024 * 1024
"""Bytes reserved for a frame on the word of its length alone."""


class FrameReader:
    """The receiving half of a connection.

    Use: receive into `buffer()`, tell how many bytes came with `received(count)`, handle the frames that
    it gives. Each frame is a fresh, writable bytearray that belongs to the caller.
    """

    __slots__ = ("_filled", "_frame", "_head", "_in_place", "_scratch", "_size", "size_max")

    def __init__(self, scratch: memoryview, size_max: int) -> None:
        """`scratch` may be shared by readers that receive and take their frames without waiting between;
        `size_max` is the largest frame allowed (socket.request.max.bytes)."""
        self._scratch = scratch
        self.size_max = size_max
        self._head = b""
        self._frame: bytearray | None = None
        self._size = 0
        self._filled = 0
        self._in_place = False

    def __repr__(self) -> str:
        return f"<FrameReader {self._filled} of {self._size} bytes>"

    @property
    def is_idle(self) -> bool:
        """Whether no frame has been begun."""
        return self._frame is None and not self._head

    @property
    def expects_much(self) -> bool:
        """Whether the rest of a large frame is on its way: worth another receive at once."""
        return self._in_place

    def buffer(self) -> memoryview:
        """Where to receive into; release it before calling `received`."""
        frame = self._frame
        if not frame or self._size - self._filled < IN_PLACE_MIN:
            self._in_place = False
            return self._scratch
        self._grow(frame, self._filled + 1)
        self._in_place = True
        return memoryview(frame)[self._filled :]

    def received(self, count: int) -> list[bytearray]:
        """The frames that `count` more bytes completed. Raises InvalidInput for a length out of bounds."""
        if self._in_place:
            self._filled += count
            return [self._take()] if self._filled == self._size else []
        frames: list[bytearray] = []
        position = 0
        while position < count:
            if self._frame is None:
                missing = LENGTH_SIZE - len(self._head)
                self._head += self._scratch[position : min(count, position + missing)]
                position += missing
                if len(self._head) < LENGTH_SIZE:
                    break
                self._begin(int.from_bytes(self._head, "big", signed=True))
                continue
            position = self._fill(position, count)
            if self._filled == self._size:
                frames.append(self._take())
        return frames

    def _begin(self, size: int) -> None:
        if size <= 0 or size > self.size_max:
            raise InvalidInput(f"a frame of {size} bytes; 1 to {self.size_max} are taken")
        self._size = size
        self._head = b""
        self._frame = bytearray()

    def _fill(self, position: int, count: int) -> int:
        """Copy from the scratch buffer what belongs to the frame; returns the position behind it."""
        take = min(self._size - self._filled, count - position)
        piece = self._scratch[position : position + take]
        if take == self._size:
            self._frame = bytearray(piece)
        else:
            frame = self._frame or self._reserve()
            self._grow(frame, self._filled + take)
            frame[self._filled : self._filled + take] = piece
        self._filled += take
        return position + take

    def _reserve(self) -> bytearray:
        self._frame = bytearray(min(self._size, RESERVE_MAX))
        return self._frame

    def _grow(self, frame: bytearray, needed: int) -> None:
        if len(frame) < needed:
            frame.extend(bytes(min(self._size, max(needed, 2 * len(frame))) - len(frame)))

    def _take(self) -> bytearray:
        frame, self._frame = self._frame, None
        self._filled = self._size = 0
        self._in_place = False
        assert frame is not None
        return frame
