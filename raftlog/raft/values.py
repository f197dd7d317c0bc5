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
    """What a replica is in its group. A learner receives the log and does not vote."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    LEARNER = 3


class Outcome(Enum):
    """How a proposal ended. Every proposal gets exactly one."""

    COMMITTED = "committed"
    """It is on a majority of disks and has been applied here."""
    WILL_NOT_HAPPEN = "will not happen"
    """The entry reached no disk and no peer, and never will. A retry cannot make a duplicate."""
    MAY_STILL_HAPPEN = "may still happen"
    """The leadership ended before the outcome was known. A later leader commits the entry, or replaces it."""


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
    """Seconds.

    A follower draws an election time-out between `election_min` and `election_max`. When it has not heard
    its leader for that long, it asks for an election. While it has heard a leader within `election_min`, it
    refuses its vote. A leader that has not heard a majority within `election_min` steps down.

    Under a `lease` a leader answers linearizable reads without asking its followers. The lease must be
    shorter than `election_min` by as much as clocks may drift apart. It must be 0, which is no lease, where
    `Turning.peer_is_gone` is used: then followers may elect while their leader still lives."""

    heartbeat: float = 0.15
    election_min: float = 1.0
    election_max: float = 2.0
    lease: float = 0.0

    @property
    def vote_life(self) -> float:
        """How long after it asked a candidate counts votes: the slowest disk may take so long to keep one. A
        voter whose disk is emptied forgets its vote, and gets none back before that time is over."""
        return 5 * self.election_max

    def __post_init__(self) -> None:
        assert 0 < 3 * self.heartbeat < self.election_min < self.election_max, self
        assert 0 <= self.lease < self.election_min, self


@dataclass(frozen=True, slots=True)
class Membership:
    """Who is in a group: the voters, a majority of whom elects and commits, and the learners, which only
    receive the log.

    `as_of` is the index of the catalog that asked for this membership. Two memberships that differ only in
    it are equal. From one membership entry of a log to the next it never falls: a leader with an older
    catalog may not undo a change, and a broker with an older catalog may not delete its replica."""

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
