"""Requests as they arrive: what they are charged, which wait for room, and who is no client of Kafka."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.broker.framing import SMALL_MAX, RequestReader
from raftlog.broker.strangers import Stranger
from raftlog.errors import InvalidInput
from raftlog.memory import REQUEST_COST, MemoryBudget
from raftlog.net.frames import IN_PLACE_MIN

SIZE_MAX = 1 << 20


def reader(scratch_size: int = 1000, budget: MemoryBudget | None = None) -> RequestReader:
    return RequestReader(memoryview(bytearray(scratch_size)), SIZE_MAX, budget or MemoryBudget(1 << 30))


def framed(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def feed(into: RequestReader, data: bytes, steps: Iterable[int]) -> list[bytes]:
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
        if into.wants_room:
            into.admit()
    assert position == len(data)
    return frames


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60) | st.integers(1, 2 * IN_PLACE_MIN), max_size=4),
    steps=st.lists(st.integers(1, 2000), min_size=1, max_size=20),
)
def test_frames_are_the_same_however_they_arrive(sizes: list[int], steps: list[int]) -> None:
    frames = [bytes([index]) * size for index, size in enumerate(sizes)]
    budget = MemoryBudget(1 << 30)
    into = reader(budget=budget)
    data = framed(*frames)
    assert feed(into, data, cycle(steps)) == frames
    assert not into.wants_room and not into.is_unfinished
    assert (budget.requests, budget.kept) == (0, 0), "nobody holds the frames any more"


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
    large = RequestReader(memoryview(bytearray(1024)), 2**31 - 1, MemoryBudget(1 << 30))
    large.buffer()[:4] = b"GET "
    assert large.received(4) == []


def begin(budget: MemoryBudget, size: int) -> RequestReader:
    into = reader(100_000, budget)
    into.buffer()[:5] = size.to_bytes(4, "big") + b"x"
    assert into.received(5) == []
    return into


def test_a_large_frame_asks_for_room_and_a_small_one_does_not() -> None:
    budget = MemoryBudget(4 * SIZE_MAX)
    small, large = begin(budget, SMALL_MAX), begin(budget, SMALL_MAX + 1)
    assert (small.wants_room, large.wants_room) == (False, True)
    assert budget.requests == 0
    large.admit()
    assert not large.wants_room and large.is_unfinished
    assert budget.requests == SMALL_MAX + 1 + REQUEST_COST
    large.close()
    assert budget.requests == 0


def test_while_there_is_no_room_little_is_received_at_once() -> None:
    budget = MemoryBudget(4 * SIZE_MAX)
    hog = begin(budget, SIZE_MAX)
    other = reader(100_000, budget)
    assert len(other.buffer()) == 100_000
    hog.admit()
    assert not budget.has_room
    assert len(other.buffer()) == SMALL_MAX
    assert feed(other, framed(b"heartbeat"), [100]) == [b"heartbeat"]
    hog.close()
    assert len(other.buffer()) == 100_000
