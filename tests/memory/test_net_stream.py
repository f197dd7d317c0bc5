"""What is said of every stream: held against the system's sockets, and against the one that tests use."""

from __future__ import annotations

import inspect
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from typing import TypeAlias

import pytest
import trio
import trio.testing

from raftlog.net.dialing import open_socket
from raftlog.net.stream import IOV_MAX, FileRange, PlainStream, Stream, receive_exactly, send_all
from raftlog.net.tls import TlsStream
from tests.memory.broker_fakes import MemoryFile
from tests.memory.memory_stream import MemoryStream
from tests.memory.tls_pair import tls_pair

Pair: TypeAlias = tuple[Stream, Stream]


def tcp() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return PlainStream(one), PlainStream(other)


def unix() -> Pair:
    one, other = socket.socketpair()
    return PlainStream(one), PlainStream(other)


@pytest.fixture(params=[tcp, unix, MemoryStream.pair, tls_pair], ids=["tcp", "unix", "memory", "tls"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    made = request.param()
    one, other = await made if inspect.isawaitable(made) else made
    with closing(one), closing(other):
        yield one, other


async def receive(stream: Stream, size: int) -> bytes:
    data = bytearray(size)
    assert await receive_exactly(stream, memoryview(data))
    return bytes(data)


async def test_buffers_arrive_one_behind_the_other(pair: Pair) -> None:
    one, other = pair
    assert one.send([b"ab", bytearray(b""), memoryview(b"cde")]) == 5
    assert await receive(other, 5) == b"abcde"


async def test_one_buffer_arrives(pair: Pair) -> None:
    one, other = pair
    assert one.send([b"alone"]) == 5
    assert await receive(other, 5) == b"alone"


async def test_nothing_has_come_yet(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        pair[0].receive_into(memoryview(bytearray(10)))


async def test_more_buffers_than_the_system_takes_at_once_are_taken_in_part(pair: Pair) -> None:
    one, other = pair
    buffers = [b"%d," % (number % 7) for number in range(2 * IOV_MAX)]
    sent = one.send(buffers)
    assert sent == len(buffers) * 2 if isinstance(one, TlsStream) else 0 < sent < len(buffers) * 2
    assert await receive(other, sent) == b"".join(buffers)[:sent]


async def test_a_full_stream_says_so_and_takes_more_once_it_was_read(pair: Pair) -> None:
    one, other = pair
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += one.send([bytes(100_000), bytes(1)])
    with trio.move_on_after(0.05) as scope:
        await one.writable()
    assert scope.cancelled_caught
    await receive(other, sent)
    with trio.fail_after(5):
        await one.writable()
    assert one.send([bytes(100_000), bytes(1), b"more"]) > 0


async def test_a_file_goes_from_where_the_range_begins(pair: Pair) -> None:
    one, other = pair
    file = MemoryFile()
    file.append(b"0123456789")
    part = FileRange(file, file.fileno(), 3, 5)
    assert one.send_file(part) == 5
    assert (part.position, part.length) == (3, 5), "the range is the caller's to move on"
    assert await receive(other, 5) == b"34567"


async def test_a_file_that_ends_too_early_is_an_error(pair: Pair) -> None:
    file = MemoryFile()
    file.append(b"abc")
    with pytest.raises(OSError, match="shorter"):
        pair[0].send_file(FileRange(file, file.fileno(), 3, 5))


async def test_the_end_comes_behind_what_was_sent(pair: Pair) -> None:
    one, other = pair
    one.send([b"last"])
    one.shut_down()
    assert await receive(other, 4) == b"last"
    await other.readable()
    assert other.receive_into(memoryview(bytearray(10))) == 0
    assert not await receive_exactly(other, memoryview(bytearray(1)))


@pytest.mark.parametrize("how", ["shut_down", "close"])
async def test_who_waits_is_told_that_it_was_closed_here(pair: Pair, how: str) -> None:
    one, _ = pair
    told = False

    async def wait() -> None:
        nonlocal told
        with pytest.raises(trio.ClosedResourceError):
            await one.readable()
        told = True

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            getattr(one, how)()
    assert told
    one.shut_down()
    one.close()


async def test_all_of_it_is_sent_however_slowly_it_is_read(pair: Pair) -> None:
    one, other = pair
    data = bytes(range(256)) * 4000
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, one, data)
            assert await receive(other, len(data)) == data


async def test_a_dialled_socket_is_one_of_the_system(nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listeners[0].socket.getsockname()[:2]
    with closing(PlainStream(await open_socket(host, port))) as stream:
        accepted = await listeners[0].accept()
        assert stream.peer_host == "127.0.0.1"
        stream.send([b"hello"])
        assert await accepted.receive_some() == b"hello"
        await accepted.aclose()
    assert stream.peer_host == "somebody who has gone"
    await listeners[0].aclose()
