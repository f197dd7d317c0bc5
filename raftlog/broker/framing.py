"""The requests of one connection, as they arrive, and what they may take of the broker's memory.

`FrameCutter` cuts them out of the bytes. Here is what a broker asks of it: a request is charged to the
budget while anything refers to it, and a large one is received only once there is room for it.

Invariant: while the budget has no room, nothing but small requests is received, and of each large one its
beginning.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from raftlog.broker.strangers import recognize
from raftlog.errors import InvalidInput
from raftlog.memory import Frame, MemoryBudget
from raftlog.net.frames import WORD_SIZE, FrameCutter

RESERVE: Final = 4 * 1024
"""Bytes that a stranger may have reserved by a length alone."""
SMALL_MAX: Final = 4 * 1024
"""A request that is received whether there is room or not: heartbeats, commits, metadata. It is also what is
received at once while there is none."""


class RequestReader:
    """The receiving half of a connection. Receive into `buffer()`, tell `received` how many bytes came."""

    __slots__ = ("_budget", "_cutter")

    def __init__(self, scratch: memoryview, size_max: int, budget: MemoryBudget) -> None:
        """`scratch`: see `FrameCutter`; `size_max` is the largest request allowed
        (socket.request.max.bytes)."""
        self._budget = budget
        self._cutter = FrameCutter(
            scratch, partial(_size_of, size_max), partial(Frame, budget), reserve=RESERVE
        )

    def __repr__(self) -> str:
        return f"<RequestReader {self._cutter!r}>"

    @property
    def expects_much(self) -> bool:
        """Whether the rest of a large request is on its way: worth another receive at once."""
        return self._cutter.is_in_place

    @property
    def is_unfinished(self) -> bool:
        """Whether a large request has been admitted and has not arrived."""
        frame = self._cutter.frame
        return frame is not None and frame.is_admitted

    @property
    def wants_room(self) -> bool:
        """Whether a large request has begun that has not been admitted."""
        frame = self._cutter.frame
        return frame is not None and self._cutter.size > SMALL_MAX and not frame.is_admitted

    def admit(self) -> None:
        """There is room for the request that has begun: charge it."""
        assert self._cutter.frame is not None
        self._cutter.frame.admit(self._cutter.size)

    def take_up_to(self, size_max: int) -> None:
        """The largest request from here on."""
        self._cutter.size_of = partial(_size_of, size_max)

    def buffer(self) -> memoryview:
        """Where to receive into; let go of it before `received`."""
        return self._cutter.buffer(None if self._budget.has_room else SMALL_MAX)

    def received(self, count: int) -> list[Frame]:
        """The requests that `count` more bytes completed. Raises InvalidInput for a length out of bounds,
        Stranger for the beginning of another protocol."""
        frames = self._cutter.received(count)
        for frame in frames:
            if not frame.is_admitted:
                frame.admit(len(frame))
        return frames

    def close(self) -> None:
        """Let go of an unfinished request."""
        self._cutter.close()


def _size_of(size_max: int, word: int) -> int:
    if not 0 < word <= size_max:
        head = word.to_bytes(WORD_SIZE, "big")
        size = int.from_bytes(head, "big", signed=True)
        raise recognize(head) or InvalidInput(f"a frame of {size} bytes; 1 to {size_max} are taken")
    return word
