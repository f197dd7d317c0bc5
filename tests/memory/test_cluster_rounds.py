"""A broker's rounds go on whatever becomes of what they propose, and leave the loop to others in between."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from raftlog.cluster import rounds
from raftlog.cluster.expiry import OffsetExpiry
from raftlog.cluster.groups import GroupCoordinator, GroupSettings
from raftlog.cluster.liveness import Liveness
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.rounds import PARTITIONS_AT_ONCE, Rounds
from raftlog.cluster.this_broker import ThisBroker
from raftlog.cluster.transactions import TransactionTimeouts
from raftlog.config import BrokerConfig
from raftlog.metadata.brokers import FenceBroker
from raftlog.metadata.catalog import BrokerInfo, Catalog
from raftlog.metadata.features import SetFeature
from raftlog.metadata.noun import Command
from raftlog.types import BrokerId
from tests.clocks import STILL
from tests.groups import Kept


class FakePartition:
    topic_id = bytes(16)

    def __init__(self, number: int) -> None:
        self.partition = number
        self.ticks = 0

    def tick(self, now_ms: int, *, now: float, even_ms: int, retention_due: bool) -> None:
        self.ticks += 1


class Broker:
    """What `Rounds` takes, in one. The metadata has no leader: nothing that is proposed happens."""

    def __init__(self, partitions: int, brokers: int) -> None:
        config = BrokerConfig.of({"broker.session.timeout.ms": "1000"})
        self.catalog = Catalog()
        for number in range(brokers):
            id = BrokerId(number)
            self.catalog.brokers[id] = BrokerInfo(id=id, host="h", port=1, peer_host="h", peer_port=2)
        self.kept = {number: FakePartition(number) for number in range(partitions)}
        self.is_coordinator = True
        self.proposed: list[Command] = []
        self.sizes: list[int] = []
        self.sliced = trio.Event()
        groups = GroupCoordinator(
            settings=lambda: GroupSettings(), new_id=lambda: "id", stored_groups=lambda: (), kept=Kept()
        )
        itself = cast(Any, self)
        self.rounds = Rounds(
            ThisBroker.of(config, rng=random.Random(1), clock=STILL),
            self.catalog,
            itself,
            itself,
            itself,
            Liveness(config.int("broker.session.timeout.ms") / 1000),
            OffsetExpiry(self.catalog, groups, retention_ms=1, interval_s=1.0),
            TransactionTimeouts(self.catalog, term=lambda: 1, expiration_ms=1),
            itself,
        )

    # Replicas

    @property
    def partitions(self) -> list[FakePartition]:
        return list(self.kept.values())

    def partition_by_id(self, topic_id: bytes, number: int) -> FakePartition | None:
        return self.kept.get(number)

    def note_rejoined(self) -> None:
        pass

    # Upkeep

    def begin(self, now: float) -> None:
        self.sizes.clear()

    def tick(self, partitions: list[Any], now: float) -> list[Command]:
        self.sizes.append(len(partitions))
        self.sliced.set()
        return []

    # Proposer

    async def propose(self, command: Command, *, timeout: float = 30.0) -> ProposalFailed:
        self.proposed.append(command)
        await trio.sleep(timeout)
        return ProposalFailed("the metadata group has no leader", may_still_happen=True)


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0)


async def test_rounds_do_not_wait_for_proposals_that_find_no_leader(clock: MockClock) -> None:
    broker = Broker(partitions=3, brokers=5)
    with trio.move_on_after(20.5):
        await broker.rounds.run()
    assert broker.kept[0].ticks >= 9
    fenced = [command.broker_id for command in broker.proposed if isinstance(command, FenceBroker)]
    assert set(fenced) == set(broker.catalog.brokers)
    assert len(fenced) >= 5 * 5


async def test_partitions_are_looked_after_in_slices(clock: MockClock) -> None:
    broker = Broker(partitions=3 * PARTITIONS_AT_ONCE + 1, brokers=0)
    seen: list[int] = []

    async def watch() -> None:
        while True:
            await broker.sliced.wait()
            broker.sliced = trio.Event()
            seen.append(len(broker.sizes))

    with trio.move_on_after(rounds.TICK_S + 0.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            nursery.start_soon(broker.rounds.run)
    assert broker.sizes == [PARTITIONS_AT_ONCE] * 3 + [1]
    assert len(seen) >= 2, seen  # without a pause in between it would be woken once


async def test_the_metadata_leader_raises_the_level_when_the_last_broker_knows_it(clock: MockClock) -> None:
    broker = Broker(partitions=0, brokers=3)
    brokers = broker.catalog.brokers
    wanted = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.rounds.run)
        for each in list(brokers):
            brokers[each] = replace(brokers[each], metadata_level=2)
            await trio.sleep(5)
            wanted.append([one for one in broker.proposed if isinstance(one, SetFeature)])
        nursery.cancel_scope.cancel()
    assert wanted[:2] == [[], []]
    assert set(wanted[2]) == {SetFeature(name="raftlog.metadata.level", level=2)}
