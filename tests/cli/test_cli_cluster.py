"""`raftlog cluster` against three brokers, one of which goes away."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cbor2
import pytest

from raftlog.testing import running_cluster
from raftlog.testing.broker import BrokerFailed
from raftlog.testing.cluster import EmbeddedCluster
from raftlog.testing.processes import broker_process
from raftlog.version import build
from tests.cli.conftest import Run

PATIENCE_S = 60.0


def test_health_names_what_is_amiss_and_says_so_with_its_exit_code(raftlog: Run) -> None:
    with running_cluster(3, broker_session_timeout_ms=3000) as cluster:
        cluster.create_topic("orders", partitions=2)
        at = ("-b", cluster.bootstrap)
        assert raftlog("cluster", "health", *at).stdout == b"healthy: 3 brokers, 2 partitions\n"

        raftlog("produce", "orders", *at, input=b"one apple\n")
        said = json.loads(raftlog("cluster", "status", "--format", "json", *at).stdout)
        assert said["metadata_leader"] in (1, 2, 3)
        for row in said["brokers"]:
            assert (row["version"], row["uptime_s"] > 0) == (build(), True)
        assert sum(row["bytes"] for row in said["brokers"]) > 0
        shown = raftlog("cluster", "status", *at).stdout.decode()
        assert build() in shown and f"broker {said['metadata_leader']} leads the metadata" in shown

        cluster.faults.kill(3)
        raftlog("produce", "orders", *at, input=b"another\n")
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
    """Broker 3 counts as down and behind, and others have taken over what it led."""
    rows = {row["broker"]: row for row in status["brokers"]}
    gone = rows[3]["state"] == "down" and rows[3]["version"] is None and rows[3]["lag"] > rows[1]["lag"]
    return bool(gone and status["without_leader"] == 0)


def test_a_broker_that_is_too_old_for_its_cluster_says_so(
    raftlog: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer one has proposed what is in the log: to go on without it is to have another catalog."""
    cluster = EmbeddedCluster(1, data_dir=tmp_path)
    with pytest.raises(BrokerFailed), cluster:
        (broker,) = cluster.brokers
        command = cbor2.dumps([1, "make_coffee", {}])

        async def propose() -> None:
            broker.inside.metadata.propose(command, now_ms=1, on_done=lambda outcome: None)

        broker.call(propose)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            broker.check()
            time.sleep(0.01)
    caplog.clear()
    raftlog("serve", "--data-dir", str(tmp_path / "broker-1"), "--listen", "127.0.0.1:0", code=2)
    assert "is of a newer raftlog" in caplog.text and "make_coffee" in caplog.text


def test_an_ipv6_address_is_shown_as_it_is_written(raftlog: Run, tmp_path: Path) -> None:
    with broker_process(tmp_path / "data", host="[::1]") as broker:
        said = raftlog("cluster", "status", "-b", broker.bootstrap).stdout.decode()
        assert f" {broker.bootstrap} " in said


def test_a_drained_broker_is_given_nothing_back(raftlog: Run) -> None:
    with running_cluster(3) as cluster:
        cluster.create_topic("orders", partitions=2, replication_factor=2)
        at = ("-b", cluster.bootstrap)
        raftlog("cluster", "drain", "1", *at)
        assert _kept(raftlog, *at)[1] == ("draining", 0)

        said = raftlog("cluster", "drain", "2", *at, code=1).stderr
        assert b"only 1 of the other brokers may be given one" in said
        raftlog("cluster", "rebalance", *at)
        assert _kept(raftlog, *at) == {1: ("draining", 0), 2: ("alive", 2), 3: ("alive", 2)}

        raftlog("cluster", "drain", "1", "--undo", *at)
        raftlog("cluster", "rebalance", *at)
        assert {state for state, _ in _kept(raftlog, *at).values()} == {"alive"}
        assert _kept(raftlog, *at)[1][1] == 1


def _kept(raftlog: Run, *at: str) -> dict[int, tuple[str, int]]:
    """The state of each broker, and how many replicas it keeps."""
    status = json.loads(raftlog("cluster", "status", "--format", "json", *at).stdout)
    return {broker["broker"]: (broker["state"], broker["replicas"]) for broker in status["brokers"]}


def test_without_a_majority_the_brokers_that_are_missing_are_named(raftlog: Run) -> None:
    with running_cluster(3) as cluster:
        cluster.create_topic("orders", partitions=1)
        at = ("-b", cluster.brokers[0].bootstrap)
        cluster.faults.kill(2)
        cluster.faults.kill(3)
        deadline = time.monotonic() + PATIENCE_S
        while json.loads(raftlog("cluster", "status", "--format", "json", *at).stdout)["metadata_has_leader"]:
            assert time.monotonic() < deadline
        said = raftlog("cluster", "health", *at, code=1).stdout.splitlines()
        assert said[0].startswith(b"the metadata has no leader: ")
        assert said[1:3] == [b"broker 2 is down", b"broker 3 is down"]
        assert {broker: state for broker, (state, _) in _kept(raftlog, *at).items()} == {
            1: "alive",
            2: "down",
            3: "down",
        }
