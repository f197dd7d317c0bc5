"""The groups that this broker coordinates: taken over from the metadata, kept there, looked at in time.

A generation is kept in the metadata before anybody is given an assignment of it, and so is a static member's
other id before it is told. So whoever coordinates next knows the members, and nobody joins again for the
change: their heartbeats and commits go on. Only sessions begin anew.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterator
from typing import Final

from raftlog.cluster.groups.api import GroupError, GroupListing, GroupState, JoinResult
from raftlog.cluster.groups.group import EMPTY_GROUP_KEPT_S, Group
from raftlog.cluster.groups.keeping import KeptGroups, restored, to_row, whole
from raftlog.cluster.groups.member import Member
from raftlog.cluster.groups.members import Outbox
from raftlog.metadata.groups import ChangeMembers, ForgetGroup

TAKEN_OVER_AT_ONCE: Final = 200
"""Members, and groups, that are taken over in one step: two milliseconds."""


class Roster:
    """Groups by id, as long as this broker is in charge of them."""

    def __init__(self, kept: KeptGroups, stored_groups: Callable[[], Collection[str]]) -> None:
        self.outbox: Outbox = []
        self.in_charge_since: float | None = None
        self._kept = kept
        self._stored_groups = stored_groups
        self._groups: dict[str, Group] = {}
        self._to_take_over: list[str] = []
        self._to_keep: dict[str, None] = {}
        """Groups that completed a generation while a broker of the cluster did not know how to keep it."""
        self._timers: list[tuple[float, str]] = []
        """When to look at which group; what was made void by an earlier time is still there."""
        self._next_look: dict[str, float] = {}
        """When each group is looked at next."""
        self._sizes: dict[str, int] = {}
        self.bytes = 0
        """What all groups have this broker hold."""
        self._epoch_ms = 0.0
        """The time that is written down at 0 of the monotonic one."""

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    # Taking over, giving up, time

    def take_charge(self, now: float, now_ms: int) -> None:
        """Groups are taken over as they are asked for, and the others by `tick`."""
        assert not self._groups, "loaded twice"
        self.in_charge_since = now
        self._epoch_ms = now_ms - now * 1000
        self._to_take_over = list(self._kept)

    def give_up(self) -> None:
        """Whoever waits is told to look for the next coordinator."""
        for group in self._groups.values():
            for member in group.members:
                group.members.refuse_waiting(member, GroupError.NOT_COORDINATOR)
        self._groups.clear()
        self._timers.clear()
        self._next_look.clear()
        self._sizes.clear()
        self.bytes = 0
        self._to_take_over.clear()
        self._to_keep.clear()
        self.in_charge_since = None
        self.send()

    @property
    def next_deadline(self) -> float:
        if self._to_take_over or (self._to_keep and self._kept.is_open):
            return -math.inf
        return self._timers[0][0] if self._timers else math.inf

    def tick(self, now: float) -> None:
        cost = TAKEN_OVER_AT_ONCE
        while self._to_take_over and cost > 0:
            group = self.find(self._to_take_over.pop(), now)
            cost -= 1 + (len(group.members) if group is not None else 0)
        while self._to_keep and self._kept.is_open and cost > 0:
            group = self._groups.get(self._to_keep.popitem()[0])
            if group is not None and group.state is GroupState.STABLE:
                self._kept.keep(whole(group, self._time_ms(now)), _nothing)
                cost -= 1 + len(group.members)
        due = []
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers))
        for deadline, group_id in due:
            group = self._groups.get(group_id)
            if group is not None and self._next_look.get(group_id) == deadline:
                del self._next_look[group_id]
                self.note_gone(group, group.expire(now))
                self.settle(group, now)
        self.send()

    # Groups

    def find(self, group_id: str, now: float) -> Group | None:
        """The group, taken over from the metadata if need be."""
        group = self._groups.get(group_id)
        if group is None and self.in_charge_since is not None:
            group = self._restored(group_id, now)
            if group is not None:
                self.add(group, now)
        return group

    def seen(self, group_id: str) -> Group | None:
        """The group, to be looked at only: it may not have been taken over yet."""
        if self.in_charge_since is None:
            return None
        return self._groups.get(group_id) or self._restored(group_id, self.in_charge_since)

    def listed(self) -> dict[str, GroupListing]:
        """Every group that has or had members."""
        found: dict[str, GroupListing] = {}
        for group_id in self._to_take_over:
            if (kept := self._kept.get(group_id)) is not None:
                state = GroupState.STABLE if kept.members else GroupState.EMPTY
                found[group_id] = GroupListing(group_id, kept.protocol_type or "", state)
        for group in self:
            found[group.group_id] = GroupListing(group.group_id, group.protocol_type or "", group.state)
        return found

    def add(self, group: Group, now: float) -> None:
        """Also for one that is there: something has happened to it."""
        self._groups[group.group_id] = group
        self.settle(group, now)

    def remove(self, group_id: str) -> None:
        """It is forgotten here; the metadata may still have it."""
        self._groups.pop(group_id, None)
        self._next_look.pop(group_id, None)
        self.bytes -= self._sizes.pop(group_id, 0)

    def _restored(self, group_id: str, now: float) -> Group | None:
        kept = self._kept.get(group_id)
        if kept is None:
            return None
        age_s = max(0.0, now + (self._epoch_ms - kept.since_ms) / 1000)
        return restored(group_id, kept, self.outbox, now, age_s)

    def settle(self, group: Group, now: float) -> None:
        """After anything that happened to a group: end its rebalance if it can end, forget it or look at
        it again in time."""
        group.complete_join(now)
        self._weigh(group)
        if group.members or group.members.pending or group.state is not GroupState.EMPTY:
            self._look_at(group, group.next_deadline(now))
            return
        if 0 < group.kept_generation < group.generation:
            group.kept_generation = group.generation
            self._kept.keep(whole(group, self._time_ms(now)), _nothing)
        kept_until = group.empty_since + EMPTY_GROUP_KEPT_S
        if kept_until <= now and group.group_id in self._stored_groups():
            # Its offsets last from when it became empty, so that is to be remembered.
            kept_until = now + EMPTY_GROUP_KEPT_S
        if kept_until > now:
            self._look_at(group, kept_until)
            return
        self.remove(group.group_id)
        if group.kept_generation:
            self._kept.keep(ForgetGroup(group=group.group_id), _nothing)

    def _weigh(self, group: Group) -> None:
        size = group.members.size
        self.bytes += size - self._sizes.get(group.group_id, 0)
        self._sizes[group.group_id] = size

    def _look_at(self, group: Group, deadline: float) -> None:
        if deadline < self._next_look.get(group.group_id, math.inf):
            self._next_look[group.group_id] = deadline
            heapq.heappush(self._timers, (deadline, group.group_id))

    def send(self) -> None:
        """Call back whoever is to be answered. Last of all, for a callback may call the coordinator."""
        while self.outbox:
            due = self.outbox.copy()
            self.outbox.clear()
            for reply, result in due:
                reply(result)

    # What is kept in the metadata

    def keep_generation(self, group: Group, now: float) -> None:
        """The leader has assigned. Once that is kept, everyone gets its part."""
        generation = group.kept_generation = group.generation
        if not self._kept.is_open:
            self._to_keep[group.group_id] = None

        def on_kept(is_kept: bool, now: float) -> None:
            if not self._is_at(group, generation) or group.state is not GroupState.COMPLETING_REBALANCE:
                return
            if is_kept:
                group.become_stable(now)
            else:
                for member in group.members:
                    group.members.refuse_waiting(member, GroupError.NOT_COORDINATOR)
                group.rebalance(now)
            self.settle(group, now)
            self.send()

        self._kept.keep(whole(group, self._time_ms(now)), on_kept)

    def keep_return(self, group: Group, member: Member, old_id: str, result: JoinResult) -> None:
        """A static member came back under another id, and waits. Once that is kept, it is told."""
        generation, new_id = group.generation, member.member_id
        command = ChangeMembers(
            group=group.group_id,
            generation=generation,
            gone=(old_id,),
            come=((new_id, to_row(member)),),
            leader=group.leader,
        )

        def on_kept(is_kept: bool, now: float) -> None:
            if not self._is_at(group, generation) or group.state is not GroupState.STABLE:
                return
            if not is_kept:
                group.rebalance(now)
            elif member.member_id == new_id:
                group.members.answer_join(member, result)
                member.refresh(now)
            self.settle(group, now)
            self.send()

        self._kept.keep(command, on_kept)

    def note_gone(self, group: Group, gone: Collection[Member]) -> None:
        """A coordinator that takes over before the others have joined again need not wait for these."""
        if gone and group.kept_generation and group.members:
            ids = tuple(member.member_id for member in gone)
            command = ChangeMembers(
                group=group.group_id, generation=group.kept_generation, gone=ids, leader=group.leader
            )
            self._kept.keep(command, _nothing)

    def _is_at(self, group: Group, generation: int) -> bool:
        return self._groups.get(group.group_id) is group and group.generation == generation

    def _time_ms(self, now: float) -> int:
        return int(self._epoch_ms + now * 1000)


def _nothing(is_kept: bool, now: float) -> None:
    """Nobody waits for it. Should it not be kept, time says the same to the next coordinator."""
