"""A broker that does not coordinate catches up with who does, before it tells what its catalog says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import trio
from trio.testing import MockClock

from raftlog.cluster.calls import Calls
from raftlog.cluster.changes import Changes
from raftlog.cluster.coordination import PATIENCE_S, Coordination
from raftlog.cluster.liveness import Liveness
from raftlog.types import BrokerId

ONE, TWO = BrokerId(1), BrokerId(2)


class Broker:
    """What `Coordination` takes, in one."""

    def __init__(self, number: BrokerId, others: dict[BrokerId, Broker]) -> None:
        self.id = number
        self.leader: BrokerId | None = None
        self.leads = False
        self.applied_index = 0
        self.metadata_level = 1
        self.is_cut = False
        self.changes = Changes()
        self.calls = Calls(lambda to, frame: self._send(others.get(to), frame))
        others[number] = self
        itself = cast(Any, self)
        self.coordination = Coordination(itself, itself, itself, itself, Liveness(1), self.changes)

    @property
    def catalog(self) -> Broker:
        return self

    @property
    def group(self) -> Broker:
        return self

    def read_barrier(self, now: float, on_ready: Callable[[bool], None]) -> None:
        on_ready(self.leads)

    def applies(self, index: int) -> None:
        self.applied_index = index
        self.changes.tell()

    def follows(self, leader: BrokerId | None) -> None:
        self.leader, self.leads = leader, leader == self.id
        self.changes.tell()

    def _send(self, to: Broker | None, frame: bytes) -> bool:
        if to is None or self.is_cut or to.is_cut:
            return False
        to.calls.receive(self.id, frame)
        return True


def two_brokers() -> tuple[Broker, Broker]:
    brokers: dict[BrokerId, Broker] = {}
    return Broker(ONE, brokers), Broker(TWO, brokers)


async def test_it_waits_until_it_has_applied_what_the_leader_has(autojump_clock: MockClock) -> None:
    one, two = two_brokers()
    one.follows(ONE)
    two.follows(ONE)
    one.applies(7)
    two.applies(5)
    caught_up: list[bool] = []

    async def catch_up() -> None:
        caught_up.append(await two.coordination.catch_up())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(catch_up)
        await trio.sleep(0.1)
        two.applies(6)
        await trio.sleep(0.1)
        assert caught_up == []
        two.applies(7)
    assert caught_up == [True]
    assert trio.current_time() < 0.5


async def test_a_leadership_that_moves_meanwhile_costs_nothing(autojump_clock: MockClock) -> None:
    one, two = two_brokers()
    two.follows(ONE)  # which does not know that it leads, or leads no longer

    async def elect() -> None:
        await trio.sleep(1)
        two.follows(None)
        await trio.sleep(1)
        one.follows(ONE)
        two.follows(ONE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(elect)
        assert await two.coordination.catch_up()
    two.follows(TWO)
    assert await two.coordination.catch_up(), "it leads itself"


async def test_who_reaches_no_leader_says_so_after_a_while(autojump_clock: MockClock) -> None:
    one, two = two_brokers()
    one.follows(ONE)
    two.follows(ONE)
    two.is_cut = True
    assert not await two.coordination.catch_up()
    assert PATIENCE_S <= trio.current_time() < PATIENCE_S + 0.1
