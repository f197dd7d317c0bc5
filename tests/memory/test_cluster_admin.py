"""Where new topics go while brokers are late, dead or unheard, and how long their creation waits."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from raftlog.cluster.admin import Admin, AdminError, AdminFailure, NewTopic
from raftlog.cluster.changes import Changes
from raftlog.cluster.operations import Operations
from raftlog.cluster.this_broker import ThisBroker
from raftlog.config import BrokerConfig
from raftlog.metadata.catalog import METADATA_LEVEL, BrokerInfo, Topic
from raftlog.metadata.features import SetFeature
from raftlog.metadata.noun import Command, Result
from raftlog.metadata.state import MetadataState
from raftlog.types import BrokerId, RaftIndex

ONE, TWO, THREE, FOUR = BrokerId(1), BrokerId(2), BrokerId(3), BrokerId(4)


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0)


class Cluster:
    """Three brokers as `Admin` sees them from the first; the entries it proposes are applied at once. It is
    proposer, presence and visibility in one."""

    def __init__(self) -> None:
        self.state = MetadataState()
        self.catalog = self.state.catalog
        self.heard = {ONE, TWO, THREE}
        self.connected = {ONE, TWO, THREE}
        self.changes = Changes()
        for id in self.heard:
            self.catalog.brokers[id] = BrokerInfo(id=id, host="h", port=int(id), peer_host="h", peer_port=1)

    def admin(self) -> Admin:
        me = ThisBroker.of(BrokerConfig.of({}), rng=random.Random(1))
        itself = cast(Any, self)
        return Admin(me, self.catalog, itself, itself, itself, self.changes)

    def fence(self, id: BrokerId, fenced: bool) -> None:
        self.catalog.brokers[id] = replace(self.catalog.brokers[id], fenced=fenced)
        self.changes.tell()

    def hears(self, broker: BrokerId) -> bool:
        return broker in self.heard

    def is_late(self, broker: BrokerInfo) -> bool:
        return broker.fenced and broker.id in self.connected

    async def visible_everywhere(self, topic: Topic | None = None) -> None:
        await trio.lowlevel.checkpoint()

    async def propose(self, command: Command, *, once: bool = False) -> Result:
        await trio.lowlevel.checkpoint()
        return self.state.apply(command, RaftIndex(self.catalog.applied_index + 1))


async def create(
    cluster: Cluster, replicas: int = -1, partitions: int = 8, timeout: float = 20.0
) -> Topic | AdminFailure:
    admin = cluster.admin()
    new = NewTopic(name="t", partitions=partitions, replication_factor=replicas)
    return await admin.create_topic(new, timeout=timeout)


def brokers_of(topic: Any) -> set[BrokerId]:
    assert isinstance(topic, Topic), topic
    return {broker for assignment in topic.partitions for broker in assignment.replicas}


async def test_a_broker_that_is_not_heard_just_now_is_chosen_last(clock: MockClock) -> None:
    """It has died within the last seconds, perhaps, and is not fenced yet."""
    cluster = Cluster()
    cluster.heard.discard(THREE)
    assert brokers_of(await create(cluster, replicas=2)) == {ONE, TWO}


async def test_without_enough_brokers_that_are_heard_the_others_are_taken(clock: MockClock) -> None:
    cluster = Cluster()
    cluster.heard = {ONE}
    assert brokers_of(await create(cluster, replicas=3)) == {ONE, TWO, THREE}


@pytest.mark.parametrize("replicas", [3, -1])
async def test_a_late_broker_is_waited_for(clock: MockClock, nursery: trio.Nursery, replicas: int) -> None:
    cluster = Cluster()
    cluster.fence(THREE, True)

    async def come_back() -> None:
        await trio.sleep(5)
        cluster.fence(THREE, False)

    nursery.start_soon(come_back)
    assert brokers_of(await create(cluster, replicas)) == {ONE, TWO, THREE}
    assert trio.current_time() == pytest.approx(5, abs=0.1)


async def test_new_partitions_wait_for_a_late_broker_too(clock: MockClock, nursery: trio.Nursery) -> None:
    cluster = Cluster()
    await create(cluster, replicas=3)
    cluster.fence(THREE, True)

    async def come_back() -> None:
        await trio.sleep(5)
        cluster.fence(THREE, False)

    nursery.start_soon(come_back)
    grown = await cluster.admin().create_partitions("t", 9, timeout=20)
    assert isinstance(grown, Topic) and len(grown.partitions) == 9


async def test_who_stays_late_costs_the_request_its_time_and_no_more(clock: MockClock) -> None:
    """The client may try again: nothing is wrong with what it asks for."""
    cluster = Cluster()
    cluster.fence(THREE, True)
    failure = await create(cluster, replicas=3)
    assert isinstance(failure, AdminFailure)
    assert failure.error is AdminError.TIMED_OUT
    assert failure.message == "3 replicas were asked for, 2 brokers are alive, and not heard of is broker 3"
    assert trio.current_time() == pytest.approx(20, abs=0.1)


async def test_a_dead_broker_is_not_waited_for(clock: MockClock) -> None:
    cluster = Cluster()
    cluster.fence(THREE, True)
    cluster.connected.discard(THREE)
    failure = await create(cluster, replicas=3)
    assert isinstance(failure, AdminFailure)
    assert failure.error is AdminError.INVALID_REPLICATION_FACTOR
    assert trio.current_time() == 0
    assert brokers_of(await create(cluster)) == {ONE, TWO}


async def test_more_replicas_than_there_are_brokers_is_said_at_once(clock: MockClock) -> None:
    cluster = Cluster()
    cluster.fence(THREE, True)
    failure = await create(cluster, replicas=4)
    assert isinstance(failure, AdminFailure)
    assert failure.error is AdminError.INVALID_REPLICATION_FACTOR
    assert trio.current_time() == 0


async def test_a_broker_is_admitted_before_it_has_said_what_its_build_knows() -> None:
    """Also where the others have gone up a level (found by chaos: nobody could join such a cluster)."""
    cluster = Cluster()
    for id, broker in cluster.catalog.brokers.items():
        cluster.catalog.brokers[id] = replace(broker, metadata_level=2)
    await cluster.propose(SetFeature(name=METADATA_LEVEL, level=2))
    assert cluster.catalog.metadata_level == 2
    itself = cast(Any, cluster)
    operations = Operations(cluster.catalog, itself, itself, itself, itself, cluster.changes)
    assert await operations.add_broker(FOUR, "h", 99) is None
    assert cluster.catalog.brokers[FOUR].fenced
