"""Scenarios that random seeds found, made as short as they go."""

from __future__ import annotations

import pytest

from raftlog.cluster.this_broker import timing_of
from raftlog.metadata.topics import CreateTopic
from raftlog.types import METADATA_GROUP, group_key
from tests.sim.broker import End
from tests.sim.cluster import Cluster
from tests.sim.replaced import living_on

TOPIC = b"t" * 16


def test_a_broker_that_lost_its_metadata_keeps_its_replicas() -> None:
    """Its catalog is empty until a peer has filled it again. It took everything it kept for deleted, and the
    empty replicas that it made afterwards voted as if they had never held anything (profile rot, seed 48)."""
    cluster = Cluster(1, "calm")
    with living_on(cluster.trio):
        _lose_metadata(cluster)


def _lose_metadata(cluster: Cluster) -> None:
    cluster.form()
    leader = next(b for b in cluster.brokers.values() if b.node and b.node.metadata.is_ready)
    assert leader.node is not None
    command = CreateTopic(name="t", topic_id=TOPIC, partitions=(cluster.everyone[:3],))
    leader.node.propose(command, lambda result: None)
    cluster.world.run_until(cluster.world.now + 2.0)
    broker = next(b for b in cluster.brokers.values() if b is not leader and b.id in cluster.everyone[:3])
    node = broker.node
    assert node is not None
    partition = node.partition(TOPIC, 0)
    assert partition is not None and partition.group.commit_index > 0
    cluster.invariants.rots(broker)
    node.store.logs[METADATA_GROUP].damage.lost = "found by a read"
    catalogs: list[int] = []

    def watch() -> None:
        catalogs.append(len(node.catalog.topics))
        assert node.partition(TOPIC, 0) is partition

    cluster.world.after_event = watch
    cluster.world.run_until(cluster.world.now + 3.0 + timing_of(node.real.me.config).vote_life)
    assert catalogs[-1] == 1 and 0 in catalogs, "the catalog was lost, and is there again"
    assert node.metadata.is_caught_up


@pytest.mark.parametrize("away", [1, 2])
def test_a_group_that_was_made_while_brokers_were_away_is_not_stranded(away: int) -> None:
    """They come back with empty disks, and may have kept their replicas before, for all they know. They elect
    all the same, and who leads fills the others. Seeds were taken to be over in an instant before that
    (profile members, seeds 6 and 5018)."""
    cluster = Cluster(1, "calm")
    with living_on(cluster.trio):
        _make_while_away(cluster, away)


def _make_while_away(cluster: Cluster, count: int) -> None:
    """So many of five brokers are away: one has the only replica, two have all but one of the replicas."""
    cluster.form()
    leader = next(b for b in cluster.brokers.values() if b.node and b.node.metadata.is_ready)
    away = [b for b in cluster.brokers.values() if b is not leader][:count]
    for broker in away:
        broker.kill(End.POWER_LOST)  # it is started again soon
        broker.wipe()
    assert leader.node is not None
    replicas = tuple(broker.id for broker in (away if count == 1 else [leader, *away]))
    leader.node.propose(CreateTopic(name="t", topic_id=TOPIC, partitions=(replicas,)), lambda result: None)
    key, trusted = group_key(TOPIC, 0), set()

    def watch() -> None:
        for broker in away:
            group = broker.node.driver.groups.get(key) if broker.node is not None else None
            if group is not None:
                trusted.add(group.is_trusted)
                assert not cluster._is_stranded(key)

    cluster.world.after_event = watch
    cluster.world.run_until(cluster.world.now + 20.0)
    assert trusted == {False, True}
    for broker in away:
        assert broker.node is not None and broker.node.driver.groups[key].is_trusted
