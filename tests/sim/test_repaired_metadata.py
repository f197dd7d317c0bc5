"""A broker that loses its metadata while it runs keeps its connections: its configuration may not name who
leads."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from raftlog.types import METADATA_GROUP
from tests.sim.cluster import Cluster
from tests.sim.directed import coordinator
from tests.sim.replaced import living_on


def test_who_loses_its_metadata_is_filled_by_a_leader_that_its_configuration_does_not_name() -> None:
    cluster = Cluster(1, "calm")
    with living_on(cluster.trio):
        cluster.form()
        world = cluster.world
        world.run_until(world.now + 2.0)
        leader = coordinator(cluster)
        broker, named, *_ = [b for b in cluster.brokers.values() if b is not leader]
        node = broker.node
        assert node is not None
        # It was started with --join of a broker that is there, and does not lead; and its links are as the
        # real ones are: they end with who is no peer, who is refused from then on.
        peers = node.real._peers
        config = SimpleNamespace(join={named.id: (f"broker{named.id}", 9192)}, peers={})
        cast(Any, peers)._me = SimpleNamespace(
            id=broker.id, config=config, incarnation=node.real.me.incarnation
        )

        def set_peers(wanted: Mapping[Any, Any]) -> None:
            cluster.links.heal()
            for other in cluster.brokers.values():
                if other is not broker and other.id not in wanted:
                    cluster.links.cut(broker.id, other.id)
                    cluster.links.cut(other.id, broker.id)

        cast(Any, node.links).set_peers = set_peers
        cluster.invariants.rots(broker)
        node.store.logs[METADATA_GROUP].damage.lost = "found by a read"
        world.run_until(world.now + 60.0)
        assert node.catalog.cluster_id is not None, "the leader has filled it again"
