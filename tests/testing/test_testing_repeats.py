"""A network that delivers twice: every frame comes in its order, and copies come between whole frames."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from raftlog.net.frames import SCRATCH_SIZE
from raftlog.testing.repeats import COUNT, HOW, SIZE, Repeating, Repeats
from raftlog.transport.lanes import Inflow


class Pieces:
    """A stream that gives what it has in pieces of any size."""

    peer_host = "nowhere"

    def __init__(self, data: bytes, rng: random.Random) -> None:
        self._data, self._rng = data, rng

    async def readable(self) -> None:
        if not self._data:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    def receive_into(self, buffer: memoryview) -> int:
        if not self._data:
            raise BlockingIOError
        count = min(len(buffer), self._rng.randint(1, 60))
        piece, self._data = self._data[:count], self._data[count:]
        buffer[: len(piece)] = piece
        return len(piece)


def frame(number: int, size: int) -> bytes:
    return (4 + size).to_bytes(4, "big") + number.to_bytes(4, "big") + bytes(size)


def memory_of(share: float, late: float) -> bytearray:
    memory = bytearray(SIZE)
    HOW.pack_into(memory, 0, share, late)
    return memory


async def received(stream: Any, seconds: float) -> list[int]:
    """The numbers of the frames that come within virtual time."""
    inflow, numbers = Inflow(memoryview(bytearray(SCRATCH_SIZE))), list[int]()
    with trio.move_on_after(seconds):
        while True:
            await stream.readable()
            try:
                count = stream.receive_into(inflow.buffer())
            except BlockingIOError:
                continue
            numbers += [int.from_bytes(one[4:8], "big") for one in inflow.received(count)]
    return numbers


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
async def test_every_frame_comes_and_some_come_again(share: float, autojump_clock: object) -> None:
    rng = random.Random(share)
    frames = [frame(number, rng.randint(0, 200)) for number in range(300)]
    memory = memory_of(share, 2.0)
    numbers = await received(Repeating(Pieces(b"".join(frames), rng), memory, rng), 10)
    firsts = list(dict.fromkeys(numbers))
    assert firsts == list(range(300))
    copies = Counter(numbers) - Counter(firsts)
    assert COUNT.unpack_from(memory, HOW.size) == (copies.total(),)
    assert set(copies.values()) <= {1}
    assert (share == 0.0) == (not copies)
    assert share < 1.0 or copies.total() == 300


async def test_what_comes_in_pieces_comes_once(autojump_clock: object) -> None:
    whole = frame(7, 30)
    parts = whole[:20], whole[20:]
    pieces = b"".join((1 << 31 | len(part)).to_bytes(4, "big") + part for part in parts)
    stream = Pieces(frame(1, 10) + pieces + frame(2, 10), random.Random(1))
    numbers = await received(Repeating(stream, memory_of(1.0, 1.0), random.Random(1)), 10)
    assert list(dict.fromkeys(numbers)) == [1, 7, 2]
    assert Counter(numbers) == {1: 2, 7: 1, 2: 2}


def test_the_file_says_how_and_counts(tmp_path: Path) -> None:
    repeats = Repeats(tmp_path / "repeats")
    repeats.change(0.5, 2.0)
    assert HOW.unpack_from(repeats.path.read_bytes()) == (0.5, 2.0)
    assert repeats.count() == 0
