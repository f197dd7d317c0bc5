"""Three brokers in one event loop: runners, frames and loopback sockets together, over memory stores.

Time is virtual: how long the machine lets this process wait is no silence of a broker. What one socket is
given the other has a moment later, so that the clock jumps only when nothing has come for one.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.runner import DiskPace, Runner
from raftlog.raft.values import NotLeader, Outcome, RaftTiming
from raftlog.storage.entry import EntryKind
from raftlog.transport.links import Address, Links
from raftlog.types import BrokerId
from tests.memory.slow_link import throttle
from tests.unit.raft_cluster import KEY, Machine
from tests.unit.raft_store import MemoryStore

CALM = RaftTiming(heartbeat=0.1, election_min=5.0, election_max=10.0)
HASTY = RaftTiming(heartbeat=0.03, election_min=0.2, election_max=0.4)
VOTERS = frozenset(map(BrokerId, (1, 2, 3)))


MOMENT_S = 0.002
"""Real seconds in which the system carries bytes from one socket to another."""


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=MOMENT_S)


class MemoryPace(DiskPace):
    """Of a store that is no disk: the loop waits for its syncs, since virtual time waits for no thread."""

    def is_fast(self, now: float) -> bool:
        return True


class Member:
    def __init__(self, number: int, timing: RaftTiming) -> None:
        self.id = BrokerId(number)
        self.store = MemoryStore()
        self.driver = Driver(self.store, send=lambda to, messages: self.links.send(to, messages))  # type: ignore[arg-type]
        self.links = Links(
            self.id,
            process=b"one",
            cluster_id=lambda: "c",
            receive=self.driver.receive,
            rng=random.Random(number),
            on_bytes=lambda peer: self.driver.hear_bytes(peer, trio.current_time()),
        )
        log = self.store.create_log(KEY)
        self.machine = Machine(log)
        self.group = RaftGroup(
            KEY,
            self.id,
            log,  # type: ignore[arg-type]
            VOTERS,
            timing=timing,
            rng=random.Random(number),
            now=0.0,
            preferred=number == 1,
        )
        self.driver.add(self.group, self.machine)

    async def run(self) -> None:
        runner = Runner(self.driver)
        runner.pace = MemoryPace()
        await runner.run()

    async def commit(self, payload: bytes) -> Outcome | None:
        done = trio.Event()
        outcomes: list[Outcome] = []

        def on_done(outcome: Outcome, entry: object) -> None:
            outcomes.append(outcome)
            done.set()

        if isinstance(self.group.leading.propose(EntryKind.BATCH, payload, 1, on_done), NotLeader):
            return None
        await done.wait()
        return outcomes[0]


@asynccontextmanager
async def cluster(
    timing: RaftTiming, bytes_a_second: float | None = None
) -> AsyncIterator[dict[int, Member]]:
    members = {number: Member(number, timing) for number in (1, 2, 3)}
    addresses: dict[BrokerId, list[Address]] = {}
    async with trio.open_nursery() as nursery:
        for member in members.values():
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            if bytes_a_second is not None:
                port = await nursery.start(throttle, port, bytes_a_second)
            addresses[member.id] = [Address("127.0.0.1", port)]
            nursery.start_soon(member.links.run, listeners)
        await trio.testing.wait_all_tasks_blocked()
        for member in members.values():
            member.links.set_peers(addresses)
        await until(lambda: all(m.links.statistics()["connected"] == 2 for m in members.values()))
        for member in members.values():
            nursery.start_soon(member.run)
        yield members
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 (sockets of the system, no event to wait for)
            await trio.sleep(0.01)


def leader_of(members: dict[int, Member]) -> Member | None:
    ready = [m for m in members.values() if m.group.is_ready]
    return max(ready, key=lambda m: m.group.term) if ready else None


async def test_entries_of_all_sizes_reach_everyone(clock: MockClock) -> None:
    rng = random.Random(1)
    payloads = [rng.randbytes(size) for size in (0, 1, 1000, 100_000, 2_000_000)] * 3
    async with cluster(CALM) as members:
        await until(lambda: leader_of(members) is not None)
        leader = leader_of(members)
        assert leader is not None
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for payload in payloads:
                    nursery.start_soon(leader.commit, payload)
        await until(lambda: all(len(m.machine.applied) == len(payloads) for m in members.values()))
        applied = [list(m.machine.applied.values()) for m in members.values()]
        assert applied[0] == applied[1] == applied[2]
        assert sorted(applied[0]) == sorted(payloads)


async def test_connections_that_break_all_the_time_lose_nothing(clock: MockClock) -> None:
    rng = random.Random(2)
    committed: list[bytes] = []

    async def break_links(members: dict[int, Member]) -> None:
        while True:
            await trio.sleep(rng.uniform(0.02, 0.2))
            link = rng.choice(list(members[rng.choice([1, 2, 3])].links._links.values()))
            if link.connection is not None:
                link.connection.stream.shut_down()

    async with cluster(HASTY) as members, trio.open_nursery() as nursery:
        nursery.start_soon(break_links, members)
        with trio.move_on_after(1.5):
            number = 0
            while True:
                leader = leader_of(members)
                if leader is not None:
                    number += 1
                    if await leader.commit(b"%d" % number) is Outcome.COMMITTED:
                        committed.append(b"%d" % number)
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
        assert committed
        last = max(m.store.logs[KEY].commit_index for m in members.values())
        await until(lambda: all(m.machine.applied_index >= last for m in members.values()))
        for member in members.values():
            assert set(committed) <= set(member.machine.applied.values())


async def test_an_entry_that_takes_longer_to_send_than_an_election_is_committed(clock: MockClock) -> None:
    """By the leader that took it."""
    async with cluster(RaftTiming(heartbeat=0.1, election_min=1.0, election_max=2.0), 2 << 20) as members:
        await until(lambda: leader_of(members) is not None)
        leader = leader_of(members)
        assert leader is not None
        term = leader.group.term
        with trio.fail_after(60):
            assert await leader.commit(bytes(8 << 20)) is Outcome.COMMITTED
        assert all(member.group.term == term for member in members.values())
