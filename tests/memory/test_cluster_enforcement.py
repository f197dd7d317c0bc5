"""Whom a change of rules or passwords waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from raftlog.cluster.changes import Changes
from raftlog.cluster.enforcement import AFTER_LEASES_S, Enforcement
from raftlog.config import BrokerConfig
from raftlog.config.table import STANDARD_AUTHORIZER
from raftlog.metadata.catalog import BrokerInfo, Catalog
from raftlog.types import BrokerId, RaftIndex

AUTHORIZER = {"authorizer.class.name": STANDARD_AUTHORIZER}
PEERS = {"node.id": "1", "raftlog.peers": "1@h:1,2@h:2,3@h:3"}


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0)


class World:
    """The first of three brokers; the others answer at once that they have applied everything."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.catalog = Catalog()
        for number in (1, 2, 3):
            self.register(number, b"first start.....")
        self.changes = Changes()
        self.asked: list[int] = []
        me = SimpleNamespace(id=BrokerId(1), config=BrokerConfig.of(settings))
        metadata = SimpleNamespace(catalog=self.catalog, applied_index=RaftIndex(9))
        peers = SimpleNamespace(calls=self, live=list)
        parts = [cast(Any, part) for part in (me, metadata, peers, None, self.changes)]
        self.enforcement = Enforcement(*parts, clock=trio.current_time)
        self.move()

    def register(self, number: int, incarnation: bytes) -> None:
        self.catalog.brokers[BrokerId(number)] = BrokerInfo(
            id=BrokerId(number), host="h", port=1, peer_host="h", peer_port=1, incarnation=incarnation
        )

    def move(self) -> None:
        self.catalog.topology_index = RaftIndex(self.catalog.topology_index + 1)
        self.changes.tell()

    async def ask(self, broker: BrokerId, *_: object, timeout: float) -> object:
        self.asked.append(broker)
        await trio.lowlevel.checkpoint()
        return True

    async def waits_s(self) -> float:
        begun = trio.current_time()
        await self.enforcement.everywhere()
        return trio.current_time() - begun


def removed(world: World) -> None:
    del world.catalog.brokers[BrokerId(3)]


def taken_over(world: World) -> None:
    world.register(2, b"second start....")


def fenced(world: World) -> None:
    world.catalog.brokers[BrokerId(3)] = replace(world.catalog.brokers[BrokerId(3)], fenced=True)


def added(world: World) -> None:
    world.register(4, b"first start.....")


@pytest.mark.parametrize(
    ("change", "is_waited_for"), [(removed, True), (taken_over, True), (fenced, False), (added, False)]
)
async def test_who_is_registered_no_more_may_still_hold_a_lease(
    clock: MockClock, change: Callable[[World], None], is_waited_for: bool
) -> None:
    world = World(PEERS | AUTHORIZER)
    await trio.sleep(AFTER_LEASES_S)
    assert await world.waits_s() == 0 and sorted(world.asked) == [2, 3]
    change(world)
    world.move()
    await trio.sleep(1)
    expected = AFTER_LEASES_S - 1 if is_waited_for else 0
    assert await world.waits_s() == pytest.approx(expected)
    assert await world.waits_s() == 0


@pytest.mark.parametrize(
    ("settings", "waits_s"),
    [
        (PEERS | AUTHORIZER, AFTER_LEASES_S),
        (AUTHORIZER, 0),
        (PEERS | {"listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT"}, AFTER_LEASES_S),
        (PEERS, 0),
        (PEERS | AUTHORIZER | {"raftlog.authorizer.lease": "false"}, 0),
    ],
)
async def test_one_may_have_gone_just_before_this_broker_started(
    clock: MockClock, settings: dict[str, str], waits_s: float
) -> None:
    assert await World(settings).waits_s() == pytest.approx(waits_s)
