"""Asynchronous functions in an app: `async_map`.

A task does no I/O. It asks, in the order of its records, and whoever runs it calls the functions, some at a
time, and gives the answers back in the order of the questions: so a partition's order is kept. While a
question is open the task's time stands still, so that no window closes before a record that waits; and a
commit waits for all answers, so that no offset passes a record that has none.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from raftlog.streams.inputs import Row
from raftlog.streams.nodes import OUT, Downs, Edge, Node, Push, Room


class AsyncMap(Node):
    """A value for each value, by a function that is awaited."""

    kind = "async map"

    def __init__(
        self,
        parent: Edge,
        function: Callable[[Any, Any], Awaitable[Any]],
        concurrency: int,
        timeout_s: float,
    ) -> None:
        super().__init__(parent)
        self.function = function
        self.concurrency = concurrency
        self.timeout_s = timeout_s

    def build(self, room: Room, downs: Downs) -> tuple[Push, ...]:
        down, ask = downs[OUT], room.ask

        def push(key: Any, value: Any, timestamp: int) -> None:
            ask(self, key, value, timestamp, down)

        return (push,)


@dataclass(slots=True, eq=False)
class Question:
    """A value that a function is to be called with, and where its answer goes; `read` is the record that it
    comes from, of `topic`, or what stands for a window that closed; None when it comes of a commit."""

    node: AsyncMap
    key: Any
    value: Any
    timestamp: int
    down: Push
    topic: str
    read: Row | None
    is_called: bool = False
    is_answered: bool = False
    answer: Any = None
    error: Exception | None = None


class Asker(Protocol):
    """A task, as far as its questions go."""

    @property
    def questions(self) -> deque[Question]:
        """The open ones, the oldest first."""

    def take_answer(self) -> None:
        """Go on with the answer of the oldest one. Raises RecordFailed."""


class Lookups:
    """Calls what the tasks of one worker ask for. `wake` is called when a task can go on."""

    def __init__(self, nursery: trio.Nursery, wake: Callable[[], None]) -> None:
        self._nursery = nursery
        self._wake = wake
        self._calls: dict[Asker, dict[Question, trio.CancelScope]] = {}
        self._running: Counter[tuple[Asker, AsyncMap]] = Counter()
        self._answered = trio.Event()

    def go_on(self, task: Asker) -> None:
        """Hand over the answers that there are, and call what may be called. Raises RecordFailed."""
        questions = task.questions
        while questions and questions[0].is_answered:
            task.take_answer()
        for question in questions:
            place = task, question.node
            if not question.is_called and self._running[place] < question.node.concurrency:
                question.is_called = True
                self._running[place] += 1
                scope = self._calls.setdefault(task, {})[question] = trio.CancelScope()
                self._nursery.start_soon(self._call, task, question, scope)

    async def finish(self, task: Asker) -> None:
        """Until no question is open. Raises RecordFailed."""
        while True:
            self.go_on(task)
            if not task.questions:
                return
            self._answered = trio.Event()
            await self._answered.wait()

    def forget(self, task: Asker) -> None:
        """A task ends: its calls are cancelled."""
        for scope in self._calls.pop(task, {}).values():
            scope.cancel()

    async def _call(self, task: Asker, question: Question, scope: trio.CancelScope) -> None:
        node = question.node
        with scope:
            try:
                with trio.move_on_after(node.timeout_s) as limit:
                    question.answer = await node.function(question.key, question.value)
                if limit.cancelled_caught:
                    question.error = TimeoutError(f"no answer within {node.timeout_s:g} s")
            except Exception as error:  # a function is anybody's
                question.error = error
            question.is_answered = True
        self._running[task, node] -= 1
        if not self._running[task, node]:
            del self._running[task, node]
        calls = self._calls.get(task)
        if calls is not None:
            calls.pop(question, None)
            if not calls:
                del self._calls[task]
        self._answered.set()
        if question is next(iter(task.questions), None):
            self._wake()

    def __repr__(self) -> str:
        return f"<Lookups calls={sum(map(len, self._calls.values()))}>"
