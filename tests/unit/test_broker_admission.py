"""How many connections are let in, by where they come from."""

from __future__ import annotations

from raftlog.broker.admission import Admission
from raftlog.config import BrokerConfig


def admission(**settings: str) -> Admission:
    return Admission(BrokerConfig.of({name.replace("_", "."): value for name, value in settings.items()}))


def test_an_address_has_its_share_and_gets_it_back() -> None:
    door = admission(max_connections_per_ip="2")
    assert [door.enter("1.1.1.1") for _ in range(2)] == [None, None]
    assert door.enter("1.1.1.1") == "2 connections of it are open (max.connections.per.ip)"
    assert door.enter("2.2.2.2") is None
    door.leave("1.1.1.1")
    assert door.enter("1.1.1.1") is None
    assert door.count == 3


def test_single_addresses_may_have_more_or_none() -> None:
    door = admission(max_connections_per_ip="1", max_connections_per_ip_overrides="::1:3,1.1.1.1:0")
    assert [door.enter("::1") is None for _ in range(4)] == [True, True, True, False]
    assert door.enter("1.1.1.1") is not None
    assert [door.enter("2.2.2.2") is None for _ in range(2)] == [True, False]


def test_all_together_have_a_limit_too() -> None:
    door = admission(max_connections="2")
    assert [door.enter(host) for host in ("a", "b")] == [None, None]
    assert door.enter("c") == "2 connections are open (max.connections)"
    door.leave("a")
    door.leave("b")
    assert (door.count, door.enter("c")) == (0, None)
