"""What a broker holds in memory for its clients, in bytes, over all connections and partitions together.

Three accounts with a quarter of the whole each, so that the sum stays below it whatever happens:
*requests* are being received, or have no answer yet; *kept* is what logs still hold of requests that were
answered, because no majority or no disk has taken it; *answers* wait for clients that do not read. The last
quarter is for what may be let in at once when an account is all but full, and for what a request costs beside
its bytes. Logs remember committed batches for followers that are a little behind: they give way before *kept*
is full, so that only what no majority has taken can fill it. Plain and synchronous: who has to wait gives a
callback.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

REQUEST_COST: Final = 2048
"""Bytes of objects that a request costs until it is answered, however small it is."""
WOKEN_AT_ONCE_MAX: Final = 64
"""Of those that wait for room; the next go with the next bytes that are given back."""


class MemoryBudget:
    """The accounts of one broker."""

    __slots__ = ("_waiting", "answers", "forget_some", "kept", "requests", "share")

    def __init__(self, bytes_max: int) -> None:
        self.share = bytes_max // 4
        self.requests = 0
        self.kept = 0
        self.answers = 0
        self.forget_some: Callable[[], bool] = lambda: False
        """Has the logs let go of some bytes that they could read from the disk again. False when there are
        none. Whoever owns the logs sets it."""
        self._waiting: deque[Callable[[], None]] = deque()

    def __repr__(self) -> str:
        return (
            f"<MemoryBudget {self.share} each: {self.requests} requests, {self.kept} kept,"
            f" {self.answers} answers>"
        )

    @property
    def has_room(self) -> bool:
        """Whether a large request may be received: one more of any size while the account is not full."""
        return self.requests < self.share

    @property
    def keeps_too_much(self) -> bool:
        """Whether batches should be refused rather than appended to logs that cannot let go of them."""
        return self.kept >= self.share

    def keep(self, size: int) -> None:
        """Logs hold bytes of a request that was answered."""
        self.kept += size
        if self.kept > self.share // 4 * 3:
            while self.kept > self.share // 2 and self.forget_some():
                pass

    @property
    def room_for_answers(self) -> int:
        """Bytes that an answer may have, beyond what it must."""
        return max(0, self.share - self.answers)

    @property
    def is_waited_for(self) -> bool:
        return bool(self._waiting)

    def when_room(self, then: Callable[[], None]) -> None:
        """Call `then` when it is worth looking at `has_room` again."""
        self._waiting.append(then)

    def give_back(self, requests: int) -> None:
        """Requests were answered, or given up."""
        self.requests -= requests
        if self._waiting:
            self.wake()

    def wake(self) -> None:
        """Let some of those that wait look again, the oldest first."""
        for _ in range(min(WOKEN_AT_ONCE_MAX, len(self._waiting)) if self.has_room else 0):
            self._waiting.popleft()()


class Frame(bytearray):
    """A request's bytes, charged to the budget for as long as anything refers to them: a connection, a
    handler, or a log that holds a batch of it. So no charge is forgotten, whatever way a request goes."""

    __slots__ = ("_budget", "_charge", "_is_answered")

    def __init__(self, budget: MemoryBudget, data: bytes | memoryview | int = b"") -> None:
        super().__init__(data)
        self._budget = budget
        self._charge = 0
        self._is_answered = False

    @property
    def is_admitted(self) -> bool:
        """Whether it has been charged."""
        return self._charge > 0

    def admit(self, size: int) -> None:
        """Charge a request of `size` bytes, received or not."""
        self._charge = size + REQUEST_COST
        self._budget.requests += self._charge

    def answered(self) -> None:
        """The client has its answer. Whatever holds the bytes from now on keeps them."""
        if not self._is_answered:
            self._is_answered = True
            self._budget.give_back(self._charge)
            self._budget.keep(self._charge)

    def part(self, data: memoryview) -> Frame | None:
        """A copy of `data`, a part of this frame, charged for itself; None where nothing is gained: the
        request has no answer yet, and holds all of its bytes, or there is not much more in it."""
        if not self._is_answered or 2 * len(data) + REQUEST_COST > len(self):
            return None
        copy = Frame(self._budget, data)
        copy._is_answered, copy._charge = True, len(data)
        self._budget.keep(len(data))
        return copy

    def discharge(self) -> None:
        """Charge nothing any more: the request has been decoded, and its bytes are about to go."""
        if self._is_answered:
            self._budget.kept -= self._charge
        elif self._charge:
            self._budget.give_back(self._charge)
        self._charge = 0

    def __del__(self) -> None:
        self.discharge()


def apart(payload: object) -> memoryview | None:
    """The same bytes without the rest of the large request that they came in; None where they need not be
    copied. A request of many partitions is answered when the producer's patience ends; one partition that
    has no majority would go on holding all of it."""
    if not isinstance(payload, memoryview) or not isinstance(payload.obj, Frame):
        return None
    copy = payload.obj.part(payload)
    return None if copy is None else memoryview(copy)
