"""The small values of the raft layer: roles, outcomes, timing, membership. They know nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, Final

import cbor2

from raftlog.errors import InvalidInput
from raftlog.types import BrokerId, Term

MEMBERS_MAX: Final = 64
"""Members of a group, learners included: a bound on what a membership entry may claim."""

_FORMAT = 1


class Role(IntEnum):
    """What a replica is in its group at present. A learner receives the log and does not vote."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    LEARNER = 3


class Outcome(Enum):
    """How a proposal ended. Every proposal gets exactly one."""

    COMMITTED = "committed"
    """It is on a majority of disks and has been applied here."""
    WILL_NOT_HAPPEN = "will not happen"
    """It left this process for no disk and no peer, and never will. A retry cannot make a duplicate."""
    MAY_STILL_HAPPEN = "may still happen"
    """Leadership ended first. A later leader commits it, or replaces it."""


@dataclass(frozen=True, slots=True)
class NotLeader:
    """A proposal was refused: this replica does not lead, or is handing leadership over.

    Nothing was written. `leader` is where to go instead, when known.
    """

    leader: BrokerId | None
    term: Term


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRefused:
    """A membership change was refused before it was written; `reason` is for the log and the operator."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftTiming:
    """Seconds. A follower that has not heard its leader for a time between the two election bounds asks
    for an election; within the lower one it refuses to vote, and a leader that has not heard a majority
    for that long steps down.

    Under a lease a leader answers linearizable reads without asking anyone. It must be shorter than
    `election_min` by what clocks may drift apart, and it is 0, no lease, where `RaftGroup.peer_is_gone` is
    used: that lets others elect while a leader may still live."""

    heartbeat: float = 0.15
    election_min: float = 1.0
    election_max: float = 2.0
    lease: float = 0.0

    def __post_init__(self) -> None:
        assert 0 < 3 * self.heartbeat < self.election_min < self.election_max, self
        assert 0 <= self.lease < self.election_min, self


@dataclass(frozen=True, slots=True)
class Membership:
    """Who is in a group: voters, of whom a majority decides, and learners, who only receive.

    `as_of` says how new the knowledge is that wanted it so, in the counting of whoever decides (the catalog's
    index). It is not part of what a membership is. The log's memberships never go back in it: so nobody who
    knows less undoes them, or takes what this replica has for what nobody needs."""

    voters: frozenset[BrokerId]
    learners: frozenset[BrokerId] = field(default_factory=frozenset)
    as_of: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        assert not self.voters & self.learners, self

    @property
    def members(self) -> frozenset[BrokerId]:
        return self.voters | self.learners

    def encode(self) -> bytes:
        """As the payload of a MEMBERSHIP entry."""
        return cbor2.dumps([_FORMAT, sorted(self.voters), sorted(self.learners), self.as_of])

    @classmethod
    def decode(cls, payload: bytes | bytearray | memoryview) -> Membership:
        """Raises InvalidInput for bytes that are no membership."""
        try:
            value: Any = cbor2.loads(bytes(payload))
            version, voters, learners, as_of = value
        except Exception as error:  # cbor2 raises more kinds than it documents
            raise InvalidInput(f"membership entry does not decode: {error!r}") from error
        for ids in (voters, learners):
            if not isinstance(ids, list) or len(ids) > MEMBERS_MAX or not all(type(i) is int for i in ids):
                raise InvalidInput(f"membership entry holds {ids!r} where broker ids belong")
        if version != _FORMAT or not voters or set(voters) & set(learners) or type(as_of) is not int:
            raise InvalidInput(
                f"membership entry of version {version!r}: {voters!r}, {learners!r}, {as_of!r}"
            )
        return cls(frozenset(map(BrokerId, voters)), frozenset(map(BrokerId, learners)), as_of)

    def with_learner(self, broker: BrokerId) -> Membership:
        return Membership(self.voters - {broker}, self.learners | {broker}, self.as_of)

    def with_voter(self, broker: BrokerId) -> Membership:
        return Membership(self.voters | {broker}, self.learners - {broker}, self.as_of)

    def without(self, broker: BrokerId) -> Membership:
        return Membership(self.voters - {broker}, self.learners - {broker}, self.as_of)
