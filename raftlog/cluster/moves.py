"""How a group gets from the members it has to those it should have: one server at a time (Raft thesis §4.1).

Pure: the leader of the group asks for the next step, takes it, and asks again. New members join as
learners, become voters when they have caught up, and only when all of them vote do the old ones leave; so
the group never has fewer voters that are up to date than before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raftlog.raft.values import Membership
from raftlog.types import BrokerId


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


def next_step(leader: BrokerId, current: Membership, wanted: Sequence[BrokerId]) -> Step:
    """What the leader does next so that exactly `wanted` are voters and nobody is a learner."""
    assert wanted, "a group without members"
    for broker in wanted:
        if broker not in current.members:
            return Change(current.with_learner(broker))
    for broker in wanted:
        if broker not in current.voters:
            return Change(current.with_voter(broker))
    for broker in sorted(current.members - set(wanted)):
        if broker != leader:
            return Change(current.without(broker))
    if leader not in wanted:
        return HandOver(tuple(wanted))
    return Arrived()
