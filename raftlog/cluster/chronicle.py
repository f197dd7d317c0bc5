"""What the log says of a cluster, as it happens: who leads the metadata, which brokers come, go and are lost.

Every broker tells what it sees; nothing decides by it. The logger is `raftlog.life`, whose lines are shown
unless `raftlog.log.levels` says otherwise.
"""

from __future__ import annotations

import logging

from raftlog.cluster.changes import Changes
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.metadata.catalog import BrokerInfo
from raftlog.types import BrokerId, RaftIndex

log = logging.getLogger("raftlog.life")


class Chronicle:
    """Tells of changes, not of what was there before."""

    def __init__(self, broker_id: BrokerId, metadata: MetadataGroup, changes: Changes) -> None:
        self._broker_id = broker_id
        self._metadata = metadata
        self._changes = changes
        self._leader: BrokerId | None = None
        self._brokers: dict[BrokerId, BrokerInfo] = {}
        self._seen = RaftIndex(-1)

    def __repr__(self) -> str:
        return f"<Chronicle leader={self._leader} brokers={sorted(self._brokers)}>"

    async def run(self) -> None:
        """Until cancelled."""
        catalog = self._metadata.catalog
        self._brokers, self._seen = dict(catalog.brokers), catalog.topology_index
        while True:
            changed = self._changes.next
            self._look()
            await changed.wait()

    def _look(self) -> None:
        leader = self._metadata.leader
        if leader is not None and leader != self._leader:
            before = "" if self._leader is None else f", after broker {self._leader}"
            term = self._metadata.group.term
            log.info("%s leads the metadata in term %d%s", self._named(leader), term, before)
            self._leader = leader
        catalog = self._metadata.catalog
        if catalog.topology_index != self._seen:
            self._seen = catalog.topology_index
            now = dict(catalog.brokers)
            for broker in sorted(self._brokers.keys() | now.keys()):
                line = told(self._brokers.get(broker), now.get(broker))
                if line is not None:
                    log.info("%s %s", self._named(broker), line)
            self._brokers = now

    def _named(self, broker: BrokerId) -> str:
        return f"broker {broker} (this one)" if broker == self._broker_id else f"broker {broker}"


def told(before: BrokerInfo | None, now: BrokerInfo | None) -> str | None:
    """What became of a broker, in words; None for nothing to tell."""
    if now is None:
        return "was removed from the cluster"
    where = f"{now.host}:{now.port}" if now.port else "not started yet"
    if before is None:
        return f"is part of the cluster now ({where})"
    if now.fenced and not before.fenced:
        return "is lost: nothing was heard of it for broker.session.timeout.ms, or it said good-bye"
    if before.fenced and not now.fenced:
        return f"is there ({where})"
    if now.draining != before.draining:
        return "is draining: it is given no replicas" if now.draining else "is given replicas again"
    if (now.host, now.port, now.peer_host, now.peer_port) != (
        before.host, before.port, before.peer_host, before.peer_port,
    ):  # fmt: skip
        return f"has moved: clients find it at {where}, brokers at {now.peer_host}:{now.peer_port}"
    return None
