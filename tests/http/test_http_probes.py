"""Probes (scenarios 1 to 3 of the console's guide)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raftlog.testing.processes import BrokerProcess, ClusterProcesses
from tests.http.raw import ask


def _wait(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def _lives(broker: BrokerProcess) -> bool:
    try:
        return ask(broker, "/livez").status == 200
    except ConnectionRefusedError:
        return False


@pytest.mark.slow
def test_1_2_and_3_probes_say_what_a_cluster_waits_for(tmp_path: Path) -> None:
    cluster = ClusterProcesses(tmp_path, 3, http=True)
    one, two, three = cluster.brokers.values()
    with cluster:
        # 1: a cluster's first start takes all of its founders, since two empty ones cannot know of a third
        one.launch()
        two.launch()
        _wait(lambda: _lives(one) and _lives(two))
        _wait(lambda: "broker 3 is not connected" in ask(one, "/readyz").body.decode())
        answer = ask(one, "/readyz")
        assert (answer.status, answer.json()["status"]) == (503, "starting")
        assert ask(one, "/v1/status/ready").json() == {"status": "booting"}
        three.launch()
        for broker in (one, two, three):
            broker.wait_ready()
            _wait(lambda broker=broker: ask(broker, "/readyz").status == 200)  # type: ignore[misc]
        plain = ask(one, "/readyz", headers={"Accept": "text/plain"})
        assert plain.body == b"broker 1 is ready\n"
        # 2: without a majority a broker lives, and is not ready after a while
        two.kill()
        three.kill()
        _wait(lambda: ask(one, "/readyz").status == 503)
        (check,) = [check for check in ask(one, "/readyz").json()["checks"] if not check["ok"]]
        assert check["name"] == "metadata"
        assert "brokers 2, 3 are not connected" in check["detail"]
        assert ask(one, "/livez").status == 200
        # It comes back by itself
        two.start()
        _wait(lambda: ask(one, "/readyz").status == 200)
        # 3: a broker that was told to stop is not ready, and ends. Nobody takes over what it leads at first.
        said = ask(one, "/api/v1/raft/__cluster_metadata/0").json()["said_by"]
        (leader,) = [int(id) for id, view in said.items() if view and view["role"] == "leader"]
        stops = cluster.brokers[leader]
        others = [broker for broker in (one, two) if broker is not stops]
        for broker in others:
            broker.pause()
        os.kill(stops.pid, signal.SIGTERM)
        _wait(lambda: ask(stops, "/readyz").json()["status"] == "stopping")
        for broker in others:
            broker.resume()
        assert stops.wait() == 0
