"""How a group gets from the members it has to those it should have: one server at a time (Raft thesis §4.1).

Pure: the leader of the group asks for the next step, takes it, and asks again. New members join as
learners, become voters when they have caught up, and only when all of them vote do the old ones leave; so
the group never has fewer voters that are up to date than before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from raftlog.metadata.catalog import BrokerInfo
from raftlog.raft.values import Membership
from raftlog.types import BrokerId

METADATA_VOTERS_MAX: Final = 5
"""More voters make the metadata group slower, not safer; the other brokers follow as learners."""


@dataclass(frozen=True, slots=True)
class Change:
    """Propose this membership. The group refuses a new voter that has not caught up: try again later."""

    membership: Membership


@dataclass(frozen=True, slots=True)
class HandOver:
    """The leader itself is to leave: one of these should lead first, the first choice in front."""

    to: tuple[BrokerId, ...]


@dataclass(frozen=True, slots=True)
class Arrived:
    """The members are as they should be."""


Step = Change | HandOver | Arrived


def next_step(
    leader: BrokerId, current: Membership, voters: Sequence[BrokerId], learners: Sequence[BrokerId] = ()
) -> Step:
    """What the leader does next so that exactly `voters` vote and exactly `learners` only listen."""
    assert voters, "a group without voters"
    for broker in (*voters, *learners):
        if broker not in current.members:
            return Change(current.with_learner(broker))
    for broker in voters:
        if broker not in current.voters:
            return Change(current.with_voter(broker))
    staying = {*voters, *learners}
    for broker in sorted(current.members):
        if (
            broker not in staying or (broker in current.voters and broker not in voters)
        ) and broker != leader:
            return Change(current.without(broker))
    if leader not in voters:
        return HandOver(tuple(voters))
    return Arrived()


def metadata_members(
    current: Membership, brokers: Mapping[BrokerId, BrokerInfo], removed: Collection[BrokerId]
) -> tuple[list[BrokerId], list[BrokerId]]:
    """Who should vote in the metadata group, and who should only listen.

    A voter stays unless it is being drained or was removed. A voter that is not registered stays as well: it
    is a founder that has not come yet. Usable brokers are added up to an odd number of voters,
    METADATA_VOTERS_MAX at most. Every other registered broker listens.
    """
    usable = [broker.id for broker in brokers.values() if broker.is_usable]
    size = min(METADATA_VOTERS_MAX, len(usable) - (len(usable) + 1) % 2)
    voters = [
        id
        for id in sorted(current.voters)
        if (not brokers[id].draining if id in brokers else id not in removed)
    ]
    fill = [id for id in sorted(usable) if id not in voters]
    voters += fill[: max(0, size - len(voters))]
    return voters or sorted(current.voters), [id for id in sorted(brokers) if id not in voters]
