"""Whether a peer that was lost has ended: found out by knocking at its port.

The kernel refuses connections to a port nobody listens on: the process is gone, and the groups that it led
need not wait for the election time-out. A peer that is merely cut off is not heard of so fast. A refusal that
lies (a firewall that rejects) costs an election, nothing else: there are no leases.
"""

from __future__ import annotations

from typing import Final

import trio

from raftlog.cluster.peers import Peers
from raftlog.net.dialing import why_not_connected
from raftlog.raft.driver import Driver
from raftlog.types import BrokerId

PROBE_TIMEOUT_S: Final = 0.2
"""How long a connection attempt to a lost peer may take; a refusal comes at once."""
PROBES: Final = 10
PROBE_INTERVAL_S: Final = 0.02


class Probing:
    """Looks after each peer whose connection has ended."""

    def __init__(self, peers: Peers, driver: Driver) -> None:
        self._peers = peers
        self._driver = driver
        self._lost: list[BrokerId] = []
        self._lost_one = trio.Event()
        peers.watch(disconnected=self._disconnected)

    def _disconnected(self, peer: BrokerId) -> None:
        self._lost.append(peer)
        self._lost_one.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._lost_one.wait()
            self._lost_one = trio.Event()
            lost, self._lost = self._lost, []
            async with trio.open_nursery() as nursery:
                for peer in lost:
                    nursery.start_soon(self._probe, peer)

    async def _probe(self, peer: BrokerId) -> None:
        # A process that ends closes its connections and its listener one after the other.
        for _ in range(PROBES):
            if await self._is_refused(peer):
                self._peers.note_ended(peer)
                self._driver.peer_is_gone(peer, trio.current_time())
                return
            await trio.sleep(PROBE_INTERVAL_S)

    async def _is_refused(self, peer: BrokerId) -> bool:
        places = self._peers.known().get(peer)
        if places is None:
            return False
        with trio.move_on_after(PROBE_TIMEOUT_S):
            try:
                stream = await trio.open_tcp_stream(places[0].host, places[0].port)
            except OSError as error:
                return isinstance(why_not_connected(error), ConnectionRefusedError)
            await stream.aclose()
        return False
