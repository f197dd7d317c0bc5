"""Cuts a connection's bytes into frames, without I/O.

A frame is a word of four bytes, big-endian, and as many bytes as it says. What a word means is the caller's:
`size_of` gives the size, or refuses it before anything is kept for it.

Bytes are received into one of two places. Small frames come many at a time into a scratch buffer and are
copied out. Nothing stays there between two receives, so all connections of a process share it. Of a large
frame all that is behind its beginning is received where it will stay, and is never copied.

What is reserved for a frame is at most `reserve` bytes, or `RESERVE_FACTOR` times what has arrived of it. So
a word alone costs the receiver little, whatever it says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Generic, TypeVar

WORD_SIZE: Final = 4
SCRATCH_SIZE: Final = 256 * 1024
"""Bytes that one receive takes of small frames."""
IN_PLACE_MIN: Final = 16 * 1024
"""Missing bytes of a frame from which they are received in place rather than copied."""
RESERVE_FACTOR: Final = 4

_BLANK: Final = memoryview(bytes(1 << 20))
"""What a frame is lengthened with until its bytes come. Making as many anew would cost as much as receiving
them."""

Frame = TypeVar("Frame", bound=bytearray)

_read_word = struct.Struct(">I").unpack_from


class FrameCutter(Generic[Frame]):
    """The receiving half of one connection.

    Receive into `buffer()`, tell with `received(count)` how many bytes came, and take the frames that these
    completed. Every frame is a fresh bytearray, the caller's own. No frames means that one is under way,
    which is a sign of life.
    """

    __slots__ = (
        "_filled", "_in_place", "_new_frame", "_reserve", "_scratch", "_size", "_skipped",
        "_word", "frame", "size_of",
    )  # fmt: skip

    def __init__(
        self,
        scratch: memoryview,
        size_of: Callable[[int], int],
        new_frame: Callable[[bytes | memoryview | int], Frame],
        *,
        reserve: int,
        keeps_word: bool = False,
    ) -> None:
        """`size_of` is how many bytes follow a word; it raises InvalidInput for a word that cannot be.
        `new_frame` makes a frame of bytes, or of so many. `reserve` is what may be reserved for one on its
        word alone. `keeps_word`: a frame begins with its word."""
        self._scratch = scratch
        self.size_of = size_of
        self._new_frame = new_frame
        self._reserve = reserve
        self._skipped = 0 if keeps_word else WORD_SIZE
        self._word = b""
        """The beginning of a word that is not whole."""
        self.frame: Frame | None = None
        """The frame that is under way: its word is here, and not all of its bytes."""
        self._size = 0
        self._filled = 0
        self._in_place = False

    def __repr__(self) -> str:
        return f"<FrameCutter {self._filled} of {self._size} bytes>"

    @property
    def size(self) -> int:
        """What the frame that is under way will have."""
        return self._size

    @property
    def is_in_place(self) -> bool:
        """Whether what was received last went where it stays: more of a large frame is on its way."""
        return self._in_place

    def buffer(self, scratch_bytes: int | None = None) -> memoryview:
        """Where to receive into; let go of it before `received`. `scratch_bytes` limits what is received of
        anything but the rest of a large frame."""
        frame = self.frame
        if not frame or self._size - self._filled < IN_PLACE_MIN:
            self._in_place = False
            return self._scratch if scratch_bytes is None else self._scratch[:scratch_bytes]
        self._extend(frame, self._filled + 1)
        self._in_place = True
        return memoryview(frame)[self._filled :]

    def received(self, count: int) -> list[Frame]:
        """The frames that `count` more bytes completed. Raises what `size_of` does: then the connection is
        of no use."""
        if self._in_place:
            self._filled += count
            return [self._take()] if self._filled == self._size else []
        frames: list[Frame] = []
        scratch, position = self._scratch, 0
        if self._word:
            position = WORD_SIZE - len(self._word)
            word = self._word + scratch[: min(position, count)]
            if len(word) < WORD_SIZE:
                self._word = word
                return frames
            self._word = b""
            self._begin(word, self.size_of(_read_word(word)[0]))
        if self.frame is not None:
            position = self._fill(position, count, frames)
        while count - position >= WORD_SIZE:
            size = self.size_of(_read_word(scratch, position)[0])
            end = position + WORD_SIZE + size
            if end <= count:
                frames.append(self._new_frame(scratch[position + self._skipped : end]))
                position = end
            else:
                self._begin(scratch[position : position + WORD_SIZE], size)
                position = self._fill(position + WORD_SIZE, count, frames)
        if position < count:
            self._word = bytes(scratch[position:count])
        return frames

    def close(self) -> None:
        """Let go of an unfinished frame."""
        self.frame = None

    def _begin(self, word: bytes | memoryview, size: int) -> None:
        kept = word[self._skipped :]
        self._size = len(kept) + size
        self._filled = len(kept)
        if self._size <= self._reserve:
            self.frame = self._new_frame(self._size)
            self.frame[: len(kept)] = kept
        else:
            self.frame = self._new_frame(kept)

    def _fill(self, position: int, count: int, frames: list[Frame]) -> int:
        """Copy from the scratch buffer what belongs to the frame; returns the position behind it."""
        frame = self.frame
        assert frame is not None
        filled = self._filled
        end = min(position + self._size - filled, count)
        self._filled = filled + end - position
        if end > position:
            self._extend(frame, self._filled)
            frame[filled : self._filled] = self._scratch[position:end]
        if self._filled == self._size:
            frames.append(self._take())
        return end

    def _extend(self, frame: Frame, needed: int) -> None:
        """Make room for `needed` bytes of the frame, and for more the more there is of it."""
        if len(frame) < needed:
            size = min(self._size, max(self._reserve, RESERVE_FACTOR * needed))
            while len(frame) < size:
                frame.extend(_BLANK[: size - len(frame)])

    def _take(self) -> Frame:
        frame, self.frame = self.frame, None
        assert frame is not None
        self._filled = self._size = 0
        self._in_place = False
        return frame
