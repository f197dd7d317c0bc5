"""A change of who may log in or do what is in force on every broker when the call that asked for it returns.

Each broker with an authorizer or a listener that asks for logins holds a lease on its own catalog. Twice a
second it asks the metadata leader how much is committed, and once it has applied that, it may decide by its
catalog for LEASE_S from when it *asked*. The leader answers only while a majority takes it for the leader (a
read index), so that whatever the catalog lacked then was committed later than the question. A broker without
a lease decides nothing.

Whoever makes a change waits until every registered broker says that it has applied the change, or until the
leases that began before the change was seen committed have all run out. So a broker that is cut off, stopped
or dead holds nothing up for longer than that, and none goes on by the old rules.

A broker that was removed, or whose place another process took, is registered no more, and may still hold a
lease: the leader does not renew it, and for as long as it may last every change waits for its end, too.

Clocks of brokers may run DRIFT apart, and are of the kind that goes on while a machine sleeps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import trio

from raftlog.cluster.calls import Unreachable
from raftlog.cluster.changes import Changes
from raftlog.cluster.coordination import Coordination
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.peers import Peers
from raftlog.cluster.this_broker import ThisBroker
from raftlog.types import BEFORE_ALL, BrokerId

LEASE_S: Final = 3.0
"""The same on every broker: who waits for another's lease reckons with it."""
RENEWED_EVERY_S: Final = 0.5
DRIFT: Final = 0.1
AFTER_LEASES_S: Final = LEASE_S * (1 + DRIFT)
RETRY_S: Final = 0.1
"""Between two questions to a broker that does not answer."""

log = logging.getLogger("raftlog.cluster")


def boottime() -> float:
    """Seconds, of a clock that does not stand still while the machine or the process does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Enforcement:
    """Keeps this broker's lease, and waits for the others."""

    def __init__(
        self,
        me: ThisBroker,
        metadata: MetadataGroup,
        peers: Peers,
        coordination: Coordination,
        changes: Changes,
        *,
        clock: Callable[[], float] = boottime,
    ) -> None:
        config = me.config
        judges = bool(config.str("authorizer.class.name")) or any(
            config.asks_for_login(listener.name) for listener in config.listeners
        )
        self.is_wanted = judges and config.bool("raftlog.authorizer.lease")
        """Whether a lease is needed: where it does not matter who asks there is nothing to enforce."""
        self._me = me
        self._metadata = metadata
        self._peers = peers
        self._coordination = coordination
        self._changes = changes
        self._clock = clock
        self._until = float("-inf")
        self._renewed = trio.Event()
        self._registered: dict[BrokerId, bytes] = {}
        """Each other broker's start that was seen last."""
        self._as_of = BEFORE_ALL
        is_alone = not config.peers and not config.join
        self._gone_until = float("-inf") if is_alone else clock() + AFTER_LEASES_S
        """Until when a broker that is registered no more may hold a lease. One may have gone just before this
        broker started."""
        if self.is_wanted:
            changes.listen(self._note_gone)

    def __repr__(self) -> str:
        left = self._until - self._clock()
        return f"<Enforcement {'no lease' if left <= 0 else f'{left:.1f} s left'}>"

    @property
    def is_current(self) -> bool:
        """Whether this broker may decide by its catalog. To be asked where a request is handled: a process
        that was stopped finds out here, and a broker whose damaged metadata are being filled again."""
        return not self.is_wanted or (self._clock() < self._until and self._metadata.is_caught_up)

    async def run(self) -> None:
        """Renew the lease until cancelled."""
        if not self.is_wanted:
            return
        was_held = True
        while True:
            if not await self._renew() and self.is_current != was_held:
                was_held = False
                log.warning(
                    "clients are not served: the metadata leader has not been heard for %g s", LEASE_S
                )
            elif self.is_current and not was_held:
                was_held = True
                log.info("clients are served again: the metadata leader is heard")
            await trio.sleep(RENEWED_EVERY_S)

    async def _renew(self) -> bool:
        asked_at = self._clock()
        with trio.move_on_after(LEASE_S):
            if await self._coordination.catch_up():
                self._extend(asked_at)
                return True
        return False

    def _extend(self, asked_at: float) -> None:
        self._until = max(self._until, asked_at + LEASE_S)
        renewed, self._renewed = self._renewed, trio.Event()
        renewed.set()

    async def wait_until_current(self) -> None:
        """Until this broker may decide; the caller sets the time-out."""
        while not self.is_current:
            await self._renewed.wait()

    async def everywhere(self) -> None:
        """Until no broker decides by rules that are older than what is applied here now. At most
        AFTER_LEASES_S; at once without an authorizer. A caller that is cancelled takes nothing back."""
        if not self.is_wanted:
            return
        index = int(self._metadata.applied_index)
        with trio.move_on_after(AFTER_LEASES_S):
            async with trio.open_nursery() as nursery:
                for broker in self._others():
                    nursery.start_soon(self._until_applied, broker, index)
                await trio.sleep(max(0.0, self._gone_until - self._clock()))

    def _others(self) -> list[BrokerId]:
        """Every registered broker, whether it is heard of or not: one that is cut off may have clients."""
        return [broker for broker in self._metadata.catalog.brokers if broker != self._me.id]

    def _note_gone(self) -> None:
        """The metadata has moved: look who is there no more."""
        catalog = self._metadata.catalog
        if catalog.topology_index == self._as_of:
            return
        self._as_of, brokers = catalog.topology_index, catalog.brokers
        now = {broker.id: broker.incarnation for broker in brokers.values() if broker.id != self._me.id}
        if any(now.get(broker) != start for broker, start in self._registered.items()):
            self._gone_until = self._clock() + AFTER_LEASES_S
        self._registered = now

    async def _until_applied(self, broker: BrokerId, index: int) -> None:
        while True:
            try:
                await self._peers.calls.ask(broker, "applied", [index, None], timeout=AFTER_LEASES_S)
                return
            except Unreachable:
                await trio.sleep(RETRY_S)
