"""What operators ask of a cluster: brokers that come and go, replicas that move, leaders that change.

Changes go through the metadata group, and the leaders of the partitions carry them out (`upkeep`). An answer
says that a change was accepted, not that it has been carried out; `moves` tells what is under way.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import trio

from raftlog.cluster.admin import AdminError, AdminFailure, admin_failure
from raftlog.cluster.changes import Changes
from raftlog.cluster.joining import same_place
from raftlog.cluster.leaders import Leaders
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.proposer import Proposer
from raftlog.cluster.transfers import TRANSFER_TIMEOUT_S, Transfers
from raftlog.cluster.visibility import Visibility
from raftlog.metadata.brokers import DrainBroker, FenceBroker, RegisterBroker, UnregisterBroker
from raftlog.metadata.catalog import Catalog, PartitionAssignment, Topic
from raftlog.metadata.moves import CancelMove, MovePartition
from raftlog.metadata.noun import Command, Refused
from raftlog.types import BrokerId, GroupKey, group_key

life = logging.getLogger("raftlog.life")

NOT_STARTED: Final = bytes(16)
"""The incarnation of a broker that was added and has not been started yet."""


class Operations:
    """Changes brokers, replicas and leaders. A call that is cancelled may have changed the catalog."""

    def __init__(
        self,
        catalog: Catalog,
        proposer: Proposer,
        transfers: Transfers,
        leaders: Leaders,
        visibility: Visibility,
        changes: Changes,
    ) -> None:
        self._catalog = catalog
        self._proposer = proposer
        self._transfers = transfers
        self._leaders = leaders
        self._visibility = visibility
        self._changes = changes

    async def move(
        self, topic: str, partition: int, target: Sequence[BrokerId] | None
    ) -> AdminFailure | None:
        """Want a partition's replicas on `target`, the preferred leader first; None calls a move off."""
        found = self._find(topic, partition)
        if isinstance(found, AdminFailure):
            return found
        topic_id = found[0].topic_id
        if target is None:
            return await self._change(CancelMove(topic_id=topic_id, partition=partition))
        unknown = [broker for broker in target if broker not in self._catalog.brokers]
        if unknown or not target or len(set(target)) < len(target):
            return AdminFailure(
                AdminError.INVALID_REPLICA_ASSIGNMENT,
                f"{list(target)} are not different, registered brokers",
            )
        command = MovePartition(topic_id=topic_id, partition=partition, target=tuple(target))
        refused = await self._change(command)
        if refused is None:
            now, then = (", ".join(map(str, one)) for one in (found[1].replicas, target))
            life.info("%s-%d is to move from brokers %s to %s", topic, partition, now, then)
        return refused

    def moves(self) -> list[tuple[Topic, int, PartitionAssignment]]:
        """The moves that are under way."""
        return [
            (topic, number, assignment)
            for topic in self._catalog.topics.values()
            for number, assignment in enumerate(topic.partitions)
            if assignment.is_moving
        ]

    async def elect_preferred(self, topic: str, partition: int) -> AdminFailure | None:
        """Give a partition's leadership to its preferred leader, at once."""
        found = self._find(topic, partition)
        if isinstance(found, AdminFailure):
            return found
        home = found[1].preferred_leader
        leader, _ = self._leaders.leader_of(found[0], partition)
        if leader == home:
            return AdminFailure(AdminError.ELECTION_NOT_NEEDED, f"broker {home} leads it already")
        if leader is None:
            return AdminFailure(AdminError.PREFERRED_LEADER_NOT_AVAILABLE, "it has no leader now")
        reason = await self._transfers.transfer(leader, group_key(found[0].topic_id, partition), home)
        if reason is not None:
            return AdminFailure(AdminError.PREFERRED_LEADER_NOT_AVAILABLE, reason)
        with trio.move_on_after(TRANSFER_TIMEOUT_S):
            while self._leaders.leader_of(found[0], partition)[0] != home:
                await self._changes.wait()
            return None
        return AdminFailure(AdminError.PREFERRED_LEADER_NOT_AVAILABLE, f"broker {home} did not take over")

    async def add_broker(self, broker: BrokerId, peer_host: str, peer_port: int) -> AdminFailure | None:
        """Admit a broker that is about to be started with `raftlog.join`."""
        known = self._catalog.brokers.get(broker)
        if known is not None and known.incarnation != NOT_STARTED:
            return AdminFailure(AdminError.INVALID_REQUEST, f"broker {broker} is in the cluster already")
        registration = RegisterBroker(
            broker_id=broker,
            incarnation=NOT_STARTED,
            host=peer_host,
            port=0,
            peer_host=peer_host,
            peer_port=peer_port,
            metadata_level=self._catalog.metadata_level,  # until it says itself what its build knows
        )
        for other, place in same_place(self._catalog.brokers.values(), registration):
            if not other.fenced:
                return AdminFailure(AdminError.INVALID_REQUEST, f"{place} is where broker {other.id} is")
        # Once: the broker may be started as soon as it is there, and is not to be replaced then.
        result = await self._proposer.propose(registration, once=True)
        if isinstance(result, ProposalFailed | Refused):
            return admin_failure(result)
        fence = FenceBroker(broker_id=broker, incarnation=NOT_STARTED, fenced=True)
        return await self._change(fence)

    async def drain_broker(self, broker: BrokerId, draining: bool) -> AdminFailure | None:
        """Give a broker nothing new, or again what others get. Its replicas are moved by whoever asks."""
        return await self._change(DrainBroker(broker_id=broker, draining=draining))

    async def remove_broker(self, broker: BrokerId) -> AdminFailure | None:
        """Forget a broker that keeps no replica."""
        return await self._change(UnregisterBroker(broker_id=broker))

    async def transfer(self, leader: BrokerId, group: GroupKey, to: BrokerId) -> str | None:
        """Have `leader` hand a group over; None when that is under way, else why not."""
        return await self._transfers.transfer(leader, group, to)

    def _find(self, name: str, partition: int) -> tuple[Topic, PartitionAssignment] | AdminFailure:
        topic = self._catalog.topic(name)
        if topic is None or not 0 <= partition < len(topic.partitions):
            return AdminFailure(AdminError.UNKNOWN_TOPIC, f"there is no partition {name}-{partition}")
        return topic, topic.partitions[partition]

    async def _change(self, command: Command) -> AdminFailure | None:
        result = await self._proposer.propose(command)
        if isinstance(result, ProposalFailed | Refused):
            return admin_failure(result)
        await self._visibility.visible_everywhere()
        return None
