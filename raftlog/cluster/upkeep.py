"""What the leader of a group does for it now and then: moves, preferred leaders, the metadata voters.

Each pass takes at most one step a group and is taken again; nothing here waits for a group.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.moves import Arrived, Change, HandOver, metadata_members, next_step
from raftlog.metadata.moves import FinishMove
from raftlog.metadata.noun import Command
from raftlog.partition.partition import Partition
from raftlog.raft.events import Cause
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import ChangeRefused
from raftlog.types import BrokerId, GroupKey, RaftIndex

TRANSFERS_MAX: Final = 16
"""Leaderships that go home in one pass: each costs its clients a retry."""

CALM_S: Final = 5.0
"""Seconds. Leaderships go home to a broker once it has kept up for so long: in each pass it held what the
groups led here had committed a pass before. A broker that catches up is busy, and so are those that send to
it."""
DECLINED_S: Final = 30.0
"""Seconds after which a leadership is handed home again that is still led here. While it is handed over
proposals are refused, and a broker whose replica is damaged does not take it."""
NEVER: Final = float("-inf")

log = logging.getLogger("raftlog.cluster")
life = logging.getLogger("raftlog.life")


class Successors(Protocol):
    """Who can take a leadership over: `raftlog.cluster.peers.Peers` knows."""

    def is_settled(self, broker: BrokerId, now: float) -> bool:
        """Whether a broker has been connected for a while: leaders go home only to one that stays."""

    def may_take_over(self) -> Collection[BrokerId]:
        """The brokers that leaderships can be handed to: they serve clients, and are not stopping."""


class Upkeep:
    """Looks after the groups that this broker leads."""

    def __init__(self, broker_id: BrokerId, metadata: MetadataGroup, successors: Successors) -> None:
        self._broker_id = broker_id
        self._metadata = metadata
        self._catalog = metadata.catalog
        self._successors = successors
        self._transfers_left = 0
        self._committed: dict[GroupKey, RaftIndex] = {}
        self._committed_before: dict[GroupKey, RaftIndex] = {}
        """As of the last pass, of the groups that were led here."""
        self._behind_at: dict[BrokerId, float] = {}
        """When a broker was last seen to lack what had been committed a pass before."""
        self._sent_home_at: dict[GroupKey, float] = {}

    def begin(self, now: float) -> None:
        """A new pass: the metadata group's next step. The partitions follow, some at a time."""
        self._transfers_left = TRANSFERS_MAX
        self._committed_before, self._committed = self._committed, {}
        self._sent_home_at = {key: at for key, at in self._sent_home_at.items() if now - at < DECLINED_S}
        metadata, catalog = self._metadata, self._catalog
        if metadata.is_ready:
            voters, learners = metadata_members(
                metadata.group.membership, catalog.brokers, catalog.removed_brokers
            )
            self._step(metadata.group, voters, now, learners)

    def tick(self, partitions: Iterable[Partition], now: float) -> list[Command]:
        """Take the next step of those among the partitions that are led here; the commands that the caller
        should propose."""
        commands: list[Command] = []
        for partition in partitions:
            if not partition.group.is_ready:
                continue
            self._note_behind(partition.group, now)
            finish = self._move(partition, now)
            if finish is not None:
                commands.append(finish)
            elif self._transfers_left:
                self._transfers_left -= self._go_home(partition, now)
        return commands

    def _move(self, partition: Partition, now: float) -> FinishMove | None:
        """Bring the group's members to what the catalog wants."""
        topic = self._catalog.topic(partition.topic_id)
        if topic is None or partition.partition >= len(topic.partitions):
            return None
        assignment = topic.partitions[partition.partition]
        wanted = assignment.target or assignment.replicas
        if not self._step(partition.group, wanted, now) or not assignment.is_moving:
            return None
        life.info(
            "%s-%d has moved: brokers %s keep it now, and %s did",
            topic.name, partition.partition, _listed(wanted), _listed(assignment.replicas),
        )  # fmt: skip
        return FinishMove(
            topic_id=partition.topic_id, partition=partition.partition, target=wanted, since=assignment.since
        )

    def _step(
        self, group: RaftGroup, voters: Sequence[BrokerId], now: float, learners: Sequence[BrokerId] = ()
    ) -> bool:
        """One step towards these members; True when they are there and the last change is committed. Where
        an earlier leader knew more than this broker does yet, what it has wanted stands."""
        as_of = self._catalog.topology_index
        if group.membership.as_of > as_of:
            return False
        match next_step(self._broker_id, group.membership, voters, learners):
            case Change(membership):
                refused = group.leading.propose_membership(
                    replace(membership, as_of=as_of), now, lambda outcome, entry: None
                )
                if isinstance(refused, ChangeRefused):
                    log.debug("%r waits: %s", group, refused.reason)
                return False
            case HandOver(to):
                successors = self._successors.may_take_over()
                for broker in [one for one in to if one in group.voters and one in successors]:
                    if group.leading.transfer(broker, now, Cause.TO_MOVE) is None:
                        break
                return False
            case Arrived():
                return group.is_membership_committed

    def _note_behind(self, group: RaftGroup, now: float) -> None:
        self._committed[group.key] = group.commit_index
        before = self._committed_before.get(group.key)
        if before is not None:
            for broker in group.voters:
                if broker != self._broker_id and not group.holds(broker, before):
                    self._behind_at[broker] = now

    def _go_home(self, partition: Partition, now: float) -> bool:
        """Give the leadership back to the preferred leader when it is there again, and has caught up."""
        topic = self._catalog.topic(partition.topic_id)
        if topic is None or partition.partition >= len(topic.partitions):
            return False
        assignment = topic.partitions[partition.partition]
        home = assignment.preferred_leader
        if assignment.is_moving or home == self._broker_id or home not in partition.group.voters:
            return False
        broker = self._catalog.brokers.get(home)
        if broker is None or not broker.is_usable or not self._successors.is_settled(home, now):
            return False
        if home not in self._successors.may_take_over():  # it is there, and starts or stops
            return False
        before = self._committed_before.get(partition.group.key)
        if before is None or now - self._behind_at.get(home, NEVER) < CALM_S:
            return False
        key = partition.group.key
        if key in self._sent_home_at:
            return False
        if partition.group.leading.transfer(home, now, Cause.TO_PREFERRED) is not None:
            return False
        self._sent_home_at[key] = now
        return True


def _listed(brokers: Sequence[BrokerId]) -> str:
    return ", ".join(map(str, brokers))
