"""With whom a broker keeps a connection."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, cast

import pytest

from raftlog.cluster.peers import Peers
from raftlog.cluster.this_broker import ThisBroker
from raftlog.config import BrokerConfig
from raftlog.metadata.catalog import BrokerInfo, Catalog
from raftlog.types import BrokerId
from tests.clocks import STILL

NAMED, OTHER = BrokerId(1), BrokerId(3)


class World:
    """Broker 4, which is told of broker 1 and starts with an old catalog that has broker 3."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        config = BrokerConfig.of({"node.id": "4", "raftlog.join": "1@127.0.0.1:9192"})
        me = ThisBroker.of(config, rng=random.Random(1), clock=STILL)
        self.catalog = Catalog()
        self.peers = Peers(me, self.catalog, cast(Any, self), None)
        self.connected: set[BrokerId] = set()
        monkeypatch.setattr(self.peers.links, "set_peers", self._set)
        self.catalog.brokers[OTHER] = BrokerInfo(
            id=OTHER, host="h", port=9092, peer_host="127.0.0.1", peer_port=9193
        )
        self.peers.catalog_changed()

    def _set(self, peers: Mapping[BrokerId, object]) -> None:
        self.connected = set(peers)

    def receive(self, sender: BrokerId, messages: object) -> None:
        """As the driver does."""

    def remove(self, broker: BrokerId) -> None:
        self.catalog.brokers.pop(broker, None)
        self.catalog.removed_brokers[broker] = None
        self.peers.catalog_changed()


def test_while_it_joins_nobody_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emptied broker applied that the leader had been removed, long ago, and refused the leader: the rest
    of the log, in which that one is added again, never came."""
    world = World(monkeypatch)
    world.remove(NAMED)
    world.remove(OTHER)
    assert world.connected == {NAMED, OTHER}


def test_once_it_has_joined_the_removed_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.remove(NAMED)
    world.peers.joined()
    assert world.connected == {OTHER}
    world.remove(OTHER)
    assert world.connected == set()


def test_a_farewell_that_comes_late_says_nothing_of_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the simulation (seed 910008): it came after the broker had been started again, which
    was handed no leadership any more, so that a move to it never ended."""
    world = World(monkeypatch)
    peers = world.peers
    monkeypatch.setattr(peers.links, "is_connected", lambda broker: broker == OTHER)
    peers.serves(OTHER, b"first")
    assert peers.may_take_over() == [OTHER]
    peers._on_leaving(OTHER, b"first", lambda answer: None)
    peers.serves(OTHER, b"first")  # it stops, and lives as yet
    assert peers.may_take_over() == []
    peers.serves(OTHER, b"second")
    assert peers.may_take_over() == [OTHER]
    peers._on_leaving(OTHER, b"first", lambda answer: None)
    peers.serves(OTHER, b"second")
    assert peers.may_take_over() == [OTHER]
