"""Who belongs to a group: members by id, static members by instance, ids that were given out; and what they
wait for.

Invariants: a member waits for at most one join or sync, and each is answered exactly once, through the
outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from raftlog.cluster.groups.api import GroupError, JoinResult, SyncResult
from raftlog.cluster.groups.member import Member

GROUP_COST: Final = 1024
"""Bytes of objects that a group without members costs."""
PENDING_COST: Final = 256
"""Of an id that was given out."""

Reply = Callable[[Any], None]
Outbox = list[tuple[Reply, JoinResult | SyncResult]]
"""Answers that are due; sent when the state is consistent again."""


@dataclass(slots=True, eq=False)
class GroupMembers:
    """Of one group."""

    outbox: Outbox
    by_id: dict[str, Member] = field(default_factory=dict)
    """In the order of joining."""
    static: dict[str, str] = field(default_factory=dict)
    """Instance id to member id."""
    pending: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Ids that were given out and have not joined (KIP-394): until when a rebalance waits for them, and
    until when they may be used."""

    def __len__(self) -> int:
        return len(self.by_id)

    def __contains__(self, member_id: str) -> bool:
        return member_id in self.by_id

    def __iter__(self) -> Iterator[Member]:
        return iter(self.by_id.values())

    @property
    def size(self) -> int:
        """Bytes that they have the coordinator hold, the group included."""
        return GROUP_COST + PENDING_COST * len(self.pending) + sum(member.size for member in self)

    def find(self, member_id: str, instance_id: str | None) -> Member | GroupError:
        """The member that says it is this one. A static one is fenced when another took its place."""
        if instance_id is not None:
            current = self.static.get(instance_id)
            if current is None:
                return GroupError.UNKNOWN_MEMBER_ID
            return self.by_id[current] if current == member_id else GroupError.FENCED_INSTANCE_ID
        return self.by_id.get(member_id, GroupError.UNKNOWN_MEMBER_ID)

    def add(self, member: Member) -> None:
        self.by_id[member.member_id] = member
        self.pending.pop(member.member_id, None)
        if member.instance_id is not None:
            self.static[member.instance_id] = member.member_id

    def remove(self, member: Member, error: GroupError = GroupError.UNKNOWN_MEMBER_ID) -> None:
        """Take a member out; whatever it waits for is answered with `error`."""
        self.refuse_waiting(member, error)
        del self.by_id[member.member_id]
        if member.instance_id is not None:
            del self.static[member.instance_id]

    def replace_static(self, member: Member, new_id: str) -> None:
        """A static member came back under a new id: the old one is fenced (KIP-345)."""
        assert member.instance_id is not None
        self.refuse_waiting(member, GroupError.FENCED_INSTANCE_ID)
        old_id = member.member_id
        self.by_id = {new_id if key == old_id else key: known for key, known in self.by_id.items()}
        self.static[member.instance_id] = member.member_id = new_id

    def drop_unused(self, now: float) -> None:
        """Forget the ids that nobody has used in time."""
        for member_id, (_, usable_until) in list(self.pending.items()):
            if usable_until <= now:
                del self.pending[member_id]

    def have_all_joined(self, now: float) -> bool:
        if any(waits_until > now for waits_until, _ in self.pending.values()):
            return False
        return all(member.waiting_join is not None for member in self)

    def park_join(self, member: Member, reply: Callable[[JoinResult], None]) -> None:
        """A second request of one member means that the first one's connection is gone."""
        self.refuse_waiting(member, GroupError.REBALANCE_IN_PROGRESS)
        member.waiting_join = reply

    def park_sync(self, member: Member, reply: Callable[[SyncResult], None]) -> None:
        self.refuse_waiting(member, GroupError.REBALANCE_IN_PROGRESS)
        member.waiting_sync, member.owes_sync = reply, False

    def answer_join(self, member: Member, result: JoinResult) -> None:
        if member.waiting_join is not None:
            self.outbox.append((member.waiting_join, result))
            member.waiting_join = None

    def answer_sync(self, member: Member, result: SyncResult) -> None:
        if member.waiting_sync is not None:
            self.outbox.append((member.waiting_sync, result))
            member.waiting_sync = None

    def refuse_waiting(self, member: Member, error: GroupError) -> None:
        """Answer whatever the member waits for with an error."""
        self.answer_join(member, JoinResult(error=error, member_id=member.member_id))
        self.answer_sync(member, SyncResult(error=error))
