"""How a broker enters its cluster when it starts: the cluster gets a name, and the broker a place in it.

No two brokers have one address: clients and peers would take one for the other. The broker that registers
checks that. Applying a registration does not check it: old logs hold some that were applied without, and a
replay must come to the same catalog.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import Final

import trio

from raftlog.cluster.changes import Changes
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.proposer import Proposer
from raftlog.cluster.this_broker import ThisBroker
from raftlog.config.addresses import join_host_port
from raftlog.errors import ConfigError
from raftlog.metadata.brokers import RegisterBroker
from raftlog.metadata.catalog import BrokerInfo
from raftlog.metadata.cluster import InitializeCluster
from raftlog.metadata.noun import Refused
from raftlog.storage.store import Store
from raftlog.types import BrokerId

POLL_S: Final = 0.1
"""How often a broker looks whether another, whose address it has, is there."""

REMOVED_POLL_S: Final = 1.0
"""How often a broker that starts looks whether it was removed; all others have been dialled once by then."""

log = logging.getLogger("raftlog.cluster")

Start = tuple[BrokerId, bytes]
"""One start of a broker: its id and incarnation."""


class Joining:
    """Names the cluster if it has no name yet, and says where this broker is."""

    def __init__(
        self,
        me: ThisBroker,
        registration: RegisterBroker,
        store: Store,
        metadata: MetadataGroup,
        proposer: Proposer,
        changes: Changes,
        *,
        process_of: Callable[[BrokerId], bytes | None],
        removed_by: Callable[[], Collection[BrokerId]],
    ) -> None:
        """`process_of` tells which start of a broker is connected, if any, `removed_by` who has said that
        this one was removed from the cluster."""
        self._me = me
        self._registration = registration
        self._store = store
        self._metadata = metadata
        self._catalog = metadata.catalog
        self._proposer = proposer
        self._changes = changes
        self._process_of = process_of
        self._removed_by = removed_by
        self._gone: set[Start] = set()
        """Those that are known to be over."""

    async def join(self) -> None:
        """Returns when this broker is registered, as of its own catalog.

        Raises ConfigError when the cluster does not take it in, or another broker is there where this one
        says that it is.
        """
        cluster_id = await self._named()
        if self._store.cluster_id is None:
            self._store.set_cluster_id(cluster_id)
        config = self._me.config
        if config.peers or config.join:
            # Changes nothing; once it is applied here, this broker knows where the others are now.
            await self._proposer.insist(InitializeCluster(cluster_id=cluster_id))
            await self._until_place_is_free()
        result = await self._proposer.insist(self._registration)
        if isinstance(result, Refused):
            raise ConfigError(f"the cluster does not take broker {self._me.id} in: {result.detail}")
        # Two brokers that start at once both find the place free: the later registration finds it taken here.
        await self._until_place_is_free()

    async def watch_for_removal(self) -> None:
        """Until cancelled, while this broker starts. Raises ConfigError when others say that it was removed,
        and none of them takes it: it would wait for ever."""
        while True:
            await trio.sleep(REMOVED_POLL_S)
            told = self._removed_by()
            if told and not any(self._process_of(broker) for broker in self._catalog.brokers):
                raise ConfigError(
                    f"broker {self._me.id} was removed from this cluster, says broker {min(told)}. To have it"
                    f" back, add it (raftlog cluster add {self._me.id}@HOST:PORT) and start it with an empty"
                    " folder; what is in this folder is needed by nobody"
                )

    async def _named(self) -> str:
        """The cluster's id, once it has one."""
        while self._catalog.cluster_id is None:
            if self._metadata.is_ready:
                cluster_id = self._store.cluster_id or self._me.new_cluster_id()
                await self._proposer.insist(InitializeCluster(cluster_id=cluster_id))
            else:
                await self._changes.wait()
        return self._catalog.cluster_id

    async def _until_place_is_free(self) -> None:
        """Raises ConfigError when a broker that runs has an address of this registration. One that cannot be
        heard gets a session time-out to show that it lives; then its address is taken over."""
        give_up = trio.current_time() + self._me.config.int("broker.session.timeout.ms") / 1000
        waits_for: set[Start] = set()
        while not self._is_free(waits_for, give_up):
            with trio.move_on_after(POLL_S):
                await self._changes.wait()

    def _is_free(self, waits_for: set[Start], give_up: float) -> bool:
        is_free = True
        for other, place in same_place(self._catalog.brokers.values(), self._registration):
            start = (other.id, other.incarnation)
            if start in self._gone:
                continue
            process = self._process_of(other.id)
            if process == other.incarnation:
                raise ConfigError(
                    f"{place} is where broker {other.id} is, which is running: every broker needs addresses"
                    " of its own for clients (advertised.listeners) and brokers (raftlog.peer.advertise)"
                )
            if process is not None or other.fenced or trio.current_time() >= give_up:
                self._gone.add(start)
                log.warning("%s was broker %d's, which is not there any more: taken over", place, other.id)
                continue
            is_free = False
            if start not in waits_for:
                waits_for.add(start)
                log.warning("%s is broker %d's: waits to see whether that one is running", place, other.id)
        return is_free


def same_place(brokers: Iterable[BrokerInfo], mine: RegisterBroker) -> list[tuple[BrokerInfo, str]]:
    """The other brokers that were registered at an address of `mine` before it was, each with the address."""
    known = {broker.id: broker for broker in brokers}
    me = known.pop(mine.broker_id, None)
    is_registered = me is not None and me.incarnation == mine.incarnation
    found = []
    for other in known.values():
        if is_registered and me is not None and other.registered_index > me.registered_index:
            continue
        if common := _places(other) & _places(mine):
            found.append((other, join_host_port(*min(common))))
    return found


def _places(broker: BrokerInfo | RegisterBroker) -> set[tuple[str, int]]:
    """Where a broker is reached. Names are compared as they are written: they mean what they mean where they
    are resolved. Port 0 is that of a broker without such a listener."""
    told = [(host, port) for _, host, port in broker.listeners]
    told += [(broker.host, broker.port), (broker.peer_host, broker.peer_port)]
    return {(host.lower(), port) for host, port in told if port}
