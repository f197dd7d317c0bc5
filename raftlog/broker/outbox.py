"""The sending half of a connection: answers in the order of their requests, never waiting for the reader.

An answer is sent from where it is completed (a handler, or the Raft driver's turn) with one non-blocking
call. When others of the same connection are about to follow, as with pipelined Produce, it waits until this
round of the event loop is over, and they go out together. When the socket is full a task takes over. So a
reader that is slow costs its own connection memory, bounded by what `Connection` lets in, and nobody else
time.

Invariant: answers leave in the order in which their slots were opened.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from raftlog.memory import Frame, MemoryBudget
from raftlog.storage.disk import File

Buffer = bytes | bytearray | memoryview

IOV_MAX: Final = 512
"""Chunks given to one sendmsg; Linux takes 1024."""
SENDFILE_MAX: Final = 1 << 20
"""Bytes of a file given to one sendmsg: as much as is known to be in the page cache."""


class FileRange:
    """Bytes of a file, sent without passing through Python. `file` is kept open by being referred to."""

    __slots__ = ("file", "fileno", "length", "position")

    def __init__(self, file: File, fileno: int, position: int, length: int) -> None:
        self.file = file
        self.fileno = fileno
        self.position = position
        self.length = length

    def __len__(self) -> int:
        return self.length

    @property
    def is_cold(self) -> bool:
        """Whether sending what comes next would wait for the disk."""
        return not self.file.is_cached(min(self.length, SENDFILE_MAX), self.position)

    def warm(self) -> None:
        """Read what comes next, in a thread; what cannot be read, sending meets."""
        try:
            self.file.pread(min(self.length, SENDFILE_MAX), self.position)
        except OSError:
            pass


Chunk = Buffer | FileRange


class Slot:
    """An answer's place in the order. `deadline` is when to give up on it (trio's clock)."""

    __slots__ = ("chunks", "deadline", "on_deadline", "request")

    def __init__(self, request: Frame) -> None:
        self.request: Frame | None = request
        self.chunks: Sequence[Chunk] | None = None
        self.deadline = float("inf")
        self.on_deadline: Callable[[], None] | None = None


class Outbox:
    """Slots that wait for their answer, and bytes that wait for the socket."""

    def __init__(
        self,
        sock: socket.socket,
        memory: MemoryBudget,
        *,
        flush_soon: Callable[[Outbox], None],
        spawn_drain: Callable[[Outbox], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        """`flush_soon` has `flush` called in the next round of the event loop, `spawn_drain` starts a task
        that runs `drain`, `on_broken` is told what ended it."""
        self._sock = sock
        self._memory = memory
        self._charged = 0
        self._flush_soon = flush_soon
        self._spawn_drain = spawn_drain
        self._on_broken = on_broken
        self._flushing = False
        self._slots: deque[Slot] = deque()
        self._unsent: deque[Chunk] = deque()
        self._draining = False
        self._changed: trio.Event | None = None
        self.is_broken = False
        self.request_bytes = 0
        """Bytes of the requests that have no answer yet."""
        self.bytes_sent = 0

    def __repr__(self) -> str:
        return f"<Outbox {len(self._slots)} unanswered, {len(self._unsent)} chunks unsent>"

    @property
    def unanswered(self) -> int:
        """Requests that have no answer yet."""
        return len(self._slots)

    @property
    def has_unsent(self) -> bool:
        """Whether the client has yet to take bytes."""
        return bool(self._unsent)

    @property
    def is_settled(self) -> bool:
        """Whether every request is answered and every answer is with the kernel."""
        return not self._slots and not self._unsent

    def open(self, request: Frame) -> Slot:
        """The next answer's place."""
        slot = Slot(request)
        self._slots.append(slot)
        self.request_bytes += len(request)
        return slot

    def complete(self, slot: Slot, chunks: Sequence[Chunk]) -> None:
        """The slot's answer, sent as soon as those before it are; no chunks means that it has none.

        Called from anywhere in the event loop's thread; raises nothing. A second answer is ignored: it is
        that of a request that was given up on.
        """
        if slot.chunks is not None or self.is_broken:
            return
        slot.chunks = chunks
        slot.on_deadline = None  # it refers to the request, and so to the frame: let that go now
        if self._slots and self._slots[0] is slot:
            while self._slots and (ready := self._slots[0].chunks) is not None:
                self._end(self._slots.popleft())
                self._unsent.extend(ready)
            if not self._slots:
                self.flush()
            elif not self._flushing:
                self._flushing = True
                self._flush_soon(self)
            self._wake()

    def flush(self) -> None:
        """Send what is unsent, unless a task is at it."""
        self._flushing = False
        if self._unsent and not self._draining:
            self._push()

    async def settled(self) -> None:
        """Wait until every request is answered and every answer is with the kernel, or nothing can be."""
        while not self.is_settled and not self.is_broken:
            await self._next_change()

    async def room(self, requests_max: int, bytes_max: int) -> None:
        """Wait until fewer requests than that are unanswered and the socket takes bytes."""
        while not self.is_broken and (
            len(self._slots) >= requests_max or self.request_bytes >= bytes_max or self._draining
        ):
            await self._next_change()

    async def drain(self) -> None:
        """Send what is unsent as the socket takes it; ends when nothing is left."""
        try:
            while self._unsent and not self.is_broken:
                await trio.lowlevel.wait_writable(self._sock)
                first = self._unsent[0] if self._unsent else b""
                if isinstance(first, FileRange) and first.is_cold:  # the client was slow to take it
                    await trio.to_thread.run_sync(first.warm, abandon_on_cancel=True)
                self._try_send()
        except (OSError, trio.ClosedResourceError, ValueError) as error:
            self._break(error)
        finally:
            self._draining = False
            self._charge(0)
            self._wake()

    def expire(self, now: float) -> None:
        """Give up on answers that are overdue: each says what to answer instead."""
        for slot in list(self._slots):
            if slot.deadline <= now and slot.chunks is None and slot.on_deadline is not None:
                slot.deadline = float("inf")
                slot.on_deadline()

    def close(self) -> None:
        """Forget everything that is unsent, and whom to tell: who owns this would be a cycle with it, and the
        collector that finds those comes seldom."""
        self.is_broken = True
        self._on_broken = _tell_nobody
        for slot in self._slots:
            slot.on_deadline = None
            self._end(slot)
        self._charge(0)
        self._unsent.clear()
        self._slots.clear()
        self._wake()

    def _end(self, slot: Slot) -> None:
        """The request has its answer, or will have none."""
        request, slot.request = slot.request, None
        if request is not None:
            self.request_bytes -= len(request)
            request.answered()

    def _charge(self, size: int) -> None:
        """What the client is slow to take, in memory."""
        self._memory.answers += size - self._charged
        self._charged = size

    def _push(self) -> None:
        try:
            self._try_send()
        except OSError as error:
            self._break(error)
            return
        if self._unsent:
            self._draining = True
            self._charge(sum(len(chunk) for chunk in self._unsent if not isinstance(chunk, FileRange)))
            self._spawn_drain(self)

    def _try_send(self) -> None:
        """Send until everything is sent or the socket is full; raises OSError when it is broken."""
        unsent = self._unsent
        try:
            while unsent:
                first = unsent[0]
                if isinstance(first, FileRange):
                    sent = os.sendfile(
                        self._sock.fileno(), first.fileno, first.position, min(first.length, SENDFILE_MAX)
                    )
                    if sent == 0:
                        raise OSError("a segment is shorter than it was")
                    self.bytes_sent += sent
                    first.position += sent
                    first.length -= sent
                    if first.length == 0:
                        unsent.popleft()
                elif len(unsent) == 1:
                    sent = self._sock.send(first)
                    self.bytes_sent += sent
                    if sent == len(first):
                        unsent.popleft()
                    else:
                        unsent[0] = memoryview(first)[sent:]
                else:
                    self._send_gathered()
        except BlockingIOError:
            pass

    def _send_gathered(self) -> None:
        unsent = self._unsent
        buffers: list[Buffer] = []
        for chunk in unsent:
            if isinstance(chunk, FileRange) or len(buffers) == IOV_MAX:
                break
            buffers.append(chunk)
        sent = self._sock.sendmsg(buffers)
        self.bytes_sent += sent
        for buffer in buffers:
            if sent < len(buffer):
                unsent[0] = memoryview(buffer)[sent:]
                return
            sent -= len(buffer)
            unsent.popleft()

    def _break(self, error: Exception) -> None:
        on_broken = self._on_broken
        self.close()
        on_broken(error)

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def _next_change(self) -> None:
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()


def _tell_nobody(error: Exception) -> None:
    """What breaks after the end has no owner any more."""
