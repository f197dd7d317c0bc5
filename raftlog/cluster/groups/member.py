"""A member of a group: what it said of itself, and whether it waits for an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from raftlog.cluster.groups.api import CONSUMER_PROTOCOL_TYPE, GroupProtocol, JoinResult, SyncResult
from raftlog.cluster.groups.subscription import subscribed_topics

REBALANCE_TIMEOUT_MIN_S: Final = 1.0
"""A shorter one than this would throw members out faster than they can answer."""

MEMBER_COST: Final = 1024
"""Bytes of objects that a member costs, whatever it offers."""


@dataclass(slots=True, eq=False)
class Member:
    """A member, dynamic or static."""

    member_id: str
    instance_id: str | None
    client_id: str = ""
    client_host: str = ""
    session_timeout: float = math.inf
    rebalance_timeout: float = REBALANCE_TIMEOUT_MIN_S
    protocols: tuple[GroupProtocol, ...] = ()
    session_deadline: float = math.inf
    assignment: bytes = b""
    waiting_join: Callable[[JoinResult], None] | None = None
    waiting_sync: Callable[[SyncResult], None] | None = None
    owes_sync: bool = False
    """It was told of this generation and has not asked for its assignment."""

    @property
    def is_waiting(self) -> bool:
        """Parked here, so it cannot heartbeat: its session does not run out."""
        return self.waiting_join is not None or self.waiting_sync is not None

    @property
    def size(self) -> int:
        """Bytes that it has the coordinator hold."""
        offered = sum(len(each.name) + len(each.metadata) for each in self.protocols)
        return MEMBER_COST + offered + len(self.assignment)

    def refresh(self, now: float) -> None:
        """It was heard."""
        self.session_deadline = now + self.session_timeout

    def metadata_for(self, protocol: str | None) -> bytes:
        """Its subscription in the words of a protocol; empty when it does not offer it."""
        return next((offered.metadata for offered in self.protocols if offered.name == protocol), b"")

    def topics_in(self, protocol_type: str | None, protocol: str | None) -> frozenset[str] | None:
        """What it subscribes to; None when that cannot be known."""
        if protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        return subscribed_topics(self.metadata_for(protocol))


def shared_protocols(members: Iterable[Member], without: Member | None = None) -> set[str] | None:
    """The protocols that every member, but one, offers; None when there are no others."""
    offers = [{p.name for p in member.protocols} for member in members if member is not without]
    return set.intersection(*offers) if offers else None


def elect_protocol(members: Collection[Member]) -> str:
    """What most members like best of what all offer; a tie goes to who joined first."""
    shared = shared_protocols(members)
    assert shared, members
    votes: dict[str, int] = {}
    for member in members:
        choice = next(protocol.name for protocol in member.protocols if protocol.name in shared)
        votes[choice] = votes.get(choice, 0) + 1
    return max(votes, key=lambda name: votes[name])
