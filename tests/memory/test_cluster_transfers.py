"""To whom a leadership is handed: to brokers that are registered since they were started."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio

from raftlog.cluster import transfers
from raftlog.cluster.changes import Changes
from raftlog.cluster.hints import Hints
from raftlog.cluster.peers import Peers
from raftlog.cluster.presence import Presence
from raftlog.cluster.this_broker import ThisBroker
from raftlog.cluster.transfers import Transfers
from raftlog.config import BrokerConfig
from raftlog.metadata.catalog import Catalog
from raftlog.raft.events import Cause
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, group_key
from tests.clocks import STILL

ONE, TWO = BrokerId(1), BrokerId(2)
KEY = group_key(b"t" * 16, 0)


class Led:
    """A group that is led here. Whom it is handed to takes over at once."""

    def __init__(self, key: GroupKey) -> None:
        self.key = key
        self.leading = self
        self.voters = frozenset((ONE, TWO))
        self.is_leader = True
        self.is_transferring = False
        self.handed: list[tuple[BrokerId, Cause]] = []

    @property
    def is_ready(self) -> bool:
        return self.is_leader

    def transfer(self, to: BrokerId, now: float, why: Cause = Cause.AS_ASKED) -> str | None:
        self.handed.append((to, why))
        self.is_leader = False
        return None


class Broker:
    """What a broker has of the others, over real connections. It leads one partition, and the metadata."""

    def __init__(self, number: BrokerId, ports: dict[BrokerId, int]) -> None:
        peers = ",".join(f"{id}@127.0.0.1:{port}" for id, port in ports.items())
        config = BrokerConfig.of({"node.id": str(number), "raftlog.peers": peers})
        self.me = ThisBroker.of(config, rng=random.Random(), clock=STILL)
        self.peers = Peers(self.me, Catalog(), cast(Any, self), None)
        itself = cast(Any, self)
        self.presence = Presence(
            self.me, itself, self.peers, Hints(lambda topic: True), Changes(), on_heard=lambda *start: None
        )
        self.partition, self.metadata = Led(KEY), Led(METADATA_GROUP)
        self.transfers = Transfers(
            self.me, cast(Any, {one.key: one for one in (self.partition, self.metadata)}), self.peers
        )

    # The driver

    def receive(self, sender: BrokerId, messages: object) -> None:
        pass

    def hear_bytes(self, peer: BrokerId, now: float) -> None:
        pass

    async def run(self, listener: trio.SocketListener) -> None:
        self.peers.catalog_changed()
        await self.peers.links.run([listener])

    def is_connected(self, peer: BrokerId) -> bool:
        return self.peers.links.is_connected(peer)


class Two:
    """Two brokers that are connected, neither of which is in the cluster yet."""

    def __init__(self, nursery: trio.Nursery, ports: dict[BrokerId, int]) -> None:
        self.nursery = nursery
        self.one, self.two = Broker(ONE, ports), Broker(TWO, ports)

    def join(self, broker: Broker) -> None:
        self.nursery.start_soon(broker.presence.run)


@asynccontextmanager
async def two_brokers() -> AsyncIterator[Two]:
    listeners = [(await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] for _ in range(2)]
    ports = {id: one.socket.getsockname()[1] for id, one in zip((ONE, TWO), listeners, strict=True)}
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            two = Two(nursery, ports)
            nursery.start_soon(two.one.run, listeners[0])
            nursery.start_soon(two.two.run, listeners[1])
            await until(lambda: two.one.is_connected(TWO) and two.two.is_connected(ONE))
            yield two
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.01)


async def test_nothing_is_handed_to_a_broker_that_is_not_in_the_cluster_yet() -> None:
    async with two_brokers() as brokers:
        one = brokers.one
        await trio.sleep(0.2)
        assert one.peers.may_take_over() == []
        refusal = await one.transfers.transfer(ONE, KEY, TWO)
        assert refusal is not None and "does not serve clients" in refusal
        await one.transfers.hand_over(1)
        assert one.partition.handed == []
        brokers.join(brokers.two)
        await until(lambda: one.peers.may_take_over() == [TWO])
        assert await one.transfers.transfer(ONE, KEY, TWO) is None
        assert one.partition.handed == [(TWO, Cause.AS_ASKED)]


async def test_who_leads_and_is_not_in_the_cluster_gives_it_to_one_that_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfers, "START_S", 0.3)
    monkeypatch.setattr(transfers, "GIVE_AWAY_POLL_S", 0.05)
    async with two_brokers() as brokers:
        one, joined = brokers.one, trio.Event()
        brokers.nursery.start_soon(one.transfers.give_away_until, joined)
        await trio.sleep(0.5)
        assert one.partition.handed == [], "nobody serves"
        brokers.join(brokers.two)
        await until(lambda: bool(one.partition.handed))
        assert one.partition.handed == [(TWO, Cause.NOT_SERVING)]
        assert one.metadata.handed == [], "who leads the metadata can register itself"


async def test_who_is_in_the_cluster_soon_keeps_what_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "START_S", 0.3)
    async with two_brokers() as brokers:
        one, joined = brokers.one, trio.Event()
        brokers.join(brokers.two)
        await until(lambda: one.peers.may_take_over() == [TWO])
        joined.set()
        await one.transfers.give_away_until(joined)
        assert one.partition.handed == []
