"""A coordinator stays in office while it applies what it has committed itself."""

from __future__ import annotations

from raftlog.metadata.commands import encode_command
from raftlog.metadata.groups import StoreGroup
from tests.sim.cluster import Cluster
from tests.sim.directed import coordinator, join_alone
from tests.sim.replaced import living_on


def test_who_applies_many_commands_at_once_stays_in_office() -> None:
    cluster = Cluster(1, "calm")
    with living_on(cluster.trio):
        cluster.form()
        world = cluster.world
        world.run_until(world.now + 2.0)
        node = coordinator(cluster).node
        assert node is not None
        term = node.metadata.group.term
        told: list[object] = []
        join_alone(node, world.now)
        offices: list[bool] = []
        world.after_event = lambda: offices.append(node.is_coordinator)
        for number in range(3):
            row = bytes(100 << 10)
            command = StoreGroup(group=f"big{number}", generation=1, members=(("m", row),), at_ms=0)
            node.propose_here(encode_command(command), told.append)
        world.run_until(world.now + 1.0)
        assert len(told) == 3 and node.metadata.group.term == term
        assert all(offices), "it led all the time"
