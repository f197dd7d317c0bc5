"""The send queue: order, bounds, and what a slow reader costs."""

from __future__ import annotations

import random
from collections import deque

import pytest
import trio
import trio.testing

from raftlog.net.sending import PUSHED_AT_ONCE_MAX, UNBOUNDED, Chunk, SendQueue
from raftlog.net.stream import IOV_MAX, FileRange
from tests.memory.broker_fakes import MemoryFile
from tests.memory.memory_stream import MemoryStream


def queue_of(capacity: int, bytes_max: float = UNBOUNDED) -> tuple[SendQueue, MemoryStream, MemoryStream]:
    ours, theirs = MemoryStream.pair(capacity)
    return SendQueue(ours, bytes_max=bytes_max), ours, theirs


def receive(theirs: MemoryStream, size: int = 1 << 20) -> bytes:
    buffer = bytearray(size)
    try:
        return bytes(buffer[: theirs.receive_into(memoryview(buffer))])
    except BlockingIOError:
        return b""


async def receive_all(theirs: MemoryStream, size: int, portion: int = 1 << 20) -> bytes:
    data = b""
    while len(data) < size:
        await theirs.readable()
        data += receive(theirs, portion)
    return data


async def test_what_fits_leaves_at_once_in_one_call() -> None:
    queue, ours, theirs = queue_of(100)
    assert queue.send([b"one", b"two"])
    assert not queue.waiting and ours.calls == 1
    assert receive(theirs) == b"onetwo"


async def test_what_does_not_fit_waits_and_keeps_its_order() -> None:
    queue, _, theirs = queue_of(5)
    assert queue.send([b"abc", b"defg"])
    assert queue.waiting and queue.bytes_waiting == 2
    assert queue.send([b"hij"])
    assert queue.bytes_waiting == 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.drain)
        assert await receive_all(theirs, 10, 3) == b"abcdefghij"
    assert not queue.waiting
    assert (queue.bytes_waiting, queue.bytes_sent) == (0, 10)


async def test_what_was_not_taken_is_offered_first_again() -> None:
    """A stream that encrypts has made a record of it already."""
    queue, ours, theirs = queue_of(4)
    data = b"abcdefghijk"
    queue.send([data[:6], data[6:8]])
    queue.add([data[8:]])
    while queue.waiting:
        receive(theirs)
        queue.push()
    assert len(ours.offered) > 3
    assert all(data[taken:].startswith(offer) for taken, offer in ours.offered)


async def test_a_full_queue_takes_nothing_and_an_empty_one_anything() -> None:
    queue, _, theirs = queue_of(10, bytes_max=20)
    assert queue.send([bytes(100)]), "more than the bound, but nothing waited"
    assert not queue.send([b"x"])
    assert not queue.add([b"x"])
    assert queue.bytes_waiting == 90
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.drain)
        assert await receive_all(theirs, 100) == bytes(100)
    assert queue.add([bytes(15)]) and queue.add([bytes(5)])
    assert not queue.add([b"x"])


async def test_a_files_bytes_do_not_count_as_memory() -> None:
    queue, _, theirs = queue_of(10, bytes_max=20)
    file = MemoryFile()
    file.append(bytes(range(250)))
    assert queue.add([b"head", FileRange(file, file.fileno(), 1, 200), b"tail"])
    assert queue.bytes_waiting == 8
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.drain)
        assert await receive_all(theirs, 208) == b"head" + file.pread(200, 1) + b"tail"
    assert (queue.bytes_waiting, queue.bytes_sent) == (0, 208)


async def test_many_buffers_and_many_bytes_at_once() -> None:
    """Both limits of a push: the system's on buffers, ours on bytes before others get a turn."""
    piece = bytes(3000)
    count = PUSHED_AT_ONCE_MAX // len(piece) + 2 * IOV_MAX
    queue, ours, theirs = queue_of(1 << 30)
    assert queue.add([piece] * count)
    queue.push()
    assert max(len(offer) for _, offer in ours.offered) == IOV_MAX * len(piece)
    assert PUSHED_AT_ONCE_MAX <= queue.bytes_sent < PUSHED_AT_ONCE_MAX + IOV_MAX * len(piece)
    assert queue.waiting, "others get a turn"
    await queue.drain()
    assert queue.bytes_sent == count * len(piece) == len(ours.sent)
    assert theirs is not ours


async def test_refill_is_asked_when_nothing_else_waits_and_not_before() -> None:
    ours, theirs = MemoryStream.pair(4)
    urgent = deque([[b"AB"], [b"CD"], [b"EF"]])
    queue = SendQueue(ours, bytes_max=UNBOUNDED, refill=lambda: urgent.popleft() if urgent else [])
    queue.push()
    assert len(urgent) == 0 and queue.waiting, "the last waits for the stream"
    urgent.append([b"GH"])
    queue.push()
    assert len(urgent) == 1, "something may still pass it"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.drain)
        assert await receive_all(theirs, 8) == b"ABCDEFGH"
    assert not queue.waiting and not urgent


async def test_what_refill_has_left_is_known_when_others_get_a_turn() -> None:
    ours, _ = MemoryStream.pair(1 << 30)
    left = [bytes(PUSHED_AT_ONCE_MAX), b"rest"]
    queue = SendQueue(ours, bytes_max=UNBOUNDED, refill=lambda: [left.pop(0)] if left else [])
    queue.push()
    assert queue.waiting, "or nobody would drain it"
    await queue.drain()
    assert not queue.waiting and ours.sent.endswith(b"rest")


@pytest.mark.parametrize("seed", range(10))
async def test_random_chunks_through_a_narrow_stream(seed: int) -> None:
    rng = random.Random(seed)
    file = MemoryFile()
    file.append(rng.randbytes(5000))
    queue, _, theirs = queue_of(rng.choice([1, 7, 100, 4096]))
    wanted = b""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                chunks: list[Chunk] = []
                for _ in range(rng.randrange(5)):
                    if rng.random() < 0.3:
                        position, size = rng.randrange(4000), rng.randrange(1, 900)
                        chunks.append(FileRange(file, file.fileno(), position, size))
                        wanted += file.pread(size, position)
                    else:
                        data = rng.randbytes(rng.choice([0, 1, 50, 3000]))
                        chunks.append(rng.choice([bytes, bytearray, memoryview])(data))
                        wanted += data
                assert queue.add(chunks)
            nursery.start_soon(queue.drain)
            received = await receive_all(theirs, len(wanted), rng.choice([3, 500, 1 << 20]))
    assert received == wanted
    assert (queue.bytes_waiting, queue.bytes_sent) == (0, len(wanted))


async def test_a_broken_stream_raises_and_a_cleared_queue_is_empty() -> None:
    queue, _, theirs = queue_of(4)
    queue.send([bytes(10)])
    theirs.close()
    with pytest.raises(BrokenPipeError):
        queue.push()
    with pytest.raises(BrokenPipeError):
        await queue.drain()
    queue.clear()
    assert not queue.waiting and queue.bytes_waiting == 0


async def test_a_message_to_a_stream_that_broke_raises() -> None:
    queue, _, theirs = queue_of(4)
    theirs.close()
    with pytest.raises(BrokenPipeError):
        queue.send([b"x"])
