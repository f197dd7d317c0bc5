"""Clients as threads, and what all of them share.

A client writes down its requests and the brokers' answers; checkers judge them. An exception of a client is a
note in the history, and so is a client that does not end.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import trio

from chaos.access import Access
from chaos.history import History, Outcome, Send
from chaos.values import value_of

BEHIND_MAX_S: Final = 0.5
"""A producer that was held up for longer does not make up for all of it."""
IN_FLIGHT_MAX: Final = 2_000
"""Records of a producer that wait for their answers."""


@dataclass(frozen=True, slots=True)
class Target:
    """What clients work on. `log` is the name in the history of what is called `topic` now."""

    access: Access
    topic: str
    partitions: int
    history: History
    log: str = ""

    @property
    def name(self) -> str:
        return self.log or self.topic


class Worker(ABC):
    """A thread that works until it is told to stop."""

    def __init__(self, name: str, history: History) -> None:
        self.name = name
        self.history = history
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """After `stopping` was set."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.history.note(self.name, f"hangs, {timeout_s:.0f} s after it was told to stop")

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.history.note(self.name, f"gave up: {error!r}")

    @abstractmethod
    def work(self) -> None:
        """Work until `stopping` is set. Called in a thread of its own."""


class TrioWorker(Worker):
    """A worker that is async."""

    def work(self) -> None:
        trio.run(self.run)

    @abstractmethod
    async def run(self) -> None:
        """Work until `stopping` is set."""


class Sender:
    """Enters the records of one producer, at a steady rate and to all partitions in turn."""

    def __init__(self, name: str, target: Target, rate: float, keys: int = 0) -> None:
        """`keys`: how many a partition's records have in turn; 0 for one, the name."""
        self.name = name
        self._keys = keys
        self.target = target
        self.waiting = 0
        self._rate = rate
        self._number = 0
        self._due = time.monotonic()
        self._lock = threading.Lock()

    def next(self) -> tuple[Send, bytes] | float:
        """The next record, entered as on its way; or how many seconds to wait before it is due."""
        now = time.monotonic()
        if now < self._due or self.waiting >= IN_FLIGHT_MAX:
            return max(0.001, min(self._due - now, 0.02))
        self._due = max(self._due + 1 / self._rate, now - BEHIND_MAX_S)
        value = f"{self.name}:{self._number}"
        partition = self._number % self.target.partitions
        self._number += 1
        with self._lock:
            self.waiting += 1
        send = Send(client=self.name, log=self.target.name, partition=partition, value=value)
        if self._keys:
            send.key = f"{self.name}-{self._number // self.target.partitions % self._keys}"
        return self.target.history.begin(send), value_of(value)

    async def until(self, stopping: threading.Event) -> AsyncIterator[tuple[Send, bytes]]:
        """Each record when it is due, for a client on Trio."""
        while not stopping.is_set():
            due = self.next()
            if isinstance(due, float):
                await trio.sleep(due)
            else:
                yield due

    def ended(self, send: Send, outcome: Outcome, offset: int = -1, why: str = "") -> None:
        with self._lock:
            self.waiting -= 1
        send.offset = offset
        self.target.history.end(send, outcome, why)


def until(stopping: threading.Event, condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a condition, or for the end; whether it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if stopping.is_set() or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
