"""What a broker does once a second for all of its groups, and the metadata leader for the cluster.

Partitions are looked after some at a time: between two slices everything else gets its turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import trio

from raftlog.cluster.coordination import Coordination
from raftlog.cluster.expiry import OffsetExpiry
from raftlog.cluster.liveness import Liveness
from raftlog.cluster.proposer import Proposer
from raftlog.cluster.replicas import Replicas
from raftlog.cluster.this_broker import ThisBroker
from raftlog.cluster.transactions import TransactionTimeouts
from raftlog.cluster.upkeep import Upkeep
from raftlog.metadata.catalog import METADATA_LEVEL, Catalog
from raftlog.metadata.features import SetFeature, known_to_all
from raftlog.metadata.noun import Command
from raftlog.partition.partition import Partition

TICK_S: Final = 1.0
"""How often groups are looked after."""
PARTITIONS_AT_ONCE: Final = 50
"""Partitions that are looked after in one slice: a millisecond."""
PROPOSALS_MAX: Final = 64
"""Commands of one round that wait for their outcome; what is left out is found again in the next."""


class Rounds:
    """One round follows another a second later, whatever becomes of what it proposed."""

    def __init__(
        self,
        me: ThisBroker,
        catalog: Catalog,
        replicas: Replicas,
        upkeep: Upkeep,
        coordination: Coordination,
        liveness: Liveness,
        expiry: OffsetExpiry,
        timeouts: TransactionTimeouts,
        proposer: Proposer,
    ) -> None:
        self._me = me
        self._catalog = catalog
        self._replicas = replicas
        self._upkeep = upkeep
        self._coordination = coordination
        self._liveness = liveness
        self._expiry = expiry
        self._timeouts = timeouts
        self._proposer = proposer

    async def run(self) -> None:
        """Until cancelled."""
        me, replicas = self._me, self._replicas
        retention_s = me.config.int("log.retention.check.interval.ms") / 1000
        retention_at = trio.current_time() + retention_s
        if self._coordination.is_coordinator:  # a first client need not wait for the first round
            await self._propose([*self._raise_level()])
        while True:
            await trio.sleep(TICK_S)
            now = trio.current_time()
            now_ms, even_ms = me.now_ms(), me.clock.even_ms()
            retention_due = now >= retention_at
            if retention_due:
                retention_at = now + retention_s
            commands: list[Command] = []
            self._upkeep.begin(now)
            for some in slices(replicas.partitions):
                kept = [one for one in some if replicas.partition_by_id(one.topic_id, one.partition) is one]
                for partition in kept:
                    partition.tick(now_ms, now=now, even_ms=even_ms, retention_due=retention_due)
                commands += self._upkeep.tick(kept, now)
                await trio.lowlevel.checkpoint()
            if self._coordination.is_coordinator:
                fences = self._liveness.tick(self._catalog.brokers, now)
                commands = [*fences, *self._raise_level(), *commands]
                commands += self._expiry.tick(now, now_ms)
                commands += self._timeouts.tick(now, now_ms)
            await self._propose(commands)
            replicas.note_rejoined()

    def _raise_level(self) -> list[SetFeature]:
        """Finalize the metadata level that every broker knows by now."""
        catalog = self._catalog
        level = known_to_all(catalog.brokers.values())
        return [SetFeature(name=METADATA_LEVEL, level=level)] if level > catalog.metadata_level else []

    async def _propose(self, commands: list[Command]) -> None:
        """Propose commands side by side, and wait about as long as a round takes. What has not happened by
        then is found again by the next round."""
        async with trio.open_nursery() as nursery:
            for command in commands[:PROPOSALS_MAX]:
                nursery.start_soon(self._propose_one, command)

    async def _propose_one(self, command: Command) -> None:
        await self._proposer.propose(command, timeout=TICK_S)


def slices(partitions: Iterable[Partition]) -> Iterator[list[Partition]]:
    """The partitions in slices that may follow each other after a while."""
    left = iter(partitions)
    while some := list(islice(left, PARTITIONS_AT_ONCE)):
        yield some
