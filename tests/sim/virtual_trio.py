"""What the parts of a broker ask of Trio, on the simulation's clock: tasks, events, time-outs, nurseries.

It stands in the place of the module `trio` in `raftlog.cluster` while a simulation runs, so that the real
`Node` lives in it. A task belongs to a process of a broker. It goes on only when that process does something:
then power loss and a failure of the disk end it wherever it is, a paused process does nothing, and of one
that has ended no task goes on. Tasks go on in the order in which they were woken.

Only what those modules use is here, as far as they use it: a task waits in one place, and is cancelled there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from types import SimpleNamespace, TracebackType
from typing import Any

from tests.sim.virtual_disk import PowerLost
from tests.sim.world import World


class Cancelled(BaseException):
    """Raised where a task waits when a scope around it has been cancelled."""

    def __init__(self, scope: CancelScope) -> None:
        super().__init__(scope)
        self.scope = scope


class Process:
    """The tasks of one process. `after` calls something later as that process, if it lives until then."""

    def __init__(self, after: Callable[[float, Callable[[], None]], None]) -> None:
        self.after = after
        self.ready: deque[tuple[Task, Cancelled | None]] = deque()

    def start(self, trio: VirtualTrio, what: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        self.ready.append((Task(trio, self, what, args, None), None))

    def run(self) -> None:
        """Let every task go on that was woken, and those that they wake."""
        while self.ready:
            task, error = self.ready.popleft()
            task.step(error)


class Task:
    """One coroutine."""

    def __init__(
        self,
        trio: VirtualTrio,
        process: Process,
        what: Callable[..., Coroutine[Any, Any, None]],
        args: tuple[Any, ...],
        nursery: Nursery | None,
    ) -> None:
        self.process = process
        self.scopes: list[CancelScope] = [*nursery.scopes] if nursery is not None else []
        """Around where it is, the outermost first."""
        self._trio, self._what, self._args, self._nursery = trio, what, args, nursery
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._waits = 0
        self._is_waiting = False
        for scope in self.scopes:
            scope.tasks[self] = None
        trio.unfinished[self] = None

    def step(self, error: Cancelled | None) -> None:
        trio, before = self._trio, self._trio.current
        trio.current = self
        try:
            if self._coroutine is None:
                self._coroutine = self._what(*self._args)
            if error is None:
                self._coroutine.send(None)
            else:
                self._coroutine.throw(error)
        except (StopIteration, Cancelled):
            self._ended()
        finally:
            trio.current = before

    def close(self) -> None:
        """The simulation is over. What it would do as it ends is of no interest any more."""
        if self._coroutine is not None:
            with suppress(Exception, Cancelled, PowerLost):
                self._coroutine.close()

    def _ended(self) -> None:
        self._trio.unfinished.pop(self, None)
        for scope in self.scopes:
            scope.tasks.pop(self, None)
        if self._nursery is not None:
            self._nursery.child_ended(self)

    def waker(self) -> Callable[[], None]:
        """Ends the wait that begins now, and no other."""
        self._waits += 1
        number = self._waits

        def wake() -> None:
            if self._waits == number:
                self._go_on(None)

        return wake

    def cancel(self, scope: CancelScope) -> None:
        """Where it waits. Who does not wait is told when it wants to."""
        self._go_on(Cancelled(scope))

    def _go_on(self, error: Cancelled | None) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self.process.ready.append((self, error))

    def __await__(self) -> Generator[None, None, None]:
        """Wait until woken."""
        for scope in self.scopes:
            if scope.is_cancelled:
                raise Cancelled(scope)
        self._is_waiting = True
        yield


class CancelScope:
    """As trio.CancelScope, with a deadline that stays."""

    def __init__(self, trio: VirtualTrio, deadline: float) -> None:
        self.cancelled_caught = self.is_cancelled = False
        self.tasks: dict[Task, None] = {}
        """Who is inside."""
        self._trio, self._deadline = trio, deadline
        self._is_over = False

    def __enter__(self) -> CancelScope:
        task = self._trio.task
        task.scopes.append(self)
        self.tasks[task] = None
        if self._deadline < math.inf:
            task.process.after(max(0.0, self._deadline - self._trio.current_time()), self.cancel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._is_over = True
        for task in self.tasks:
            if self in task.scopes:
                task.scopes.remove(self)
        self.tasks.clear()
        self.cancelled_caught = isinstance(error, Cancelled) and error.scope is self
        return self.cancelled_caught

    def cancel(self) -> None:
        if not self._is_over and not self.is_cancelled:
            self.is_cancelled = True
            for task in list(self.tasks):
                task.cancel(self)


class Nursery:
    """As trio.Nursery."""

    def __init__(self, trio: VirtualTrio) -> None:
        self.cancel_scope = CancelScope(trio, math.inf)
        self.scopes: list[CancelScope] = []
        """Around its tasks."""
        self._trio = trio
        self._children: dict[Task, None] = {}
        self._wake: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Nursery:
        self.cancel_scope.__enter__()
        self.scopes = [*self._trio.task.scopes]
        self._process = self._trio.task.process
        return self

    def start_soon(self, what: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Outside of tasks, too: a turn of the driver may start one."""
        task = Task(self._trio, self._process, what, args, self)
        self._children[task] = None
        self._process.ready.append((task, None))

    def child_ended(self, task: Task) -> None:
        del self._children[task]
        if not self._children:
            self._wake()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, GeneratorExit):  # the process has ended
            return False
        if error is not None:
            self.cancel_scope.cancel()
        while self._children:
            task = self._trio.task
            self._wake = task.waker()
            try:
                await task
            except Cancelled as cancelled:
                error = error or cancelled
                task.scopes = [scope for scope in task.scopes if not scope.is_cancelled]
        is_caught = self.cancel_scope.__exit__(None, error, None)
        if error is not None and not is_caught:
            raise error
        return is_caught


