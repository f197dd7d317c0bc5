"""Cancellation at every checkpoint: each public call is cancelled at its first await, its second, and so on.

After each the client must work, no task may be left, and what was written must be what the docstring says.
An instrument counts the steps of the calling task and cancels when the count is reached.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import raftlog
from raftlog import Client, Consumer, Producer, TopicPartition
from tests.memory.client_fakes import FakeCluster

KEY = TopicPartition("t", 0)
STEPS_MAX = 200
"""More awaits than any call makes."""


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


class World:
    """A fake cluster with three records in it, and a client, a producer and a consumer made on demand."""

    def __init__(self, cluster: FakeCluster, client: Client, producer: Producer, consumer: Consumer) -> None:
        self.cluster = cluster
        self.client = client
        self.producer = producer
        self.consumer = consumer


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery)
        try:
            async with (
                raftlog.open_client("b1:9092", open_socket=cluster.open_socket) as filling,
                filling.producer() as producer,
            ):
                for i in range(3):
                    await producer.send("t", b"%d" % i)
            before = trio.lowlevel.current_statistics().tasks_living
            async with (
                raftlog.open_client("b1:9092", open_socket=cluster.open_socket) as client,
                client.producer() as producer,
                client.consumer(
                    "t", group="g", auto_offset_reset="earliest", enable_auto_commit=False
                ) as consumer,
            ):
                yield World(cluster, client, producer, consumer)
            await trio.testing.wait_all_tasks_blocked()
            after = trio.lowlevel.current_statistics().tasks_living
            served = len(nursery.child_tasks)
            assert after <= before + served, "tasks are left"
        finally:
            nursery.cancel_scope.cancel()


async def still_works(w: World) -> None:
    """Everything that can be done can be done."""
    with trio.fail_after(100):
        sent = await w.producer.send("t", b"after")
        assert w.cluster.logs[KEY].values[sent.offset] == b"after"
        async for record in w.consumer:
            if record.value == b"after":
                break
        await w.consumer.commit()
        assert w.cluster.committed["t", 0] == sent.offset + 1
        assert "t" in await w.client.admin.list_topics()


async def assigned(consumer: Consumer) -> None:
    while KEY not in consumer.positions():
        await consumer.poll(0, max_wait_ms=10)


Call = Callable[[World], Awaitable[Any]]


async def _delivery(w: World) -> None:
    await (await w.producer.send_soon("t", b"x"))


async def _flush(w: World) -> None:
    await w.producer.send_soon("t", b"x")
    await w.producer.flush()


async def _batch(w: World) -> None:
    await anext(w.consumer.batches(2))


CALLS: dict[str, Call] = {
    "send": lambda w: w.producer.send("t", b"x"),
    "send_soon": lambda w: w.producer.send_soon("t", b"x"),
    "delivery": _delivery,
    "flush": _flush,
    "partitions": lambda w: w.producer.partitions("t"),
    "anext": lambda w: anext(w.consumer),
    "poll": lambda w: w.consumer.poll(2),
    "batches": _batch,
    "list_topics": lambda w: w.client.admin.list_topics(),
    "describe_topic": lambda w: w.client.admin.describe_topic("t"),
    "describe_cluster": lambda w: w.client.admin.describe_cluster(),
    "create_topic": lambda w: w.client.admin.create_topic("new", exist_ok=True),
    "end_offsets": lambda w: w.client.admin.end_offsets("t"),
    "group_offsets": lambda w: w.client.admin.group_offsets("g", [KEY]),
    "alter_group_offsets": lambda w: w.client.admin.alter_group_offsets("other", {KEY: 1}),
}
"""Calls from a standing start: nothing is connected, no topic known, no partition assigned."""

ASSIGNED_CALLS: dict[str, Call] = {
    "commit": lambda w: w.consumer.commit(),
    "committed": lambda w: w.consumer.committed(),
    "position": lambda w: w.consumer.position("t", 0),
    "beginning_offsets": lambda w: w.consumer.beginning_offsets(),
    "offsets_for_times": lambda w: w.consumer.offsets_for_times({KEY: 5}),
    "anext": lambda w: anext(w.consumer),
    "poll": lambda w: w.consumer.poll(2),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_from_a_standing_start(autojump_clock: MockClock, name: str) -> None:
    for n in range(1, STEPS_MAX):
        async with world() as w:
            cancelled = await cancelled_at(n, lambda w=w: CALLS[name](w))  # type: ignore[misc]
            if cancelled and name == "send_soon":
                await w.producer.flush()
                assert w.cluster.logs[KEY].values == [b"0", b"1", b"2"], "cancelled, it is not written"
            await still_works(w)
            assert w.cluster.logs[KEY].values.count(b"x") <= 1
        if not cancelled:
            assert n > 1, "no call is without a checkpoint from a standing start"
            return
    raise AssertionError("more awaits than expected")


@pytest.mark.parametrize("name", ASSIGNED_CALLS)
async def test_a_call_of_a_member(autojump_clock: MockClock, name: str) -> None:
    for n in range(1, STEPS_MAX):
        async with world() as w:
            await assigned(w.consumer)
            cancelled = await cancelled_at(n, lambda w=w: ASSIGNED_CALLS[name](w))  # type: ignore[misc]
            if cancelled and name in ("anext", "poll"):
                assert w.consumer.positions() == {KEY: 0}, "cancelled, nothing is handed out"
            if name not in ("anext", "poll"):
                assert (await anext(w.consumer)).value == b"0"
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
