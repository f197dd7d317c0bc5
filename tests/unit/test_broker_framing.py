"""Frames however they arrive, and what an unfinished one may cost."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.broker.framing import (
    IN_PLACE_MIN,
    RESERVE_FACTOR,
    RESERVE_MIN,
    FrameReader,
    ReceiveBudget,
    ReceiveBudgetSpent,
)
from raftlog.broker.strangers import Stranger
from raftlog.errors import InvalidInput

SIZE_MAX = 1 << 20


def reader(scratch_size: int = 1000, budget: ReceiveBudget | None = None) -> FrameReader:
    return FrameReader(memoryview(bytearray(scratch_size)), SIZE_MAX, budget or ReceiveBudget())


def framed(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def feed(into: FrameReader, data: bytes, steps: Iterable[int]) -> list[bytes]:
    """What the reader makes of `data` when each receive gives at most so many bytes."""
    frames: list[bytes] = []
    position = 0
    for step in steps:
        if position == len(data):
            break
        buffer = into.buffer()
        count = min(step, len(buffer), len(data) - position)
        buffer[:count] = data[position : position + count]
        del buffer
        position += count
        frames += map(bytes, into.received(count))
    assert position == len(data)
    return frames


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60) | st.integers(1, 3 * IN_PLACE_MIN), max_size=6),
    steps=st.lists(st.integers(1, 2000), min_size=1, max_size=20),
)
def test_frames_are_the_same_however_they_arrive(sizes: list[int], steps: list[int]) -> None:
    frames = [bytes([index]) * size for index, size in enumerate(sizes)]
    budget = ReceiveBudget()
    into = reader(budget=budget)
    data = framed(*frames)
    assert feed(into, data, steps * (len(data) // sum(steps) + 1000)) == frames
    assert into.is_idle
    assert budget.used == 0


def test_a_frame_byte_by_byte() -> None:
    assert feed(reader(), framed(b"abc", b"d"), [1] * 100) == [b"abc", b"d"]


def test_frames_are_writable_and_not_shared() -> None:
    into = reader()
    data = framed(b"abc", b"abc")
    into.buffer()[: len(data)] = data
    first, second = into.received(len(data))
    first[0] = 0
    assert second == b"abc"


@pytest.mark.parametrize("length", [0, -1, -(2**31), SIZE_MAX + 1, 2**31 - 1])
def test_a_length_out_of_bounds_is_refused(length: int) -> None:
    into = reader()
    into.buffer()[:4] = length.to_bytes(4, "big", signed=True)
    with pytest.raises(InvalidInput, match=f"{length} bytes"):
        into.received(4)


@pytest.mark.parametrize("step", [1, 3, 64])
def test_another_protocol_is_called_by_its_name(step: int) -> None:
    for begins, what in ((b"GET / HTTP/1.1", "an HTTP request"), (b"\x16\x03\x01\0\xc8", "a TLS handshake")):
        with pytest.raises(Stranger, match=what):
            feed(reader(), begins, [step] * 100)


def test_a_length_that_is_allowed_is_a_length_whatever_it_spells() -> None:
    assert feed(reader(), framed(b"GET "), [100]) == [b"GET "]
    large = FrameReader(memoryview(bytearray(1024)), 2**31 - 1, ReceiveBudget())
    large.buffer()[:4] = b"GET "
    assert large.received(4) == []


def test_a_length_alone_reserves_nothing_and_bytes_reserve_by_what_they_are() -> None:
    budget = ReceiveBudget()
    into = reader(100_000, budget)
    into.buffer()[:4] = SIZE_MAX.to_bytes(4, "big")
    assert into.received(4) == []
    assert budget.used == 0
    into.buffer()[:1] = b"x"
    assert into.received(1) == []
    assert budget.used == RESERVE_MIN
    arrived = 1
    while arrived < SIZE_MAX:
        count = min(len(into.buffer()), SIZE_MAX - arrived)
        assert len(into.received(count)) == (arrived + count == SIZE_MAX)
        arrived += count
        assert budget.used <= max(RESERVE_MIN, RESERVE_FACTOR * (arrived + 1))


def test_what_all_unfinished_frames_take_is_bounded() -> None:
    budget = ReceiveBudget(2 * RESERVE_MIN)
    data = SIZE_MAX.to_bytes(4, "big") + b"x"
    readers = [reader(budget=budget) for _ in range(3)]
    for into in readers[:2]:
        into.buffer()[:5] = data
        into.received(5)
    readers[2].buffer()[:5] = data
    with pytest.raises(ReceiveBudgetSpent):
        readers[2].received(5)
    readers[2].close()
    readers[0].close()
    assert budget.used == RESERVE_MIN
    readers[1].close()
    assert budget.used == 0