class Event:
    """As trio.Event."""

    def __init__(self, trio: VirtualTrio) -> None:
        self._trio = trio
        self._is_set = False
        self._wakers: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    async def wait(self) -> None:
        if not self._is_set:
            task = self._trio.task
            self._wakers.append(task.waker())
            await task


class VirtualTrio:
    """The module. `refuses` says of a host whether a connection to it is refused at once."""

    def __init__(self, world: World, refuses: Callable[[str], bool]) -> None:
        self.current: Task | None = None
        self.unfinished: dict[Task, None] = {}
        """Tasks that have not ended, those of processes that have among them."""
        self.lowlevel = SimpleNamespace(checkpoint=self._checkpoint, add_instrument=lambda instrument: None)
        self.to_thread = SimpleNamespace(run_sync=self._run_sync)
        self.Lock = object
        self._world, self._refuses = world, refuses

    @property
    def task(self) -> Task:
        assert self.current is not None, "not in a task"
        return self.current

    def close(self) -> None:
        """End all tasks while this is still what they know as `trio`, and not whenever they are collected."""
        for task in list(self.unfinished):
            task.close()
        self.unfinished.clear()

    def current_time(self) -> float:
        return self._world.now

    def Event(self) -> Event:
        return Event(self)

    def open_nursery(self) -> Nursery:
        return Nursery(self)

    def move_on_after(self, seconds: float) -> CancelScope:
        return CancelScope(self, self._world.now + seconds)

    def move_on_at(self, deadline: float) -> CancelScope:
        return CancelScope(self, deadline)

    async def sleep_forever(self) -> None:
        await self.task

    async def sleep(self, seconds: float) -> None:
        task = self.task
        task.process.after(seconds, task.waker())
        await task

    async def open_tcp_stream(self, host: str, port: int) -> Any:
        if self._refuses(host):
            raise ConnectionRefusedError(host)
        return SimpleNamespace(aclose=self._checkpoint)

    async def _checkpoint(self) -> None:
        await self.sleep(0.0)

    async def _run_sync(self, what: Callable[[], Any]) -> Any:
        return what()
