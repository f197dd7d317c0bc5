"""A broker that was added, and has started since, stays what it is when the addition is proposed again."""

from __future__ import annotations

from functools import partial
from typing import Any

from raftlog.metadata.brokers import UnregisterBroker
from tests.sim.broker import End
from tests.sim.cluster import Cluster
from tests.sim.directed import coordinator
from tests.sim.replaced import living_on


def test_an_addition_whose_answer_was_lost_does_not_replace_the_broker_that_has_started() -> None:
    cluster = Cluster(1, "calm")
    with living_on(cluster.trio):
        cluster.form()
        world = cluster.world
        world.run_until(world.now + 1.0)
        leader = coordinator(cluster)
        added, asked, *_ = [b for b in cluster.brokers.values() if b is not leader]
        assert leader.node is not None and asked.node is not None
        catalog = leader.node.catalog
        # `added` has left the cluster.
        added.on_end = lambda broker, how: None
        leader.node.propose(UnregisterBroker(broker_id=added.id), lambda result: None)
        added.kill(End.KILLED)
        world.run_until(world.now + 1.0)
        assert added.id not in catalog.brokers
        # It is added again, and started. The answer to whom the operator asked is lost.
        cluster.links.cut(leader.id, asked.id)
        told: list[Any] = []
        add = partial(asked.node.real.operations.add_broker, added.id, f"broker{added.id}", 9192)
        asked.node.ask(add, told.append)
        world.run_until(world.now + 0.3)
        assert catalog.brokers[added.id].incarnation == bytes(16) and not told
        added.start()
        world.run_until(world.now + 1.2)
        node = added.node
        assert node is not None
        mine = node.real.me.incarnation
        assert catalog.brokers[added.id].incarnation == mine, "it is registered"
        cluster.links.reset(leader.id, asked.id)
        cluster.links.heal()
        world.run_until(world.now + 60.0)
        now = catalog.brokers[added.id]
        assert now.incarnation == mine and now.port == 9092 and not now.fenced
