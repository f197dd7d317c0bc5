"""The coordinator of classic consumer groups: which requests are taken, which are refused, when groups
are looked at.

A synchronous state machine (Kafka's GroupCoordinator, KIP-62, 345, 394, 814). It must not know the Kafka
encoding, the network, or how offsets are stored. Which groups there are, and how they outlive a
coordinator, is `roster`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Final

from raftlog.cluster.groups.api import (
    CONSUMER_PROTOCOL_TYPE,
    NO_MEMBER,
    CommitCheck,
    GroupDescription,
    GroupError,
    GroupListing,
    GroupSettings,
    GroupState,
    HeartbeatRequest,
    JoinRequest,
    JoinResult,
    LeaveRequest,
    LeaveResult,
    LeavingMember,
    LeftMember,
    SyncRequest,
    SyncResult,
)
from raftlog.cluster.groups.group import PENDING_WAIT_S, Group, described
from raftlog.cluster.groups.keeping import KeptGroups
from raftlog.cluster.groups.member import Member, elect_protocol
from raftlog.cluster.groups.members import GroupMembers
from raftlog.cluster.groups.roster import Roster

GROUPS_MAX: Final = 100_000
"""Groups kept in memory; a client that makes up names must not fill it."""

PENDING_MAX: Final = 10_000
"""Ids that a group has given out and not seen again."""

OFFER_BYTES_MAX: Final = 1024 * 1024
"""What a member says of itself. Kafka's limit is as low: a group is a record of at most 1 MiB there."""

GROUPS_BYTES_MAX: Final = 64 * 1024 * 1024
"""What all groups together may have this broker hold. Twice what the metadata keeps of them: a group that it
does not keep for its size works as well, until its coordinator ends."""

JoinReply = Callable[[JoinResult], None]
SyncReply = Callable[[SyncResult], None]


