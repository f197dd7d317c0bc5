"""`raftlog cluster` against three brokers, one of which goes away."""

from __future__ import annotations

import json
import time
from typing import Any

from raftlog.testing import running_cluster
from tests.cli.conftest import Run

PATIENCE_S = 60.0


def test_health_names_what_is_amiss_and_says_so_with_its_exit_code(raftlog: Run) -> None:
    with running_cluster(3, broker_session_timeout_ms=1000) as cluster:
        cluster.create_topic("orders", partitions=2)
        at = ("-b", cluster.bootstrap)
        assert raftlog("cluster", "health", *at).stdout == b"healthy: 3 brokers, 2 partitions\n"

        cluster.faults.kill(3)
        deadline = time.monotonic() + PATIENCE_S
        while not _is_noticed(json.loads(raftlog("cluster", "status", "--format", "json", *at).stdout)):
            assert time.monotonic() < deadline
        said = raftlog("cluster", "health", *at, code=1).stdout
        assert said.splitlines() == [
            b"broker 3 is down",
            b"orders: 2 partitions with replicas on brokers that are down: 0,1",
        ]
        report = json.loads(raftlog("cluster", "health", "--format", "json", *at, code=1).stdout)
        assert report == {"healthy": False, "problems": [line.decode() for line in said.splitlines()]}


def _is_noticed(status: dict[str, Any]) -> bool:
    """Broker 3 counts as down, and others have taken over what it led."""
    states = {broker["broker"]: broker["state"] for broker in status["brokers"]}
    return states[3] == "down" and status["without_leader"] == 0
