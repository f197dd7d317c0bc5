"""The driver's Trio shell: when it turns, where it waits for the disk, how it ends."""

from __future__ import annotations

import random
import threading
import time

import pytest
import trio
import trio.testing

from raftlog.errors import DiskFailed
from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.runner import INLINE_BYTES_MAX, SLOW_SYNC, DiskPace, Runner
from raftlog.raft.values import Outcome, RaftTiming
from raftlog.storage.entry import EntryKind
from tests.unit.raft_cluster import KEY, Machine
from tests.unit.raft_store import MemoryStore, MemoryTicket, broker


def single(store: MemoryStore) -> tuple[Driver, RaftGroup, Machine]:
    driver = Driver(store, send=lambda to, messages: None)  # type: ignore[arg-type]
    log = store.create_log(KEY)
    group = RaftGroup(
        KEY,
        broker(1),
        log,  # type: ignore[arg-type]
        frozenset({broker(1)}),
        timing=RaftTiming(),
        rng=random.Random(1),
        now=0.0,
    )
    machine = Machine(log)
    driver.add(group, machine)
    return driver, group, machine


class Waiting:
    """A proposal that a task waits for."""

    def __init__(self, group: RaftGroup, payload: bytes) -> None:
        self.outcome: Outcome | None = None
        self.done = trio.Event()
        group.leading.propose(EntryKind.BATCH, payload, 1, self._resolved)

    def _resolved(self, outcome: Outcome, entry: object) -> None:
        assert self.outcome is None
        self.outcome = outcome
        self.done.set()


async def ready(group: RaftGroup) -> None:
    while not group.is_ready:
        await trio.lowlevel.checkpoint()


async def test_a_group_of_one_commits(autojump_clock: trio.testing.MockClock) -> None:
    driver, group, machine = single(MemoryStore())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Runner(driver).run)
        await ready(group)
        proposal = Waiting(group, b"a")
        await proposal.done.wait()
        assert proposal.outcome is Outcome.COMMITTED
        assert list(machine.applied.values()) == [b"a"]
        nursery.cancel_scope.cancel()


async def test_proposals_of_many_tasks_share_a_sync(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    driver, group, _ = single(store)

    async def one() -> None:
        await Waiting(group, b"x").done.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Runner(driver).run)
        await ready(group)
        await trio.sleep(1)
        before = store.syncs
        async with trio.open_nursery() as producers:
            for _ in range(100):
                producers.start_soon(one)
        assert group.commit_index == 101
        assert store.syncs - before <= 2
        nursery.cancel_scope.cancel()


async def test_an_idle_driver_only_wakes_for_deadlines(autojump_clock: trio.testing.MockClock) -> None:
    driver, group, _ = single(MemoryStore())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Runner(driver).run)
        await ready(group)
        await trio.sleep(1)
        before = driver.turns
        await trio.sleep(1000)
        assert driver.turns == before
        nursery.cancel_scope.cancel()


async def test_a_disk_that_fails_stops_the_loop_and_answers_everyone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    driver, group, _ = single(store)

    async def run() -> None:
        with pytest.raises(DiskFailed):
            await Runner(driver).run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await ready(group)
        store.fails = True
        proposal = Waiting(group, b"x")
        with trio.fail_after(1):
            await proposal.done.wait()
        assert proposal.outcome is Outcome.MAY_STILL_HAPPEN


async def test_cancelling_answers_everyone(autojump_clock: trio.testing.MockClock) -> None:
    driver, group, _ = single(MemoryStore())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Runner(driver).run)
        await ready(group)
        proposal = Waiting(group, b"x")
        nursery.cancel_scope.cancel()
    assert proposal.outcome is not None


async def test_a_large_block_is_synced_in_a_thread_and_says_nothing_of_small_ones() -> None:
    store = MemoryStore()
    driver, group, _ = single(store)
    runner = Runner(driver)
    synced_in: list[tuple[int, bool]] = []

    class Noted(MemoryTicket):
        def sync(self) -> None:
            is_loop = threading.current_thread() is threading.main_thread()
            synced_in.append((self.size, is_loop))
            if not is_loop:
                time.sleep(2 * SLOW_SYNC)
            super().sync()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        await ready(group)
        store.write = lambda: Noted(store)  # type: ignore[method-assign]
        for size in (INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, INLINE_BYTES_MAX):
            synced_in.clear()
            Noted.size = size
            await Waiting(group, b"x").done.wait()
            assert (size, size <= INLINE_BYTES_MAX) in synced_in
        nursery.cancel_scope.cancel()


async def test_a_slow_disk_is_waited_for_in_a_thread_and_the_loop_goes_on() -> None:
    store = MemoryStore()
    driver, group, _ = single(store)
    runner = Runner(driver)
    gate = threading.Event()
    blocked = threading.Event()

    class Slow(MemoryTicket):
        def sync(self) -> None:
            blocked.set()
            assert gate.wait(10)
            super().sync()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        await ready(group)
        runner.pace.note(1.0, trio.current_time())
        store.write = lambda: Slow(store)  # type: ignore[method-assign]
        first = Waiting(group, b"first")
        while not blocked.is_set():  # noqa: ASYNC110 (a thread sets it)
            await trio.sleep(0.001)
        second = Waiting(group, b"second")
        turns = driver.turns
        await trio.sleep(0.05)  # real seconds: a thread is in it
        assert driver.turns > turns
        assert first.outcome is None
        assert second.outcome is None
        store.has_pending = True
        gate.set()
        await first.done.wait()
        await second.done.wait()
        assert first.outcome is second.outcome is Outcome.COMMITTED
        nursery.cancel_scope.cancel()


async def test_a_disk_that_stalls_costs_the_leaderships_and_cancelling_waits_for_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raftlog.raft.runner.STALLED", 0.01)
    store = MemoryStore()
    driver, group, _ = single(store)
    runner = Runner(driver)
    gate = threading.Event()
    synced: list[bool] = []
    yielded = trio.Event()

    class Slow(MemoryTicket):
        def sync(self) -> None:
            assert gate.wait(10)
            super().sync()
            synced.append(True)

    def yields(now: float) -> int:
        yielded.set()
        return 1

    monkeypatch.setattr(driver, "yield_leadership", yields)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        await ready(group)
        runner.pace.note(1.0, trio.current_time())
        monkeypatch.setattr(store, "write", lambda: Slow(store))
        proposal = Waiting(group, b"x")
        await yielded.wait()
        assert not synced
        trio.lowlevel.current_trio_token().run_sync_soon(gate.set)
        nursery.cancel_scope.cancel()
    assert synced
    assert proposal.outcome is Outcome.MAY_STILL_HAPPEN


async def test_a_disk_that_fails_in_the_thread_stops_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    driver, group, _ = single(store)
    runner = Runner(driver)

    async def run() -> None:
        with pytest.raises(DiskFailed):
            await runner.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await ready(group)
        runner.pace.note(1.0, trio.current_time())
        store.fails = True
        proposal = Waiting(group, b"x")
        await proposal.done.wait()
    assert proposal.outcome is Outcome.MAY_STILL_HAPPEN


def test_the_pace_leaves_the_loop_on_one_slow_sync_and_returns_after_a_while() -> None:
    pace = DiskPace()
    for _ in range(10):
        pace.note(0.0002, 0.0)
    assert pace.is_fast(1.0)
    pace.note(0.5, 1.0)
    assert not pace.is_fast(1.1)
    for tenth in range(100):
        pace.note(0.0002, 1.1 + tenth / 10)
    assert pace.is_fast(11.0)
