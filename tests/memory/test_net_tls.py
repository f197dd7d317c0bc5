"""A stream in TLS: OpenSSL keeps bytes that the kernel knows nothing of, both ways."""

from __future__ import annotations

import hashlib
import random
from contextlib import closing

import pytest
import trio

from raftlog.net.sending import UNBOUNDED, Chunk, SendQueue
from raftlog.net.stream import FileRange
from raftlog.net.tls import FILE_PIECE, RECORD_MAX, _joined, begins_with_tls
from tests.memory.broker_fakes import MemoryFile
from tests.memory.tls_pair import tls_pair

SIZES = (0, 1, 5, 100, 4_000, RECORD_MAX - 1, RECORD_MAX, RECORD_MAX + 1, 70_000, 300_000)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_queued_arrives_as_it_was_however_full_the_socket(seed: int) -> None:
    """Scenario 9: buffers and parts of files, more while some wait, and a reader that comes and goes.
    A record that OpenSSL could not write whole is offered again, and as long, or the connection is dead."""
    rng = random.Random(seed)
    one, other = await tls_pair()
    file, content = MemoryFile(), rng.randbytes(2 * FILE_PIECE + 777)
    file.append(content)
    queue = SendQueue(one, bytes_max=UNBOUNDED)
    expected, received = hashlib.sha256(), hashlib.sha256()
    total, done = 0, trio.Event()

    async def read() -> None:
        buffer, count = memoryview(bytearray(50_000)), 0
        while not done.is_set() or count < total:
            await other.readable()
            try:
                some = other.receive_into(buffer[: rng.choice((1, 17, 5_000, 50_000))])
            except BlockingIOError:
                continue
            received.update(buffer[:some])
            count += some
            if rng.random() < 0.05:
                await trio.sleep(0.002)

    with closing(one), closing(other), trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for _ in range(60):
                chunks: list[Chunk] = []
                for _ in range(rng.randrange(1, 6)):
                    if rng.random() < 0.2:
                        begin = rng.randrange(len(content))
                        part = content[begin : begin + rng.choice((1, 1_000, 2 * FILE_PIECE))]
                        chunks.append(FileRange(file, file.fileno(), begin, len(part)))
                    else:
                        part = rng.randbytes(rng.choice(SIZES))
                        chunks.append(part)
                    expected.update(part)
                    total += len(part)
                queue.add(chunks)
                queue.push()
                if rng.random() < 0.3:
                    await queue.drain()
                await trio.lowlevel.checkpoint()
            await queue.drain()
            done.set()
    assert received.digest() == expected.digest()


@pytest.mark.parametrize("first", [300_000, RECORD_MAX])
@pytest.mark.parametrize("last", [70_000, 100])
def test_what_is_offered_again_is_as_long_though_an_empty_buffer_before_it_has_gone(
    first: int, last: int
) -> None:
    """The queue drops an empty buffer together with the buffer before it. The stream had joined the empty one
    with the buffer behind it, and offered that one alone the next time. The second piece was shorter, and
    OpenSSL broke the connection off (BAD_LENGTH)."""
    buffers = [bytes(first), b"", bytes(RECORD_MAX), bytes(last)]
    offered = [len(piece) for piece in _joined(buffers)]
    again = [len(piece) for piece in _joined(buffers[2:])]
    assert offered[0] == first and offered[1:] == again


async def test_bytes_that_are_decrypted_already_are_readable() -> None:
    """Scenario 10: the kernel has nothing more, and nothing more will come."""
    one, other = await tls_pair()
    with closing(one), closing(other), trio.fail_after(20):
        one.send([bytes(RECORD_MAX)])
        buffer, left = memoryview(bytearray(100)), RECORD_MAX
        while left:
            await other.readable()
            left -= other.receive_into(buffer)


async def test_nothing_is_sent_in_plain_text_after_the_end() -> None:
    one, other = await tls_pair()
    with closing(one), closing(other):
        one.shut_down()
        with pytest.raises(OSError, match="closed here"):
            one.send([b"secret"])
        assert one.receive_into(memoryview(bytearray(10))) == 0
        with pytest.raises(trio.ClosedResourceError):
            await one.readable()


def test_one_byte_says_whether_it_is_tls() -> None:
    assert begins_with_tls(b"\x16") and begins_with_tls(b"\x16\x03\x01")
    assert not begins_with_tls(b"") and not begins_with_tls(b"\0\0\0\x0a")
