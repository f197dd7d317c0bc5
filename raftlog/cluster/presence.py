"""Which brokers are there: what each says of itself twice a second, and what clients are told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from raftlog.cluster.calls import Reply
from raftlog.cluster.changes import Changes
from raftlog.cluster.hints import Hints
from raftlog.cluster.liveness import ALIVE_INTERVAL
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.peers import Peers
from raftlog.cluster.this_broker import ThisBroker
from raftlog.errors import InvalidInput
from raftlog.metadata.catalog import BrokerInfo
from raftlog.types import BrokerId

HEARD_S: Final = 3 * ALIVE_INTERVAL
"""How long a sign of life counts for where replicas are placed."""
NEVER: Final = float("-inf")


class Presence:
    """Signs of life, given and heard."""

    def __init__(
        self,
        me: ThisBroker,
        metadata: MetadataGroup,
        peers: Peers,
        hints: Hints,
        changes: Changes,
        *,
        on_heard: Callable[[BrokerId, bytes], None],
    ) -> None:
        """`on_heard` gets every sign of life, this broker's own too: (broker, incarnation)."""
        self._me = me
        self._metadata = metadata
        self._peers = peers
        self._hints = hints
        self._changes = changes
        self._on_heard = on_heard
        self._heard_at: dict[BrokerId, float] = {}
        self._is_running = False
        peers.calls.serve("alive", self._on_alive)
        peers.watch(connected=self._connected, disconnected=self._disconnected)

    async def run(self) -> None:
        """Tell every broker that this one lives, until cancelled: the metadata leader, which fences those
        that it does not hear, and the others, which place replicas and hand leaderships over. To be called
        once this broker is registered."""
        me = self._me
        self._is_running = True
        while True:
            self._on_heard(me.id, me.incarnation)
            for broker in self._peers.known():
                self._tell(broker)
            await trio.sleep(ALIVE_INTERVAL)

    @property
    def has_metadata_leader(self) -> bool:
        """Whether somebody leads the metadata: without, nothing of the cluster can change."""
        return self._metadata.leader is not None

    @property
    def is_cut_off(self) -> bool:
        """Whether nobody leads the metadata, as far as is known here, and this broker hears too few to elect
        anybody: the others may go on without it."""
        brokers = self._metadata.catalog.brokers
        return not self.has_metadata_leader and 2 * sum(map(self.hears, brokers)) <= len(brokers)

    def is_in_session(self, broker: BrokerInfo) -> bool:
        """Whether the cluster hears of a broker, or has heard of it within `broker.session.timeout.ms`, or it
        leads something, or it is this one, which the client has reached. While nobody leads the metadata
        nobody is fenced: then those count that this broker is connected with."""
        heard = not broker.fenced if self.has_metadata_leader else self._peers.links.is_connected(broker.id)
        return heard or broker.id == self._me.id or self._hints.leads(broker.id)

    def is_alive(self, broker: BrokerInfo) -> bool:
        """Whether a broker is in session, and its process is not gone."""
        is_gone = self._peers.has_ended(broker.id) and not self._hints.leads(broker.id)
        return self.is_in_session(broker) and not is_gone

    def hears(self, broker: BrokerId) -> bool:
        """Whether a broker gave this one a sign of life within the last second or so."""
        since = trio.current_time() - self._heard_at.get(broker, NEVER)
        return broker == self._me.id or since <= HEARD_S

    def is_late(self, broker: BrokerInfo) -> bool:
        """Whether a broker was fenced for its silence although it is there: its machine is busy."""
        return broker.fenced and (broker.id == self._me.id or self._peers.links.is_connected(broker.id))

    def _tell(self, broker: BrokerId) -> None:
        self._peers.calls.tell(broker, "alive", self._me.incarnation)

    def _on_alive(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        if not isinstance(body, bytes):
            raise InvalidInput(f"broker {sender} is alive as {body!r}")
        self._heard_at[sender] = trio.current_time()
        self._peers.serves(sender, body)
        self._on_heard(sender, body)

    def _connected(self, peer: BrokerId) -> None:
        self._heard_at[peer] = trio.current_time()
        if self._is_running:
            self._tell(peer)
        self._changes.tell()

    def _disconnected(self, peer: BrokerId) -> None:
        self._heard_at.pop(peer, None)
