"""Cuts a connection's bytes into frames, without I/O.

A frame is a length (4 bytes, big-endian) and that many bytes. Small frames are received many at a time
into a scratch buffer that all connections share (nothing stays in it between two receives) and copied
out; of a large frame everything behind its beginning is received in place.

Invariants: what is reserved for a frame is at most RESERVE_MIN or RESERVE_FACTOR times what has arrived of
it, so a length alone costs the receiver no memory; while the budget has no room for requests nothing but
small frames is received, and of each large one its beginning.
"""

from __future__ import annotations

from typing import Final

from raftlog.broker.strangers import recognize
from raftlog.errors import InvalidInput
from raftlog.memory import Frame, MemoryBudget

LENGTH_SIZE: Final = 4
SCRATCH_SIZE: Final = 256 * 1024
IN_PLACE_MIN: Final = 16 * 1024
"""Missing bytes of a frame from which they are received in place rather than copied."""
RESERVE_MIN: Final = 4 * 1024
RESERVE_FACTOR: Final = 4
SMALL_MAX: Final = 4 * 1024
"""A frame that is received whether there is room or not: heartbeats, commits, metadata. It is also what is
received at once while there is none."""


class FrameReader:
    """The receiving half of a connection.

    Use: receive into `buffer()`, tell how many bytes came with `received(count)`, handle the frames that
    it gives. Each frame is a fresh, writable bytearray that belongs to the caller.
    """

    __slots__ = ("_budget", "_filled", "_frame", "_head", "_in_place", "_scratch", "_size", "size_max")

    def __init__(self, scratch: memoryview, size_max: int, budget: MemoryBudget) -> None:
        """`scratch` may be shared by readers that receive and take their frames without waiting between;
        `size_max` is the largest frame allowed (socket.request.max.bytes)."""
        self._scratch = scratch
        self.size_max = size_max
        self._budget = budget
        self._head = b""
        self._frame: Frame | None = None
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

    @property
    def is_unfinished(self) -> bool:
        """Whether a large frame has been admitted and has not arrived."""
        return self._frame is not None and self._frame.is_admitted

    @property
    def wants_room(self) -> bool:
        """Whether a large frame has begun that has not been admitted."""
        return self._frame is not None and self._size > SMALL_MAX and not self._frame.is_admitted

    def admit(self) -> None:
        """There is room for the frame that has begun: charge it."""
        assert self._frame is not None
        self._frame.admit(self._size)

    def buffer(self) -> memoryview:
        """Where to receive into; release it before calling `received`."""
        frame = self._frame
        if not frame or self._size - self._filled < IN_PLACE_MIN:
            self._in_place = False
            return self._scratch if self._budget.has_room else self._scratch[:SMALL_MAX]
        self._reserve(frame, self._filled + 1)
        self._in_place = True
        return memoryview(frame)[self._filled :]

    def received(self, count: int) -> list[Frame]:
        """The frames that `count` more bytes completed. Raises InvalidInput for a length out of bounds,
        Stranger for the beginning of another protocol."""
        if self._in_place:
            self._filled += count
            return [self._take()] if self._filled == self._size else []
        frames: list[Frame] = []
        position = 0
        while position < count:
            if self._frame is None:
                missing = LENGTH_SIZE - len(self._head)
                self._head += self._scratch[position : min(count, position + missing)]
                position += missing
                if len(self._head) < LENGTH_SIZE:
                    break
                self._begin(self._head)
                continue
            position = self._fill(position, count)
            if self._filled == self._size:
                frames.append(self._take())
        return frames

    def _begin(self, head: bytes) -> None:
        size = int.from_bytes(head, "big", signed=True)
        if size <= 0 or size > self.size_max:
            raise recognize(head) or InvalidInput(f"a frame of {size} bytes; 1 to {self.size_max} are taken")
        self._size = size
        self._head = b""
        self._frame = Frame(self._budget)

    def _fill(self, position: int, count: int) -> int:
        """Copy from the scratch buffer what belongs to the frame; returns the position behind it."""
        take = min(self._size - self._filled, count - position)
        piece = self._scratch[position : position + take]
        if take == self._size:
            self._frame = Frame(self._budget, piece)
        else:
            frame = self._frame
            assert frame is not None
            self._reserve(frame, self._filled + take)
            frame[self._filled : self._filled + take] = piece
        self._filled += take
        return position + take

    def _reserve(self, frame: Frame, needed: int) -> None:
        """Make room for `needed` bytes of the frame, and for more the more there is of it."""
        if len(frame) < needed:
            size = min(self._size, max(RESERVE_MIN, RESERVE_FACTOR * needed))
            frame.extend(bytes(size - len(frame)))

    def close(self) -> None:
        """Let go of an unfinished frame."""
        self._frame = None

    def _take(self) -> Frame:
        frame, self._frame = self._frame, None
        assert frame is not None
        if not frame.is_admitted:
            frame.admit(self._size)
        self._filled = self._size = 0
        self._in_place = False
        return frame
