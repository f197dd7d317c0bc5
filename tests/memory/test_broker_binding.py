"""Listening at every address that a host has, on this machine's own ones."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlog.broker.binding import listen
from raftlog.broker.server import Broker
from raftlog.config import BrokerConfig


@contextlib.contextmanager
def listening(host: str, port: int = 0) -> Iterator[list[socket.socket]]:
    sockets = listen(host, port)
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["", "localhost"])
def test_every_family_is_bound_at_one_port(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [
        (family, socket.SOCK_STREAM, 6, "", (address, 0))
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
    ]
    if host == "localhost":  # some machines name one of the two only
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with listening(host) as sockets:
        assert len(sockets) == (2 if has_ipv6() else 1)
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        monkeypatch.undo()
        for address in ("127.0.0.1", "::1")[: len(sockets)]:
            socket.create_connection((address, sockets[0].getsockname()[1]), timeout=30).close()


def test_an_address_that_the_machine_does_not_have_is_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many containers name ::1 localhost, and have no IPv6."""
    elsewhere = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
    here = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [elsewhere, here, here])
    with listening("localhost") as sockets:
        assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [elsewhere])
    with pytest.raises(OSError) as refused:
        listen("localhost", 0)
    assert refused.value.errno == errno.EADDRNOTAVAIL


def test_a_port_that_is_taken_in_one_family_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("127.0.0.1") as (taken,):
        port = taken.getsockname()[1]
        both = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        with pytest.raises(OSError) as refused:
            listen("localhost", port)
        assert refused.value.errno == errno.EADDRINUSE
        monkeypatch.undo()
        with listening("127.0.0.2", port):
            pass  # nothing was left open there


@pytest.mark.parametrize(
    ("options", "is_open"),
    [
        ({"raftlog.peer.listen": "0.0.0.0:0", "raftlog.peers": "1@a:9192,2@b:9192"}, True),
        ({"raftlog.peer.listen": ":0", "raftlog.join": "2@b:9192"}, True),
        ({"raftlog.peer.listen": "127.0.0.1:0", "raftlog.peers": "1@a:9192,2@b:9192"}, False),
        ({"raftlog.peer.listen": "localhost:0", "raftlog.peers": "1@a:9192,2@b:9192"}, False),
        ({"raftlog.peer.listen": "0.0.0.0:0"}, False),
    ],
    ids=["founds", "joins", "loopback", "localhost", "a cluster of one"],
)
def test_a_broker_says_once_that_others_than_brokers_may_reach_its_peer_port(
    options: dict[str, str], is_open: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common = {"node.id": "1", "listeners": "PLAINTEXT://127.0.0.1:0", "log.dirs": str(tmp_path / "data")}
    Broker.open(BrokerConfig.of(common | options)).close()
    said = [each.getMessage() for each in caplog.records if "open to whoever" in each.getMessage()]
    assert len(said) == is_open
    assert all(options["raftlog.peer.listen"] in each for each in said)
