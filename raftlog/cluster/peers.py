"""The other brokers: where they are, and which of them are connected, serve clients, are about to stop.

Keeps a connection with each that the catalog or the configuration names. What is said over it belongs to
other parts: each serves its own method of `Calls`, and watches connections come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio

from raftlog.cluster.calls import Calls, Reply
from raftlog.cluster.this_broker import ThisBroker
from raftlog.metadata.catalog import Catalog
from raftlog.raft.driver import Driver
from raftlog.transport.lanes import Lane
from raftlog.transport.links import Address, Links
from raftlog.transport.secret import PeerCredentials, read_secrets
from raftlog.transport.securing import Securing
from raftlog.types import BEFORE_ALL, BrokerId

SETTLED_S: Final = 5.0
"""How long a broker must have been connected before leaderships go back to it."""

Watcher = Callable[[BrokerId], None]


class Peers:
    """The other brokers, as this one talks to them."""

    def __init__(
        self, me: ThisBroker, catalog: Catalog, driver: Driver, stored_cluster_id: str | None
    ) -> None:
        """`stored_cluster_id` is what the data folder says, which knows it before the metadata does. Raises
        ConfigError for a secret that cannot be used. Blocking (a small file)."""
        self._me = me
        self._catalog = catalog
        self.links = Links(
            me.id,
            process=me.incarnation,
            cluster_id=lambda: catalog.cluster_id or stored_cluster_id,
            receive=driver.receive,
            rng=me.rng,
            securing=_securing(me),
            on_note=lambda sender, body: self.calls.receive(sender, body),
            on_connected=self._connected,
            on_disconnected=self._disconnected,
            on_bytes=lambda peer: driver.hear_bytes(peer, trio.current_time()),
        )
        self.links.tell_removed(lambda broker: broker in catalog.removed_brokers)
        send_bulk = partial(self.links.send_note, lane=Lane.LOG)
        self.calls = Calls(self.links.send_note, send_bulk, incarnation=me.incarnation)
        self.calls.serve("leaving", self._on_leaving)
        self._has_joined = False
        self._named: dict[BrokerId, list[Address]] = {}
        """Whoever was named while the catalog here was older than this start, or than it had been."""
        self._as_of = BEFORE_ALL
        """The newest catalog of this start."""
        self._connected_since: dict[BrokerId, float] = {}
        self._serving: set[BrokerId] = set()
        self._ended: set[BrokerId] = set()
        self._leaving: dict[BrokerId, bytes | None] = {}
        """Which start of a broker is stopping; None for a broker of a build that does not say."""
        self._on_connected: list[Watcher] = []
        self._on_disconnected: list[Watcher] = []

    def __repr__(self) -> str:
        return f"<Peers of {self._me.id}: {sorted(self.known())}>"

    def watch(
        self, *, connected: Watcher = lambda peer: None, disconnected: Watcher = lambda peer: None
    ) -> None:
        """Have these called when a connection was made, and when it has ended. They must not block."""
        self._on_connected.append(connected)
        self._on_disconnected.append(disconnected)

    def catalog_changed(self) -> None:
        """Keep a connection with every broker that the catalog or the configuration names.

        Until this broker has joined, its catalog may be of long ago: who is removed in it may have been added
        again, and even lead. So nobody is let go before, nor while a catalog that was lost comes back."""
        as_of, known = self._catalog.topology_index, self.known()
        if not self._has_joined or as_of < self._as_of:
            self._named |= known
        else:
            self._as_of, self._named = as_of, known
        self.links.set_peers(self._named)

    def joined(self) -> None:
        """This broker is registered, and its catalog as new as that."""
        self._has_joined = True
        self.catalog_changed()

    def known(self) -> dict[BrokerId, list[Address]]:
        """Where the brokers are: as they said when they were started last, or else as the configuration says,
        which knows better when the whole cluster has moved meanwhile."""
        config = self._me.config
        named = {**config.join, **config.peers}
        known = {
            broker.id: [Address(broker.peer_host, broker.peer_port)]
            for broker in self._catalog.brokers.values()
            if broker.peer_host
        }
        for broker, (host, port) in named.items():
            if self._has_joined and broker in self._catalog.removed_brokers and broker not in known:
                continue  # the configuration is older than its removal
            places = known.setdefault(BrokerId(broker), [])
            if Address(host, port) not in places:
                places.append(Address(host, port))
        return known

    def live(self) -> list[BrokerId]:
        """The other brokers that are connected and not fenced."""
        return [
            broker.id
            for broker in self._catalog.brokers.values()
            if not broker.fenced and broker.id != self._me.id and self.links.is_connected(broker.id)
        ]

    def may_take_over(self) -> list[BrokerId]:
        """The brokers that leaderships can be handed to: connected, not stopping themselves, and
        registered since they were started. One that does not reach the metadata leader as it starts can vote
        and lead, and serves no clients."""
        return [b for b in self.known() if b in self._serving and b not in self._leaving]

    def serves(self, peer: BrokerId, incarnation: bytes) -> None:
        """A broker gave a sign of life, which it does once it is registered."""
        if self.links.is_connected(peer):
            self._serving.add(peer)
        if self._leaving.get(peer, incarnation) not in (None, incarnation):
            del self._leaving[peer]  # its farewell came late: it has been started again since

    def note_ended(self, peer: BrokerId) -> None:
        """Nobody listens on the port of a peer whose connection ended: its process is gone."""
        if not self.links.is_connected(peer):
            self._ended.add(peer)

    def has_ended(self, peer: BrokerId) -> bool:
        """Whether a peer's process is gone, and it has not come back since."""
        return peer in self._ended

    def is_settled(self, peer: BrokerId, now: float) -> bool:
        """Whether a broker has been connected for a while: leaders go home only to one that stays."""
        since = self._connected_since.get(peer)
        return since is not None and now - since >= SETTLED_S

    def leave(self) -> None:
        """Tell the others that this broker is stopping: nothing should be handed to it."""
        for broker in self.known():
            self.calls.tell(broker, "leaving", self._me.incarnation)

    def _on_leaving(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        self._leaving[sender] = body if isinstance(body, bytes) else None

    def _connected(self, peer: BrokerId) -> None:
        self._connected_since[peer] = trio.current_time()
        self._ended.discard(peer)
        for watcher in self._on_connected:
            watcher(peer)

    def _disconnected(self, peer: BrokerId) -> None:
        self._connected_since.pop(peer, None)
        self._serving.discard(peer)
        self._leaving.pop(peer, None)
        for watcher in self._on_disconnected:
            watcher(peer)
        self.calls.link_ended(peer)


def _securing(me: ThisBroker) -> Securing:
    """As the configuration says."""
    file = me.config.str("raftlog.peer.secret.file")
    if not file:
        return Securing()
    return Securing(
        PeerCredentials(me.id, read_secrets(file)),
        is_required=me.config.bool("raftlog.peer.secret.required"),
    )
