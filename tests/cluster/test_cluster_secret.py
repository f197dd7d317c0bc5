"""Brokers as processes that are given a secret while they serve, and strangers at their peer ports."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path

import pytest

from raftlog.protocol.errors import ErrorCode
from raftlog.testing.processes import ClusterProcesses
from raftlog.transport.wire import FORMAT_VERSION, encode_hello
from tests.cluster.create import create
from tests.cluster.raw import RawClient
from tests.cluster.test_cluster_misconfigured import peers_of, refusal, until_said, writes

pytest.importorskip("cryptography", reason="the extra `dev` has grown: make .venv/.ready")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]


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
                writes(cluster)
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
        writes(cluster)


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
