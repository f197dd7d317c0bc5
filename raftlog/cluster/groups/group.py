"""One group: its members, its generation, and how it goes from one generation to the next.

    Empty ── join ──> PreparingRebalance ── all have joined, or time is up ──> CompletingRebalance
      ^                  ^   │ nobody is left                                        │ the leader's sync,
      └──────────────────┼───┘                                                       v once it is kept
                         └── a member comes, changes, leaves or is silent ──────── Stable

Decides what each event does to a group. `GroupMembers` knows who belongs to it; which requests are refused is
the coordinator's business.
Times are seconds on the coordinator's clock.

Invariants: from CompletingRebalance on the leader is a member; the generation only grows; nobody is given a
part of a generation that is not kept; whoever waits to join is answered at `deadlines.join` at the latest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from raftlog.cluster.groups.api import (
    NO_MEMBER,
    GroupDescription,
    GroupError,
    GroupProtocol,
    GroupState,
    JoinedMember,
    JoinRequest,
    JoinResult,
    MemberDescription,
    SyncResult,
)
from raftlog.cluster.groups.member import (
    REBALANCE_TIMEOUT_MIN_S,
    Member,
    elect_protocol,
    shared_protocols,
)
from raftlog.cluster.groups.members import GroupMembers

PENDING_WAIT_S: Final = 1.0
"""How long a rebalance waits for a member that was just given an id. It comes back in a round trip; one
that does not must not hold up the others for its session time-out."""

EMPTY_GROUP_KEPT_S: Final = 600.0
"""How long a group without members or offsets is shown, and keeps counting its generations."""


@dataclass(slots=True)
class Deadlines:
    """Of a rebalance, in seconds; past or infinite where there is none."""

    join_opens: float = -math.inf
    """It does not end before, unless nobody is left: the initial delay."""
    join: float = math.inf
    """When it ends without those that have not joined."""
    sync: float = math.inf
    """By when every member of the generation has asked for its assignment."""


@dataclass(slots=True, eq=False)
class Group:
    """A classic group."""

    group_id: str
    members: GroupMembers
    state: GroupState = GroupState.EMPTY
    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = NO_MEMBER
    deadlines: Deadlines = field(default_factory=Deadlines)
    empty_since: float = -math.inf
    told_generation: int = 0
    """No generation up to here is begun: members may have been told of it by a coordinator before."""
    kept_generation: int = 0
    """The generation that was last put into the metadata; 0 for none."""
    is_assigned: bool = False
    """The leader has spoken, and the group is on its way into the metadata."""

    def __repr__(self) -> str:
        return (
            f"<Group {self.group_id} {self.state.value} generation={self.generation}"
            f" members={len(self.members)} pending={len(self.members.pending)}>"
        )

    def join_result(self, member: Member) -> JoinResult:
        """The generation as a member is told of it: the leader is told who the others are."""
        leads = member.member_id == self.leader
        return JoinResult(
            error=GroupError.NONE,
            generation_id=self.generation,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol,
            leader=self.leader,
            member_id=member.member_id,
            members=self._joined_members() if leads else (),
        )

    def sync_result(self, member: Member) -> SyncResult:
        return SyncResult(
            error=GroupError.NONE,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol,
            assignment=member.assignment,
        )

    def _joined_members(self) -> tuple[JoinedMember, ...]:
        return tuple(
            JoinedMember(member.member_id, member.instance_id, member.metadata_for(self.protocol))
            for member in self.members
        )

    # Members

    def take(self, member: Member, request: JoinRequest, now: float) -> None:
        """Take over what a member says of itself when it joins."""
        if len(self.members) == 1:
            self.protocol_type = request.protocol_type
        member.client_id, member.client_host = request.client_id, request.client_host
        member.session_timeout = request.session_timeout_ms / 1000
        member.rebalance_timeout = max(request.rebalance_timeout_ms / 1000, REBALANCE_TIMEOUT_MIN_S)
        member.protocols = request.protocols
        member.refresh(now)

    def replace_static(self, member: Member, new_id: str) -> None:
        """A static member came back under a new id, with all that it was."""
        if self.leader == member.member_id:
            self.leader = new_id
        self.members.replace_static(member, new_id)

    def takes(self, protocol_type: str, protocols: Iterable[GroupProtocol], without: Member | None) -> bool:
        """Whether a member of this type and offer has something in common with the others."""
        names = {protocol.name for protocol in protocols}
        if not protocol_type or not names:
            return False
        shared = shared_protocols(self.members, without)
        return shared is None or (protocol_type == self.protocol_type and bool(shared & names))

    def is_subscribed(self, topic: str) -> bool:
        """Whether a member may be reading the topic."""
        known = [member.topics_in(self.protocol_type, self.protocol) for member in self.members]
        return any(topics is None or topic in topics for topics in known)

    # From generation to generation

    def rebalance(self, now: float, initial_delay: float = 0.0) -> None:
        """Ask everyone to join again, unless they are being asked already."""
        if self.state is GroupState.PREPARING_REBALANCE:
            return
        for member in self.members:
            if member.waiting_sync is not None:
                self.members.answer_sync(member, SyncResult(error=GroupError.REBALANCE_IN_PROGRESS))
                member.refresh(now)
            member.owes_sync = False
        timeout = max((member.rebalance_timeout for member in self.members), default=0.0)
        self.deadlines.join_opens = now + initial_delay if self.state is GroupState.EMPTY else -math.inf
        self.deadlines.join = now + max(timeout, initial_delay)
        self.deadlines.sync = math.inf
        self.state = GroupState.PREPARING_REBALANCE

    def delay_initial(self, now: float, initial_delay: float) -> None:
        """Another member came within the initial delay: more may follow."""
        if self.state is GroupState.PREPARING_REBALANCE and self.deadlines.join_opens > now:
            self.deadlines.join_opens = min(now + initial_delay, self.deadlines.join)

    def complete_join(self, now: float) -> None:
        """Begin the next generation if everyone has joined or the time is up."""
        if self.state is not GroupState.PREPARING_REBALANCE:
            return
        if now >= self.deadlines.join:
            for member in list(self.members):
                # A static member stays until its session runs out: it is expected back (KIP-345).
                if member.waiting_join is None and member.instance_id is None:
                    self.members.remove(member)
        elif self.members and (now < self.deadlines.join_opens or not self.members.have_all_joined(now)):
            return
        if not self.members:
            self._become_empty(now)
        elif self._elect_leader():
            self._next_generation(now)
        else:
            self.deadlines.join = now + max(member.rebalance_timeout for member in self.members)

    def _elect_leader(self) -> bool:
        """Make sure that the leader has joined; False when nobody has."""
        joined = [member for member in self.members if member.waiting_join is not None]
        if joined and all(member.member_id != self.leader for member in joined):
            self.leader = joined[0].member_id
        return bool(joined)

    def _become_empty(self, now: float) -> None:
        self.generation = max(self.generation, self.told_generation) + 1
        self.protocol = None
        self.state = GroupState.EMPTY
        self.empty_since = now
        self.deadlines = Deadlines()

    def _next_generation(self, now: float) -> None:
        self.generation = max(self.generation, self.told_generation) + 1
        self.is_assigned = False
        self.protocol = elect_protocol(self.members.by_id.values())
        self.state = GroupState.COMPLETING_REBALANCE
        self.deadlines = Deadlines()
        self.deadlines.sync = now + max(member.rebalance_timeout for member in self.members)
        for member in self.members:
            if member.waiting_join is not None:
                self.members.answer_join(member, self.join_result(member))
                member.owes_sync = True
                member.refresh(now)

    def assign(self, assignments: Mapping[str, bytes]) -> None:
        """The leader has spoken. Nobody gets its part before the group is kept."""
        assert self.state is GroupState.COMPLETING_REBALANCE and not self.is_assigned, self
        self.is_assigned = True
        for member in self.members:
            member.assignment = bytes(assignments.get(member.member_id, b""))

    def become_stable(self, now: float) -> None:
        """The group is kept: everyone that waits gets its part."""
        assert self.state is GroupState.COMPLETING_REBALANCE and self.is_assigned, self
        self.state = GroupState.STABLE
        for member in self.members:
            if member.waiting_sync is not None:
                self.members.answer_sync(member, self.sync_result(member))
                member.refresh(now)

    # Time

    def expire(self, now: float) -> list[Member]:
        """Drop what has run out: ids that nobody used, silent members, members that did not ask for
        their assignment. Which members those were."""
        self.members.drop_unused(now)
        late = now >= self.deadlines.sync
        gone = [
            member
            for member in self.members
            if (member.session_deadline <= now and not member.is_waiting) or (late and member.owes_sync)
        ]
        for member in gone:
            self.members.remove(member)
        if gone:
            self.rebalance(now)
        return gone

    def next_deadline(self, now: float) -> float:
        """When `expire` or `complete_join` has something to do."""
        due = [self.deadlines.join]
        if self.deadlines.join_opens > now:
            due.append(self.deadlines.join_opens)
        for waits_until, usable_until in self.members.pending.values():
            due.append(waits_until if waits_until > now else usable_until)
        for member in self.members:
            if not member.is_waiting:
                due.append(member.session_deadline)
            if member.owes_sync:
                due.append(self.deadlines.sync)
        return min(due)


def described(group: Group) -> GroupDescription:
    """Subscriptions and assignments are shown when they are settled."""
    stable = group.state is GroupState.STABLE
    return GroupDescription(
        group_id=group.group_id,
        state=group.state,
        protocol_type=group.protocol_type or "",
        protocol_name=(group.protocol or "") if stable else "",
        members=tuple(
            MemberDescription(
                member.member_id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.metadata_for(group.protocol) if stable else b"",
                member.assignment if stable else b"",
            )
            for member in group.members
        ),
    )
