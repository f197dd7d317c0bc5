"""What a broker does once a second for all of its groups, and the metadata leader for the cluster.

Partitions are looked after some at a time: between two slices everything else gets its turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from raftlog.cluster.expiry import OffsetExpiry
from raftlog.cluster.liveness import Liveness
from raftlog.cluster.steady_clock import SteadyClock
from raftlog.metadata.commands import Command, SetFeature
from raftlog.metadata.levels import FEATURE, known_to_all
from raftlog.partition.partition import Partition
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.cluster.node import Node

TICK_S: Final = 1.0
"""How often groups are looked after."""
PARTITIONS_AT_ONCE: Final = 50
"""Partitions that are looked after in one slice: a millisecond."""
PROPOSALS_MAX: Final = 64
"""Commands of one round that wait for their outcome; what is left out is found again in the next."""


class Rounds:
    """One round follows another a second later, whatever becomes of what it proposed."""

    def __init__(self, node: Node) -> None:
        config = node.config
        self._node = node
        self._liveness = Liveness(config.int("broker.session.timeout.ms") / 1000)
        self._expiry = OffsetExpiry(
            lambda: node.catalog,
            node.groups,
            retention_ms=config.int("offsets.retention.minutes") * 60_000,
            interval_s=config.int("offsets.retention.check.interval.ms") / 1000,
            all_know_topics=self._all_know_topic_expiry,
        )

    def take_office(self) -> None:
        """This broker leads the metadata from now on."""
        self._liveness.take_office()

    def heard(self, broker: BrokerId, incarnation: bytes) -> None:
        self._liveness.heard(broker, incarnation, trio.current_time())

    async def run(self) -> None:
        """Until cancelled."""
        node = self._node
        retention_s = node.config.int("log.retention.check.interval.ms") / 1000
        retention_at = trio.current_time() + retention_s
        clock = SteadyClock(trio.current_time(), node.now_ms())
        while True:
            await trio.sleep(TICK_S)
            now = trio.current_time()
            now_ms, even_ms = clock.read(now, node.now_ms()), clock.even_ms(now)
            retention_due = now >= retention_at
            if retention_due:
                retention_at = now + retention_s
            commands: list[Command] = []
            node.upkeep.begin(now)
            for some in slices(node.replicas.partitions):
                kept = [one for one in some if node.partition_by_id(one.topic_id, one.partition) is one]
                for partition in kept:
                    partition.tick(now_ms, even_ms=even_ms, retention_due=retention_due)
                commands += node.upkeep.tick(kept, now)
                await trio.lowlevel.checkpoint()
            if node.is_coordinator:
                fences = self._liveness.tick(node.catalog.brokers, now)
                commands = [*fences, *self._raise_level(), *commands]
                commands += self._expiry.tick(now, now_ms)
            await self._propose(commands)
            node.replicas.note_rejoined()

    def _all_know_topic_expiry(self) -> bool:
        """In the middle of a rolling upgrade a command that older builds do not know would end them all. The
        build that learnt it had learnt to take frames in pieces."""
        node, links = self._node, self._node.peers.links
        return all(each == node.broker_id or links.takes_pieces(each) for each in node.catalog.brokers)

    def _raise_level(self) -> list[SetFeature]:
        """Finalize the metadata level that every broker knows by now."""
        catalog = self._node.catalog
        level = known_to_all(catalog.brokers.values())
        return [SetFeature(name=FEATURE, level=level)] if level > catalog.metadata_level else []

    async def _propose(self, commands: list[Command]) -> None:
        """Side by side, until about the next round: what did not happen by then comes again."""
        async with trio.open_nursery() as nursery:
            for command in commands[:PROPOSALS_MAX]:
                nursery.start_soon(self._propose_one, command)

    async def _propose_one(self, command: Command) -> None:
        await self._node.propose(command, timeout=TICK_S)


def slices(partitions: Iterable[Partition]) -> Iterator[list[Partition]]:
    """The partitions in slices that may follow each other after a while."""
    left = iter(partitions)
    while some := list(islice(left, PARTITIONS_AT_ONCE)):
        yield some
