"""Cancellation at every checkpoint: each public call is cancelled at its first await, its second, and so on.

After each the client must work, no task may be left, and what was written must be what the docstring says.
An instrument counts the steps of the calling task and cancels when the count is reached. In a world where
the first request of each kind meets a connection that breaks, the awaits of retries are met as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import raftlog
from raftlog.client.consumer import Batches
from raftlog.client.operations import Operations
from raftlog.protocol.api import ApiKey
from tests.memory.client_calls import CALLS, FILLED, KEY, still_works, world
from tests.memory.client_fakes import SERVED, FakeCluster, Fault

STEPS_MAX = 200
"""More awaits than any call makes."""
INTERNAL = {
    "Admin": {"ask_broker", "ask_controller", "retrying"},
}
"""What the parts of the client ask of one another."""


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` when `task` has awaited for the n-th time."""

    def __init__(self, n: int, task: trio.lowlevel.Task, scope: trio.CancelScope) -> None:
        self._left = n
        self._task = task
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


async def cancelled_at(n: int, call: Callable[[], Awaitable[Any]]) -> bool:
    """Make a call and cancel it at its n-th await; False when it came to its end before that."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(n, trio.lowlevel.current_task(), scope)
        trio.lowlevel.add_instrument(instrument)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


def test_no_call_is_left_out() -> None:
    known = {name.partition(",")[0] for name in CALLS}
    for cls in (raftlog.Producer, raftlog.Delivery, raftlog.Consumer, Batches, raftlog.Admin, Operations):
        awaited = {
            f"{cls.__name__}.{name}"
            for name, method in vars(cls).items()
            if (inspect.iscoroutinefunction(method) or name == "__await__")
            and (not name.startswith("_") or name.endswith("__"))
            and name not in INTERNAL.get(cls.__name__, ())
        }
        assert awaited == {name for name in known if name.startswith(f"{cls.__name__}.")}


def break_first_requests(cluster: FakeCluster) -> None:
    """Of each kind; connecting works."""
    for api in SERVED:
        if api is not ApiKey.API_VERSIONS:
            cluster.script[api].append(Fault.CUT_BEFORE)


@pytest.mark.parametrize(
    "troubled",
    [False, pytest.param(True, marks=(pytest.mark.slow, pytest.mark.long))],
    ids=["calm", "troubled"],
)
@pytest.mark.parametrize("name", CALLS)
async def test_a_call(autojump_clock: MockClock, name: str, troubled: bool) -> None:
    call = CALLS[name]
    for n in range(1, STEPS_MAX):
        async with world() as w:
            if call.first is not None:
                await call.first(w)
            if troubled:
                break_first_requests(w.cluster)
            cancelled = await cancelled_at(n, lambda w=w: call.make(w))  # type: ignore[misc]
            await w.producer.flush()
            effect = call.effect(w)
            assert effect in call.cancelled if cancelled else effect == call.done
            if cancelled or not call.reads:
                assert w.consumer.positions() in ({}, {KEY: 0}), "nothing was handed out"
                assert (await anext(w.consumer)).value == FILLED[0]
            await still_works(w)
        if not cancelled:
            return
    raise AssertionError("more awaits than expected")


async def test_records_are_not_lost_by_a_reader_that_is_cancelled_again_and_again(
    autojump_clock: MockClock,
) -> None:
    seen: list[bytes] = []
    async with world() as w:
        for n in range(1, STEPS_MAX):

            async def read() -> None:
                seen.append((await anext(w.consumer)).value)

            await cancelled_at(n % 5 + 1, read)
            if len(seen) == 3:
                break
        assert seen == [b"0", b"1", b"2"]


async def test_entering_and_leaving(autojump_clock: MockClock) -> None:
    """The whole life of a client, cancelled at each await of it: nothing hangs and nothing is left."""
    for n in range(1, STEPS_MAX):
        async with trio.open_nursery() as nursery:
            cluster = FakeCluster(nursery)
            before = trio.lowlevel.current_statistics().tasks_living

            async def life(cluster: FakeCluster = cluster) -> None:
                async with raftlog.open_client("b1:9092", open_socket=cluster.open_socket) as client:
                    async with client.producer() as producer:
                        await producer.send("t", b"x")
                        await producer.send_soon("t", b"y")
                    async with client.consumer("t", group="g", auto_offset_reset="earliest") as consumer:
                        await anext(consumer)

            started = trio.current_time()
            cancelled = await cancelled_at(n, life)
            assert trio.current_time() - started < 10
            await trio.testing.wait_all_tasks_blocked()
            served = len(nursery.child_tasks)
            assert trio.lowlevel.current_statistics().tasks_living <= before + served
            assert cluster.logs[KEY].values in ([], [b"x"], [b"x", b"y"])
            nursery.cancel_scope.cancel()
        if not cancelled:
            return
    raise AssertionError("more awaits than expected")


async def test_a_producer_that_is_cancelled_says_what_may_be_written(autojump_clock: MockClock) -> None:
    deliveries = []
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery)
        with trio.CancelScope() as scope:
            async with (
                raftlog.open_client("b1:9092", open_socket=cluster.open_socket) as client,
                client.producer(linger_ms=1000) as producer,
            ):
                await producer.send("t", b"first")
                deliveries.append(await producer.send_soon("t", b"x"))
                scope.cancel()
                await trio.sleep_forever()
        with pytest.raises(raftlog.DeliveryError) as caught:
            await deliveries[0]
        assert not caught.value.may_be_written
        assert isinstance(caught.value.__cause__, raftlog.Closed)
        assert cluster.logs[KEY].values == [b"first"]
        nursery.cancel_scope.cancel()
