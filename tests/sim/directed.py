"""What directed scenarios share: who coordinates, and a consumer group of one."""

from __future__ import annotations

from typing import Any

from raftlog.cluster.groups import GroupProtocol, JoinRequest
from tests.sim.broker import SimBroker
from tests.sim.cluster import Cluster
from tests.sim.node import SimNode


def coordinator(cluster: Cluster, without: SimBroker | None = None) -> SimBroker:
    """The broker that takes itself for the coordinator; `without` names one that is cut off."""
    return next(b for b in cluster.brokers.values() if b is not without and b.node and b.node.is_coordinator)


def join_alone(node: SimNode, now: float) -> Any:
    """A first member joins group `g`, which is complete at once: the result."""
    joined: list[Any] = []
    node.groups.join(
        JoinRequest(
            group_id="g",
            client_id="c",
            client_host="h",
            session_timeout_ms=30_000,
            rebalance_timeout_ms=30_000,
            protocol_type="consumer",
            protocols=(GroupProtocol("range", b""),),
            require_known_member_id=False,
        ),
        now,
        joined.append,
    )
    (result,) = joined
    return result