class GroupCoordinator:
    """All groups of a cluster, on the broker that leads the metadata group.

    Time is seconds on a monotonic clock, passed in. Every reply callback is called exactly once: at once,
    from a later call, or from `unload`; it must not raise. Until `load`, and after `unload`, everything is
    answered NOT_COORDINATOR.
    """

    def __init__(
        self,
        *,
        settings: Callable[[], GroupSettings],
        new_id: Callable[[], str],
        stored_groups: Callable[[], Collection[str]],
        kept: KeptGroups,
    ) -> None:
        """`new_id` makes the random part of a member id; `stored_groups` tells which groups have
        committed offsets, `kept` which have members."""
        self._settings = settings
        self._new_id = new_id
        self._stored_groups = stored_groups
        self._roster = Roster(kept, stored_groups)

    def __repr__(self) -> str:
        role = "active" if self.is_active else "inactive"
        return f"<GroupCoordinator {role} groups={len(self._roster)}>"

    @property
    def is_active(self) -> bool:
        """Whether this broker coordinates the groups."""
        return self._roster.in_charge_since is not None

    def statistics(self) -> dict[str, int]:
        """Groups by state, and members."""
        counts = {state.value: 0 for state in GroupState}
        for group in self._roster:
            counts[group.state.value] += 1
        return {**counts, "members": sum(len(group.members) for group in self._roster)}

    def members_by_group(self) -> dict[str, int]:
        """Of the groups that have, or had, members since this broker coordinates them."""
        return {group.group_id: len(group.members) for group in self._roster}

    # Taking over, giving up, time

    def load(self, now: float, now_ms: int) -> None:
        """Become the coordinator; `now_ms` is the time that is written down."""
        self._roster.take_charge(now, now_ms)

    def unload(self) -> None:
        """Stop being the coordinator; whoever waits is told to look for the new one."""
        self._roster.give_up()

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do; infinity for never."""
        return self._roster.next_deadline

    def tick(self, now: float) -> None:
        """Let time pass: sessions run out, rebalances end, groups are taken over."""
        self._roster.tick(now)

    # JoinGroup

    def join(self, request: JoinRequest, now: float, reply: JoinReply) -> None:
        """A client wants to be a member, or a member was told to join again."""
        group = self._roster.find(request.group_id, now)
        error = self._join_error(request, group)
        if error is GroupError.NONE:
            group = group or Group(request.group_id, GroupMembers(self._roster.outbox))
            error = self._join(group, request, now, reply)
            if error is GroupError.NONE:
                self._roster.add(group, now)
        if error is not GroupError.NONE:
            self._roster.outbox.append((reply, JoinResult(error=error, member_id=request.member_id)))
        self._roster.send()

    def _join_error(self, request: JoinRequest, group: Group | None) -> GroupError:
        """What can be refused without looking at the members."""
        if not self.is_active:
            return GroupError.NOT_COORDINATOR
        if not request.group_id:
            return GroupError.INVALID_GROUP_ID
        settings = self._settings()
        low, high = settings.session_timeout_min_ms, settings.session_timeout_max_ms
        if not low <= request.session_timeout_ms <= high:
            return GroupError.INVALID_SESSION_TIMEOUT
        offered = sum(len(offered.name) + len(offered.metadata) for offered in request.protocols)
        if offered > OFFER_BYTES_MAX or self._roster.bytes + offered > GROUPS_BYTES_MAX:
            return GroupError.GROUP_MAX_SIZE_REACHED
        if group is None and request.member_id:
            return GroupError.UNKNOWN_MEMBER_ID
        if group is None and len(self._roster) >= GROUPS_MAX:
            return GroupError.GROUP_MAX_SIZE_REACHED
        return GroupError.NONE

    def _join(self, group: Group, request: JoinRequest, now: float, reply: JoinReply) -> GroupError:
        """NONE when the request is answered or parked."""
        if request.member_id in group.members.pending and request.instance_id is None:
            return self._add_member(group, request, request.member_id, now, reply)
        if request.member_id:
            member = group.members.find(request.member_id, request.instance_id)
            if isinstance(member, GroupError):
                return member
            return self._join_again(group, member, request, now, reply)
        known = group.members.static.get(request.instance_id) if request.instance_id is not None else None
        if known is not None:
            return self._replace_static(group, group.members.by_id[known], request, now, reply)
        return self._join_new(group, request, now, reply)

    def _join_new(self, group: Group, request: JoinRequest, now: float, reply: JoinReply) -> GroupError:
        if not group.takes(request.protocol_type, request.protocols, None):
            return GroupError.INCONSISTENT_GROUP_PROTOCOL
        if len(group.members) + len(group.members.pending) >= self._settings().size_max:
            return GroupError.GROUP_MAX_SIZE_REACHED
        member_id = self._member_id(request)
        if request.instance_id is not None or not request.require_known_member_id:
            return self._add_member(group, request, member_id, now, reply)
        if len(group.members.pending) >= PENDING_MAX:
            return GroupError.GROUP_MAX_SIZE_REACHED
        group.members.pending[member_id] = (now + PENDING_WAIT_S, now + request.session_timeout_ms / 1000)
        result = JoinResult(error=GroupError.MEMBER_ID_REQUIRED, member_id=member_id)
        self._roster.outbox.append((reply, result))
        return GroupError.NONE

    def _member_id(self, request: JoinRequest) -> str:
        name = request.client_id if request.instance_id is None else request.instance_id
        return f"{name}-{self._new_id()}"

    def _add_member(
        self, group: Group, request: JoinRequest, member_id: str, now: float, reply: JoinReply
    ) -> GroupError:
        if not group.takes(request.protocol_type, request.protocols, None):
            return GroupError.INCONSISTENT_GROUP_PROTOCOL
        delay = self._settings().initial_rebalance_delay_ms / 1000
        group.delay_initial(now, delay)
        member = Member(member_id, request.instance_id)
        group.members.add(member)
        group.take(member, request, now)
        group.rebalance(now, delay)
        group.members.park_join(member, reply)
        return GroupError.NONE

    def _join_again(
        self, group: Group, member: Member, request: JoinRequest, now: float, reply: JoinReply
    ) -> GroupError:
        if not group.takes(request.protocol_type, request.protocols, member):
            return GroupError.INCONSISTENT_GROUP_PROTOCOL
        same = member.protocols == request.protocols and group.protocol_type == request.protocol_type
        leads = member.member_id == group.leader
        settled = group.state is GroupState.COMPLETING_REBALANCE or (
            group.state is GroupState.STABLE and not leads
        )
        group.take(member, request, now)
        if same and settled:
            # It lost the answer; a leader that joins a stable group wants a rebalance.
            self._roster.outbox.append((reply, group.join_result(member)))
            return GroupError.NONE
        group.rebalance(now)
        group.members.park_join(member, reply)
        return GroupError.NONE

    def _replace_static(
        self, group: Group, member: Member, request: JoinRequest, now: float, reply: JoinReply
    ) -> GroupError:
        """A static member starts again. In a stable group it takes its place back without a rebalance,
        unless that would change what is assigned to whom."""
        if not group.takes(request.protocol_type, request.protocols, member):
            return GroupError.INCONSISTENT_GROUP_PROTOCOL
        leader_before, before = (
            group.leader,
            (group.protocol_type, member.topics_in(group.protocol_type, group.protocol)),
        )
        id_before = member.member_id
        group.replace_static(member, self._member_id(request))
        group.take(member, request, now)
        after = (group.protocol_type, member.topics_in(group.protocol_type, group.protocol))
        same = after == before and elect_protocol(group.members.by_id.values()) == group.protocol
        if group.state is not GroupState.STABLE or not same:
            group.rebalance(now)
            group.members.park_join(member, reply)
            return GroupError.NONE
        result = group.join_result(member)
        if request.can_skip_assignment:
            result = replace(result, skip_assignment=result.leader == member.member_id)
        elif result.leader == member.member_id:
            # Told that it leads, it would assign anew what is assigned: let it believe that another does.
            result = replace(result, leader=leader_before, members=())
        group.members.park_join(member, reply)
        self._roster.keep_return(group, member, id_before, result)
        return GroupError.NONE

    # SyncGroup, Heartbeat, LeaveGroup

    def sync(self, request: SyncRequest, now: float, reply: SyncReply) -> None:
        """A member asks for its assignment; the leader brings everyone's."""
        group = self._roster.find(request.group_id, now)
        error = self._sync(group, request, now, reply) if group else self._no_group()
        if group is not None:
            self._roster.settle(group, now)
        if error is not GroupError.NONE:
            self._roster.outbox.append((reply, SyncResult(error=error)))
        self._roster.send()

    def _no_group(self) -> GroupError:
        return GroupError.UNKNOWN_MEMBER_ID if self.is_active else GroupError.NOT_COORDINATOR

    def _sync(self, group: Group, request: SyncRequest, now: float, reply: SyncReply) -> GroupError:
        member = group.members.find(request.member_id, request.instance_id)
        if isinstance(member, GroupError):
            return member
        if request.generation_id != group.generation:
            return GroupError.ILLEGAL_GENERATION
        if request.protocol_type not in (None, group.protocol_type):
            return GroupError.INCONSISTENT_GROUP_PROTOCOL
        if request.protocol_name not in (None, group.protocol):
            return GroupError.INCONSISTENT_GROUP_PROTOCOL
        if group.state is GroupState.PREPARING_REBALANCE:
            return GroupError.REBALANCE_IN_PROGRESS
        if self._roster.bytes + sum(map(len, request.assignments.values())) > GROUPS_BYTES_MAX:
            return GroupError.GROUP_MAX_SIZE_REACHED
        member.refresh(now)
        group.members.park_sync(member, reply)
        if group.state is GroupState.STABLE:
            group.members.answer_sync(member, group.sync_result(member))
        elif member.member_id == group.leader and not group.is_assigned:
            group.assign(request.assignments)
            self._roster.keep_generation(group, now)
        return GroupError.NONE

    def heartbeat(self, request: HeartbeatRequest, now: float) -> GroupError:
        """A member is alive, and learns whether it is to join again."""
        group = self._roster.find(request.group_id, now)
        if group is None:
            return self._no_group()
        member = group.members.find(request.member_id, request.instance_id)
        if isinstance(member, GroupError):
            return member
        if request.generation_id != group.generation:
            return GroupError.ILLEGAL_GENERATION
        member.refresh(now)
        rebalancing = group.state is GroupState.PREPARING_REBALANCE
        return GroupError.REBALANCE_IN_PROGRESS if rebalancing else GroupError.NONE

    def leave(self, request: LeaveRequest, now: float) -> LeaveResult:
        """Members go, each by itself or at an administrator's word."""
        if not self.is_active:
            return LeaveResult(error=GroupError.NOT_COORDINATOR)
        group = self._roster.find(request.group_id, now)
        before = list(group.members) if group is not None else []
        left = tuple(
            LeftMember(
                leaving.member_id,
                leaving.instance_id,
                self._leave(group, leaving) if group else GroupError.UNKNOWN_MEMBER_ID,
            )
            for leaving in request.members
        )
        if group is not None:
            self._roster.note_gone(group, [one for one in before if one.member_id not in group.members])
        if group is not None and any(member.error is GroupError.NONE for member in left):
            if group.state is not GroupState.EMPTY:
                group.rebalance(now)
            self._roster.settle(group, now)
        self._roster.send()
        return LeaveResult(error=GroupError.NONE, members=left)

    def _leave(self, group: Group, leaving: LeavingMember) -> GroupError:
        member_id = leaving.member_id
        if group.members.pending.pop(member_id, None) is not None:
            return GroupError.NONE
        if member_id == NO_MEMBER and leaving.instance_id is not None:
            member_id = group.members.static.get(leaving.instance_id, NO_MEMBER)
        member = group.members.find(member_id, leaving.instance_id)
        if isinstance(member, GroupError):
            return member
        group.members.remove(member)
        return GroupError.NONE

    # What others ask of a group

    def check_commit(self, check: CommitCheck, now: float) -> GroupError:
        """Whether these offsets may be committed; counts as a heartbeat of the member's."""
        if not self.is_active:
            return GroupError.NOT_COORDINATOR
        group = self._roster.find(check.group_id, now)
        nameless = check.generation_id < 0 and not check.member_id and check.instance_id is None
        if check.transactional and nameless:
            return GroupError.NONE
        if group is None:
            if check.generation_id < 0:
                return GroupError.NONE
            # A member of before this broker coordinated must drop its id before it joins again.
            return GroupError.UNKNOWN_MEMBER_ID if check.member_id else GroupError.ILLEGAL_GENERATION
        if check.generation_id < 0 and group.state is GroupState.EMPTY:
            return GroupError.NONE
        member = group.members.find(check.member_id, check.instance_id)
        if isinstance(member, GroupError):
            return member
        if check.generation_id != group.generation:
            return GroupError.ILLEGAL_GENERATION
        member.refresh(now)
        # In PreparingRebalance a member still owns what it is about to give up, and commits it.
        # Offsets in a transaction are taken while the group settles: three clients give up when they are not.
        settling = group.state is GroupState.COMPLETING_REBALANCE and not check.transactional
        return GroupError.REBALANCE_IN_PROGRESS if settling else GroupError.NONE

    def describe(self, group_id: str) -> GroupDescription | GroupError:
        """The group as it is now; NOT_COORDINATOR is the only error."""
        if not self.is_active:
            return GroupError.NOT_COORDINATOR
        group = self._roster.seen(group_id)
        if group is not None:
            return described(group)
        state = GroupState.EMPTY if group_id in self._stored_groups() else GroupState.DEAD
        return GroupDescription(group_id=group_id, state=state)

    def list_groups(
        self, states: Iterable[str] = (), types: Iterable[str] = ()
    ) -> list[GroupListing] | GroupError:
        """Groups with members and groups with offsets; an empty filter takes all, case does not count.
        NOT_COORDINATOR is the only error."""
        if not self.is_active:
            return GroupError.NOT_COORDINATOR
        in_states = {state.lower() for state in states}
        of_types = {kind.lower() for kind in types}
        known = self._roster.listed()
        stored = (
            GroupListing(group_id, "", GroupState.EMPTY)
            for group_id in self._stored_groups()
            if group_id not in known
        )
        return [
            listing
            for listing in (*known.values(), *stored)
            if (not in_states or listing.state.value.lower() in in_states)
            and (not of_types or listing.group_type in of_types)
        ]

    def delete(self, group_id: str, now: float) -> GroupError:
        """On NONE the group has no members and is forgotten here; the caller proposes DeleteGroup, which
        may find that there were no offsets."""
        if not self.is_active:
            return GroupError.NOT_COORDINATOR
        group = self._roster.find(group_id, now)
        if group is None:
            return GroupError.NONE if group_id in self._stored_groups() else GroupError.GROUP_ID_NOT_FOUND
        if group.state is not GroupState.EMPTY:
            return GroupError.NON_EMPTY_GROUP
        self._roster.remove(group_id)
        return GroupError.NONE

    def check_delete_offsets(
        self, group_id: str, topics: Iterable[str]
    ) -> GroupError | dict[str, GroupError]:
        """An error of the whole request, or one for each topic: NONE or GROUP_SUBSCRIBED_TO_TOPIC."""
        if not self.is_active:
            return GroupError.NOT_COORDINATOR
        group = self._roster.seen(group_id)
        if group is None and group_id not in self._stored_groups():
            return GroupError.GROUP_ID_NOT_FOUND
        if group is None or not group.members:
            return dict.fromkeys(topics, GroupError.NONE)
        if group.protocol_type != CONSUMER_PROTOCOL_TYPE:
            return GroupError.NON_EMPTY_GROUP
        return {
            topic: GroupError.GROUP_SUBSCRIBED_TO_TOPIC if group.is_subscribed(topic) else GroupError.NONE
            for topic in topics
        }

    def expirable(self, groups: Iterable[str], retention_ms: int, now: float) -> list[str]:
        """Those of `groups` that have had no members for the retention, as far as is known here; none at
        all soon after `load`, when members may not have come back yet. For ExpireOffsets."""
        since = self._roster.in_charge_since
        if since is None or now - since < self._settings().session_timeout_max_ms / 1000:
            return []
        return [group_id for group_id in groups if self._is_expirable(group_id, now - retention_ms / 1000)]

    def unsubscribed(self, group_id: str, topics: Iterable[str]) -> list[str]:
        """Those of `topics` that no member of a consumer group reads, as Kafka sees it: nothing of a group
        that is empty or between two generations (KIP-211)."""
        group = self._roster.seen(group_id)
        if (
            group is None
            or group.state is not GroupState.STABLE
            or group.protocol_type != CONSUMER_PROTOCOL_TYPE
        ):
            return []
        return [topic for topic in topics if not group.is_subscribed(topic)]

    def _is_expirable(self, group_id: str, before: float) -> bool:
        group = self._roster.seen(group_id)
        return group is None or (group.state is GroupState.EMPTY and group.empty_since <= before)
