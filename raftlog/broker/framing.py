"""Cuts a connection's bytes into frames, without I/O.

A frame is a length (4 bytes, big-endian) and that many bytes. Small frames are received many at a time
into a scratch buffer that all connections share (nothing stays in it between two receives) and copied
out; of a large frame everything behind its beginning is received in place.

Invariants: what is reserved for a frame is at most RESERVE_MIN or RESERVE_FACTOR times what has arrived of
it, so a length alone costs the receiver nothing; what is reserved for all unfinished frames together stays
within a `ReceiveBudget`.
"""

from __future__ import annotations

from typing import Final

from raftlog.broker.strangers import recognize
from raftlog.errors import InvalidInput, RaftlogError

LENGTH_SIZE: Final = 4
SCRATCH_SIZE: Final = 256 * 1024
IN_PLACE_MIN: Final = 16 * 1024
"""Missing bytes of a frame from which they are received in place rather than copied."""
RESERVE_MIN: Final = 64 * 1024
RESERVE_FACTOR: Final = 4
UNFINISHED_MAX: Final = 512 * 1024 * 1024
"""Bytes of unfinished frames of all connections together: 500 producers that send a megabyte each at once."""


class ReceiveBudgetSpent(RaftlogError):
    """So much is being received that one connection has to give way. Its client tries again."""


class ReceiveBudget:
    """What the unfinished frames of all connections may take, in bytes."""

    __slots__ = ("bytes_max", "used")

    def __init__(self, bytes_max: int = UNFINISHED_MAX) -> None:
        self.bytes_max = bytes_max
        self.used = 0

    def take(self, size: int) -> None:
        """Raises ReceiveBudgetSpent, taking nothing, when there is not so much left."""
        if self.used + size > self.bytes_max:
            raise ReceiveBudgetSpent(f"unfinished requests take {self.used} bytes already")
        self.used += size


class FrameReader:
    """The receiving half of a connection.

    Use: receive into `buffer()`, tell how many bytes came with `received(count)`, handle the frames that
    it gives. Each frame is a fresh, writable bytearray that belongs to the caller.
    """

    __slots__ = ("_budget", "_filled", "_frame", "_head", "_in_place", "_scratch", "_size", "size_max")

    def __init__(self, scratch: memoryview, size_max: int, budget: ReceiveBudget) -> None:
        """`scratch` may be shared by readers that receive and take their frames without waiting between;
        `size_max` is the largest frame allowed (socket.request.max.bytes)."""
        self._scratch = scratch
        self.size_max = size_max
        self._budget = budget
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
        self._reserve(frame, self._filled + 1)
        self._in_place = True
        return memoryview(frame)[self._filled :]

    def received(self, count: int) -> list[bytearray]:
        """The frames that `count` more bytes completed. Raises InvalidInput for a length out of bounds,
        Stranger for the beginning of another protocol."""
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
        self._frame = bytearray()

    def _fill(self, position: int, count: int) -> int:
        """Copy from the scratch buffer what belongs to the frame; returns the position behind it."""
        take = min(self._size - self._filled, count - position)
        piece = self._scratch[position : position + take]
        if take == self._size:
            self._frame = bytearray(piece)
            self._budget.used += take
        else:
            frame = self._frame
            assert frame is not None
            self._reserve(frame, self._filled + take)
            frame[self._filled : self._filled + take] = piece
        self._filled += take
        return position + take

    def _reserve(self, frame: bytearray, needed: int) -> None:
        """Make room for `needed` bytes of the frame, and for more the more there is of it."""
        if len(frame) < needed:
            size = min(self._size, max(RESERVE_MIN, RESERVE_FACTOR * needed))
            self._budget.take(size - len(frame))
            frame.extend(bytes(size - len(frame)))

    def close(self) -> None:
        """Let go of an unfinished frame."""
        if self._frame is not None:
            self._budget.used -= len(self._frame)
            self._frame = None

    def _take(self) -> bytearray:
        frame, self._frame = self._frame, None
        self._filled = self._size = 0
        self._in_place = False
        assert frame is not None
        self._budget.used -= len(frame)
        return frame
