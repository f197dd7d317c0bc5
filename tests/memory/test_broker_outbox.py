"""Answers in order, whole, from memory and files, into sockets that are full, or gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import cast

import pytest
import trio

from raftlog.broker.outbox import UNSENT_BYTES_MAX, Outbox
from raftlog.memory import Frame, MemoryBudget
from raftlog.net.stream import FileRange, PlainStream
from raftlog.storage.disk import File
from tests.memory.broker_fakes import MemoryFile


def request(size: int) -> Frame:
    return Frame(MemoryBudget(1 << 20), bytes(size))


class Ends:
    """An outbox, the socket's other end, and what the outbox asked for."""

    def __init__(self, nursery: trio.Nursery, send_buffer: int | None = None) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        if send_buffer is not None:
            self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.to_flush: list[Outbox] = []
        self.drains = 0
        self.broken: list[Exception] = []
        self._nursery = nursery
        self.memory = MemoryBudget(1 << 30)
        self.outbox = Outbox(
            PlainStream(self.ours),
            self.memory,
            flush_soon=self.to_flush.append,
            spawn_drain=self._drain,
            on_broken=self.broken.append,
        )

    def _drain(self, outbox: Outbox) -> None:
        self.drains += 1
        self._nursery.start_soon(self.outbox.drain)

    def received(self) -> bytes:
        try:
            return self.theirs.recv(1 << 20)
        except BlockingIOError:
            return b""

    async def received_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            await trio.lowlevel.wait_readable(self.theirs)
            data += self.received()
        return data

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def ends(nursery: trio.Nursery) -> Iterator[Ends]:
    made = Ends(nursery)
    yield made
    made.close()


async def test_an_answer_leaves_at_once(ends: Ends) -> None:
    ends.outbox.complete(ends.outbox.open(request(10)), [b"one", b"two"])
    assert ends.received() == b"onetwo"
    assert ends.outbox.is_settled
    assert ends.outbox.request_bytes == 0


async def test_answers_wait_for_those_before_them(ends: Ends) -> None:
    first, second, third = (ends.outbox.open(request(1)) for _ in range(3))
    ends.outbox.complete(third, [b"3"])
    ends.outbox.complete(second, [b"2"])
    assert ends.received() == b""
    ends.outbox.complete(first, [b"1"])
    assert ends.received() == b"123"


async def test_answers_that_come_together_leave_together(ends: Ends) -> None:
    first, second, _ = (ends.outbox.open(request(1)) for _ in range(3))
    ends.outbox.complete(first, [b"1"])
    ends.outbox.complete(second, [b"2"])
    assert ends.received() == b""
    assert ends.to_flush == [ends.outbox]
    ends.outbox.flush()
    assert ends.received() == b"12"


async def test_the_second_answer_of_a_request_is_ignored(ends: Ends) -> None:
    slot = ends.outbox.open(request(1))
    ends.outbox.complete(slot, [b"first"])
    ends.outbox.complete(slot, [b"second"])
    assert ends.received() == b"first"


async def test_no_answer_is_an_answer(ends: Ends) -> None:
    first, second = ends.outbox.open(request(1)), ends.outbox.open(request(1))
    ends.outbox.complete(first, [])
    ends.outbox.complete(second, [b"2"])
    assert ends.received() == b"2"


async def test_files_and_memory_keep_their_order_when_the_socket_is_full(nursery: trio.Nursery) -> None:
    ends = Ends(nursery, send_buffer=4096)
    file = MemoryFile()
    file.append(bytes(range(256)) * 1000)
    wanted = b""
    for index in range(20):
        size = 1 + index * 5000
        chunks = [
            b"head%d" % index,
            FileRange(file, file.fileno(), index, size),
            bytearray(b"tail") * index * 400,
            b"",
        ]
        ends.outbox.complete(ends.outbox.open(request(1)), chunks)
        wanted += b"head%d" % index + file.pread(size, index) + b"tail" * index * 400
    del file, chunks  # the ranges keep it open
    with trio.fail_after(5):
        assert await ends.received_exactly(len(wanted)) == wanted
        await ends.outbox.settled()
    assert ends.drains == 1
    assert ends.outbox.bytes_sent == len(wanted)
    ends.close()


async def test_what_has_left_the_page_cache_is_read_in_a_thread(nursery: trio.Nursery) -> None:
    ends = Ends(nursery, send_buffer=4096)
    file = MemoryFile()
    file.append(bytes(range(256)) * 4000)
    file.is_cold = True
    size = 1_000_000
    ends.outbox.complete(
        ends.outbox.open(request(1)), [FileRange(cast("File", file), file.fileno(), 5, size)]
    )
    with trio.fail_after(20):
        assert await ends.received_exactly(size) == file.pread(size, 5)
    assert file.readers - {threading.get_ident()}
    ends.close()


async def test_a_socket_that_is_gone_ends_it_once(ends: Ends) -> None:
    ends.theirs.close()
    first, second = ends.outbox.open(request(1)), ends.outbox.open(request(1))
    ends.outbox.complete(second, [b"x"])
    ends.outbox.complete(first, [b"x"])
    assert len(ends.broken) == 1
    with trio.fail_after(1):
        await ends.outbox.settled()
        await ends.outbox.room(1, 1)
    ends.outbox.complete(first, [b"x"])
    assert len(ends.broken) == 1


async def test_a_client_that_takes_nothing_is_given_up_at_the_bound(ends: Ends) -> None:
    """`Connection` stops before; whoever else opens slots meets it."""
    large = bytes(UNSENT_BYTES_MAX // 4)
    for number in range(3):
        ends.outbox.complete(ends.outbox.open(request(1)), [large, large] if number == 0 else [large])
    assert not ends.broken
    slots = [ends.outbox.open(request(1)) for _ in range(2)]
    ends.outbox.complete(slots[0], [large])
    assert len(ends.broken) == 1 and "takes no answers" in str(ends.broken[0])
    assert ends.outbox.is_settled and ends.outbox.is_broken
    assert ends.outbox.request_bytes == 0
    ends.outbox.complete(slots[1], [b"late"])


async def test_a_file_that_is_shorter_than_promised_ends_it(ends: Ends) -> None:
    """The length has been told already: there is no other way out."""
    file = MemoryFile()
    file.append(b"abc")
    ends.outbox.complete(ends.outbox.open(request(1)), [FileRange(file, file.fileno(), 0, 10)])
    assert ends.broken


async def test_room_is_waited_for(ends: Ends, nursery: trio.Nursery) -> None:
    slots = [ends.outbox.open(request(100)) for _ in range(3)]
    done = trio.Event()

    async def wait() -> None:
        await ends.outbox.room(requests_max=3, bytes_max=250)
        done.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert not done.is_set()
    ends.outbox.complete(slots[0], [b"x"])
    await trio.testing.wait_all_tasks_blocked()
    assert done.is_set()


async def test_overdue_answers_are_given_up_on(ends: Ends) -> None:
    late, in_time = ends.outbox.open(request(1)), ends.outbox.open(request(1))
    given_up: list[str] = []
    late.deadline, late.on_deadline = 5.0, lambda: given_up.append("late")
    in_time.deadline, in_time.on_deadline = 15.0, lambda: given_up.append("in time")
    ends.outbox.expire(10.0)
    ends.outbox.expire(11.0)
    assert given_up == ["late"]
