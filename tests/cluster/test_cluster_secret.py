"""Brokers as processes that are given a secret while they serve, and strangers at their peer ports."""

from __future__ import annotations

import base64
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from raftlog.protocol.errors import ErrorCode
from raftlog.testing.processes import ClusterProcesses
from raftlog.transport.wire import FORMAT_VERSION, encode_hello
from tests.cluster.create import create, leaders_of, produce
from tests.cluster.raw import RawClient
from tests.cluster.test_cluster_misconfigured import SAID_S, peers_of, refusal, until_said

pytest.importorskip("cryptography", reason="the extra `dev` has grown: make .venv/.ready")

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("cluster")]


def test_a_running_cluster_is_given_a_secret_and_lets_no_stranger_in(tmp_path: Path) -> None:
    """Scenario 50: a broker is down, and somebody who knows the cluster id says hello in its name."""
    secret = tmp_path / "peer.secret"
    secret.write_bytes(base64.b64encode(os.urandom(32)))
    secret.chmod(0o600)
    with ClusterProcesses(tmp_path) as cluster:
        cluster.start()
        with RawClient(cluster.brokers[1]) as client:
            assert create(client, "t", 3, 3) is ErrorCode.NONE
        for required in ("false", "true"):
            for broker in cluster.brokers.values():
                broker.stop()
                broker.options["raftlog.peer.secret.file"] = secret
                broker.options["raftlog.peer.secret.required"] = required
                broker.start()
                until_written(cluster)
        folder = cluster.brokers[1].data_dir
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not any(stat.S_IMODE(path.stat().st_mode) & 0o077 for path in folder.rglob("*"))
        cluster.brokers[3].kill()
        answer = say_hello(peers_of(cluster), process=b"stranger")
        assert answer == b""
        until_said(cluster.brokers[1], "it has no secret of the cluster: it speaks plain text")

        secret.chmod(0o644)
        assert f"chmod 600 {secret}" in refusal(cluster.brokers[3])
        secret.chmod(0o600)
        other = tmp_path / "other.secret"
        other.write_bytes(base64.b64encode(os.urandom(32)))
        other.chmod(0o600)
        cluster.brokers[3].options["raftlog.peer.secret.file"] = other
        cluster.brokers[3].launch()
        until_said(cluster.brokers[1], "the other side has another secret of the cluster, and says so")
        until_said(cluster.brokers[3], "the other side has another secret of the cluster:")
        cluster.brokers[3].kill()
        cluster.brokers[3].options["raftlog.peer.secret.file"] = secret
        cluster.brokers[3].start()
        until_written(cluster)


def until_written(cluster: ClusterProcesses) -> None:
    """Each partition takes a record. After a restart leaderships go home: who is asked may just have given
    one away, and says so, as it does to every client."""
    deadline = time.monotonic() + SAID_S
    for partition in range(3):
        code = ErrorCode.LEADER_NOT_AVAILABLE
        while code is not ErrorCode.NONE:
            assert time.monotonic() < deadline, code
            assert code in (ErrorCode.LEADER_NOT_AVAILABLE, ErrorCode.NOT_LEADER_OR_FOLLOWER), code
            with RawClient(cluster.brokers[1]) as client:
                leaders = leaders_of(client, "t")
            leader = leaders.get(partition, -1) if isinstance(leaders, dict) else -1
            if leader in cluster.brokers:
                with RawClient(cluster.brokers[leader]) as client:
                    code = produce(client, "t", [partition])[partition]
            time.sleep(0.05)


def say_hello(peers: str, *, process: bytes) -> bytes:
    """As broker 3 to broker 1; what comes back until it closes."""
    host, _, port = peers.split(",")[0].partition("@")[2].rpartition(":")
    hello = {
        "raftlog": FORMAT_VERSION,
        "cluster": None,
        "broker": 3,
        "process": process,
        "pieces": 1,
    }
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(encode_hello(hello))
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            return b""
