"""What a node sees of the task that it runs in."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from raftlog.streams.failing import NO_OFFSET, Failing
from raftlog.streams.inputs import Row
from raftlog.streams.lookups import AsyncMap, Question
from raftlog.streams.nodes import Node, Push, Record, Sink
from raftlog.streams.outputs import Unprocessable
from raftlog.streams.stores import Store, Timed
from raftlog.streams.timers import Fire, Timers

Closing = tuple[int, int, Timed, Callable[[int, Any], None] | None]
"""A node's number, the delay of its watermark, a store whose times end, who is given their keys."""


Send = Callable[[Sink, Any, Any, int], None]


class Hooks:
    """What the nodes of a task want to be called for, in the order of nodes; and what they ask."""

    def __init__(self, now_ms: int, send: Send, failing: Failing, *, undoes: bool) -> None:
        self.send = send
        self.failing = failing
        self.undoes = undoes
        self.topic = ""
        self.read: Row | None = None
        """The record in hand, and its topic."""
        self.closings: list[Closing] = []
        self.emits: list[tuple[int, Callable[[], None]]] = []
        self.timers = Timers(now_ms)

    def sort(self) -> None:
        """All nodes are built: they come from the last to the first."""
        self.closings.sort(key=lambda each: each[0])
        self.emits.sort(key=lambda each: each[0])


class Notes(Protocol):
    """What its worker is told of."""

    keyless: dict[Node, str]


class Within(Protocol):
    """A task, as far as its nodes need it."""

    partition: int
    watermark: int
    questions: deque[Question]
    dropped: Counter[str]

    @property
    def telling(self) -> Notes: ...

    def store(self, name: str) -> Store: ...


class RoomOf:
    """For one node. `delay` is how long the windows before it hold records back."""

    def __init__(self, task: Within, hooks: Hooks, node: Node, delay: int) -> None:
        self._task = task
        self._hooks = hooks
        self._node = node
        self._delay = delay
        self.send = hooks.send
        self.store = task.store
        self.undoes = hooks.undoes

    @property
    def watermark(self) -> int:
        return self._task.watermark - self._delay

    def closing(self, store: Timed, give: Callable[[int, Any], None] | None) -> None:
        if give is not None:
            give = self._hooks.failing.window(self._hooks, store, give)
        self._hooks.closings.append((self._node.number, self._delay, store, give))

    def before_commit(self, emit: Callable[[], None]) -> None:
        self._hooks.emits.append((self._node.number, emit))

    def every(self, period_ms: int, clock: str, fire: Fire) -> None:
        fire = self._hooks.failing.timer(self._hooks, self._node, fire)
        self._hooks.timers.add(period_ms, clock, fire)

    def record(self, key: Any, value: Any, timestamp: int) -> Record:
        read = self._hooks.read
        if read is None or read[0] == NO_OFFSET:
            return Record(key, value, timestamp)
        offset, _, _, _, headers = read
        return Record(key, value, timestamp, headers, self._hooks.topic, self._task.partition, offset)

    def ask(self, node: AsyncMap, key: Any, value: Any, timestamp: int, down: Push) -> None:
        hooks = self._hooks
        self._task.questions.append(Question(node, key, value, timestamp, down, hooks.topic, hooks.read))

    def note_dropped(self, why: str) -> None:
        self._task.dropped[why] += 1

    def note_keyless(self, why: str) -> None:
        self.note_dropped(why)
        self._task.telling.keyless[self._node] = why

    def fail(self, reason: str, to_dlq: bool) -> NoReturn:
        raise Unprocessable(reason, to_dlq)
