"""Scenarios that random seeds found, made as short as they go."""

from __future__ import annotations

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


def test_a_replica_that_was_made_while_its_broker_was_away_is_not_stranded() -> None:
    """Its broker came back with an empty disk, and may have kept the replica before, for all it knows. It is
    the only one, so that it leads again at once. It was found in the instant before that, and the seed was
    taken to be over (profile members, seed 6)."""
    cluster = Cluster(1, "calm")
    with living_on(cluster.trio):
        _make_while_away(cluster)


def _make_while_away(cluster: Cluster) -> None:
    cluster.form()
    leader = next(b for b in cluster.brokers.values() if b.node and b.node.metadata.is_ready)
    away = next(b for b in cluster.brokers.values() if b is not leader)
    away.kill(End.POWER_LOST)  # it is started again soon
    away.wipe()
    assert leader.node is not None
    leader.node.propose(CreateTopic(name="t", topic_id=TOPIC, partitions=((away.id,),)), lambda result: None)
    key, seen = group_key(TOPIC, 0), set()

    def watch() -> None:
        group = away.node.driver.groups.get(key) if away.node is not None else None
        if group is not None:
            seen.add(group.is_trusted)
            assert not cluster._is_stranded(key)

    cluster.world.after_event = watch
    cluster.world.run_until(cluster.world.now + 5.0)
    assert seen == {False, True}
    assert away.node is not None and away.node.driver.groups[key].is_ready
