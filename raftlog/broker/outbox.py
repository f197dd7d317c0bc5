"""The sending half of a connection: answers in the order of their requests, never waiting for the reader.

An answer is sent from where it is completed (a handler, or the Raft driver's turn) with one non-blocking
call. When others of the same connection are about to follow, as with pipelined Produce, it waits until this
round of the event loop is over, and they go out together. When the socket is full a task takes over. So a
reader that is slow costs its own connection memory, bounded by what `Connection` lets in, and nobody else
time.

Invariant: answers leave in the order in which their slots were opened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from raftlog.memory import Frame, MemoryBudget
from raftlog.net.sending import Chunk, SendQueue
from raftlog.net.stream import Stream

UNSENT_BYTES_MAX: Final = 256 << 20
"""Bytes of answers in memory behind the first that is not sent. What `Connection` lets in comes nowhere near
it; beyond it the connection is closed."""


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
        stream: Stream,
        memory: MemoryBudget,
        *,
        flush_soon: Callable[[Outbox], None],
        spawn_drain: Callable[[Outbox], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        """`flush_soon` has `flush` called in the next round of the event loop, `spawn_drain` starts a task
        that runs `drain`, `on_broken` is told what ended it."""
        self._queue = SendQueue(stream, bytes_max=UNSENT_BYTES_MAX)
        self._memory = memory
        self._charged = 0
        self._flush_soon = flush_soon
        self._spawn_drain = spawn_drain
        self._on_broken = on_broken
        self._flushing = False
        self._slots: deque[Slot] = deque()
        self._draining = False
        self._changed: trio.Event | None = None
        self.is_broken = False
        self.request_bytes = 0
        """Bytes of the requests that have no answer yet."""

    def __repr__(self) -> str:
        return f"<Outbox {len(self._slots)} unanswered, {self._queue!r}>"

    @property
    def unanswered(self) -> int:
        """Requests that have no answer yet."""
        return len(self._slots)

    @property
    def has_unsent(self) -> bool:
        """Whether the client has yet to take bytes."""
        return bool(self._queue.waiting)

    @property
    def bytes_sent(self) -> int:
        """Bytes that the client's socket took."""
        return self._queue.bytes_sent

    @property
    def is_settled(self) -> bool:
        """Whether every request is answered and every answer is with the kernel."""
        return not self._slots and not self._queue.waiting

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
                if not self._queue.add(ready):
                    self._break(OSError(f"it takes no answers: {self._queue!r}"))
                    return
            if not self._slots:
                self.flush()
            elif not self._flushing:
                self._flushing = True
                self._flush_soon(self)
            self._wake()

    def flush(self) -> None:
        """Send what is unsent, unless a task is at it."""
        self._flushing = False
        if not self._queue.waiting or self._draining:
            return
        try:
            self._queue.push()
        except OSError as error:
            self._break(error)
            return
        if self._queue.waiting:
            self._draining = True
            self._charge(self._queue.bytes_waiting)
            self._spawn_drain(self)

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
            await self._queue.drain()
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
        self._queue.clear()
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
