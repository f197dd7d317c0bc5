"""Frames however they arrive, and what an unfinished one may cost."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.errors import InvalidInput
from raftlog.net.frames import IN_PLACE_MIN, RESERVE_FACTOR, FrameCutter

SIZE_MAX = 1 << 20
RESERVE = 4096


def size_of(word: int) -> int:
    if word > SIZE_MAX:
        raise InvalidInput(f"a frame of {word} bytes")
    return word


def cutter(
    scratch_size: int = 1000, *, reserve: int = RESERVE, keeps_word: bool = False
) -> FrameCutter[bytearray]:
    scratch = memoryview(bytearray(scratch_size))
    return FrameCutter(scratch, size_of, bytearray, reserve=reserve, keeps_word=keeps_word)


def framed(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def feed(into: FrameCutter[bytearray], data: bytes, steps: Iterable[int]) -> list[bytearray]:
    """What the cutter makes of `data` when each receive gives at most so many bytes."""
    frames: list[bytearray] = []
    position = 0
    for step in steps:
        if position == len(data):
            break
        buffer = into.buffer()
        count = min(step, len(buffer), len(data) - position)
        buffer[:count] = data[position : position + count]
        del buffer
        position += count
        frames += into.received(count)
    assert position == len(data)
    return frames


@settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60) | st.integers(0, 2 * IN_PLACE_MIN), max_size=4),
    steps=st.lists(st.integers(1, 2000), min_size=1, max_size=20),
    scratch=st.integers(8, 3000),
    reserve=st.sampled_from([0, RESERVE, SIZE_MAX]),
    keeps_word=st.booleans(),
)
def test_frames_are_the_same_however_they_are_split(
    sizes: list[int], steps: list[int], scratch: int, reserve: int, keeps_word: bool
) -> None:
    frames = [bytes([index]) * size for index, size in enumerate(sizes)]
    into = cutter(scratch, reserve=reserve, keeps_word=keeps_word)
    data = framed(*frames)
    got = feed(into, data, cycle(steps))
    assert got == [framed(frame) if keeps_word else frame for frame in frames]
    assert into.frame is None


def test_two_connections_share_a_scratch_buffer() -> None:
    """Nothing stays in it, whatever one has begun."""
    scratch = memoryview(bytearray(100))
    one, other = (FrameCutter(scratch, size_of, bytearray, reserve=RESERVE) for _ in range(2))
    first, second = framed(b"a" * 50, b"b" * 70), framed(b"c" * 30, b"d" * 90)
    got: list[list[bytearray]] = [[], []]
    for start in range(0, 130, 7):
        for number, (into, data) in enumerate(((one, first), (other, second))):
            portion = data[start : start + 7]
            into.buffer()[: len(portion)] = portion
            got[number] += into.received(len(portion))
    assert got == [[b"a" * 50, b"b" * 70], [b"c" * 30, b"d" * 90]]


def test_frames_are_writable_and_not_shared() -> None:
    into = cutter()
    data = framed(b"abc", b"abc")
    into.buffer()[: len(data)] = data
    first, second = into.received(len(data))
    first[0] = 0
    assert second == b"abc"


@pytest.mark.parametrize("step", [1, 3, 64])
def test_a_word_that_is_refused_is_refused_before_anything_is_kept(step: int) -> None:
    into = cutter()
    data = framed(b"fine") + (SIZE_MAX + 1).to_bytes(4, "big") + bytes(100)
    with pytest.raises(InvalidInput, match=f"{SIZE_MAX + 1} bytes"):
        feed(into, data, [step] * 200)
    assert into.frame is None


def test_a_word_alone_reserves_little_and_bytes_reserve_by_what_they_are() -> None:
    into = cutter(100_000)
    into.buffer()[:4] = SIZE_MAX.to_bytes(4, "big")
    assert into.received(4) == []
    assert (into.size, into.frame) == (SIZE_MAX, b"")
    arrived = 0
    while arrived < SIZE_MAX:
        count = min(len(into.buffer()), SIZE_MAX - arrived, 1 + arrived)
        arrived += count
        finished = into.received(count)
        assert len(finished) == (arrived == SIZE_MAX)
        if into.frame is not None:
            assert len(into.frame) <= max(RESERVE, RESERVE_FACTOR * (arrived + 1))


def test_the_rest_of_a_large_frame_is_received_where_it_stays() -> None:
    into = cutter(1000)
    data = framed(b"x" * SIZE_MAX)
    into.buffer()[:1000] = data[:1000]
    assert into.received(1000) == []
    assert not into.is_in_place
    frame = into.frame
    buffer = into.buffer()
    assert into.is_in_place and buffer.obj is frame
    del buffer
    position = 1000
    while position < len(data):
        buffer = into.buffer()
        count = min(len(buffer), len(data) - position)
        buffer[:count] = data[position : position + count]
        del buffer
        position += count
        frames = into.received(count)
    assert frames == [b"x" * SIZE_MAX]
    assert frames[0] is frame


def test_who_is_trusted_has_all_of_it_reserved_at_once() -> None:
    into = cutter(reserve=SIZE_MAX)
    into.buffer()[:4] = SIZE_MAX.to_bytes(4, "big")
    assert into.received(4) == []
    assert len(into.buffer()) == SIZE_MAX


def test_less_may_be_received_than_fits() -> None:
    into = cutter(1000)
    assert len(into.buffer(10)) == 10
    assert feed(into, framed(b"small"), [100]) == [b"small"]
    into.buffer()[:5] = SIZE_MAX.to_bytes(4, "big") + b"x"
    into.received(5)
    assert len(into.buffer(10)) > 10, "the rest of what has begun is not meant"


def test_an_unfinished_frame_is_let_go_of() -> None:
    into = cutter()
    into.buffer()[:5] = (100).to_bytes(4, "big") + b"x"
    into.received(5)
    assert into.frame is not None
    into.close()
    assert into.frame is None
