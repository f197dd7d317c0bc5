"""How a broker enters its cluster when it starts: the cluster gets a name, and the broker a place in it.

No two brokers are told to be at one address: clients and peers would take one for the other. It is checked
by who registers, and not when a registration is applied: what old logs hold came to what it came to.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import trio

from raftlog.config.addresses import join_host_port
from raftlog.errors import ConfigError
from raftlog.metadata.catalog import BrokerInfo
from raftlog.metadata.commands import InitializeCluster, RegisterBroker
from raftlog.metadata.results import Refused
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.cluster.node import Node

POLL_S: Final = 0.1
"""How often a broker looks whether another, whose address it has, is there."""

log = logging.getLogger("raftlog.cluster")

Start = tuple[BrokerId, bytes]
"""One start of a broker: its id and incarnation."""


async def join(node: Node) -> None:
    """Name the cluster if it has no name yet, and say where this broker is.

    Raises ConfigError when the cluster does not take it in, or another broker is there where this one says
    that it is.
    """
    while node.catalog.cluster_id is None:
        if node.metadata.is_ready:
            cluster_id = node.store.cluster_id or node.new_cluster_id()
            await node.insist(InitializeCluster(cluster_id=cluster_id))
        else:
            await node.wait_for_change()
    if node.store.cluster_id is None:
        node.store.set_cluster_id(node.catalog.cluster_id)
    registration = node.registration()
    gone: set[Start] = set()
    if node.config.peers or node.config.join:
        # Changes nothing; once it is applied here, this broker knows where the others are now.
        await node.insist(InitializeCluster(cluster_id=node.catalog.cluster_id))
        await _until_place_is_free(node, registration, gone)
    result = await node.insist(registration)
    if isinstance(result, Refused):
        raise ConfigError(f"the cluster does not take broker {node.broker_id} in: {result.detail}")
    # Of two that started at once each found the place free: the second to be registered finds it taken.
    await _until_place_is_free(node, registration, gone)


async def _until_place_is_free(node: Node, mine: RegisterBroker, gone: set[Start]) -> None:
    """Raises ConfigError when a broker that runs has an address of this registration. One that cannot be
    heard gets a session time-out to show that it lives; then its address is taken over. `gone` are those
    that are known to be over."""
    give_up = trio.current_time() + node.config.int("broker.session.timeout.ms") / 1000
    waits_for: set[Start] = set()
    while True:
        is_free = True
        for other, place in same_place(node.catalog.brokers.values(), mine):
            start = (other.id, other.incarnation)
            if start in gone:
                continue
            process = node.peers.links.process_of(other.id)
            if process == other.incarnation:
                raise ConfigError(
                    f"{place} is where broker {other.id} is, which is running: every broker needs addresses"
                    " of its own for clients (advertised.listeners) and brokers (raftlog.peer.advertise)"
                )
            if process is not None or other.fenced or trio.current_time() >= give_up:
                gone.add(start)
                log.warning("%s was broker %d's, which is not there any more: taken over", place, other.id)
                continue
            is_free = False
            if start not in waits_for:
                waits_for.add(start)
                log.warning("%s is broker %d's: waits to see whether that one is running", place, other.id)
        if is_free:
            return
        with trio.move_on_after(POLL_S):
            await node.wait_for_change()


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
