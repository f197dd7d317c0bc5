"""How a group is kept in the metadata, and what a coordinator that takes over makes of it.

A member's row is CBOR: instance id, client id, client host, session and rebalance time-outs in milliseconds,
what it offers, as [name, subscription] each, and its assignment. Kafka keeps the subscription in the group's
protocol alone, and refuses who offers another one until all have joined again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import cbor2

from raftlog.cluster.groups.api import GroupProtocol, GroupState
from raftlog.cluster.groups.group import Group
from raftlog.cluster.groups.member import Member
from raftlog.cluster.groups.members import GroupMembers, Outbox
from raftlog.metadata.group_table import StoredGroup
from raftlog.metadata.groups import ChangeMembers, ForgetGroup, StoreGroup

GENERATIONS_SKIPPED: Final = 100
"""Generations that a coordinator may have begun and told of before it ended, with none of them complete: the
next coordinator begins none of the same number."""

GroupCommand = StoreGroup | ChangeMembers | ForgetGroup
OnKept = Callable[[bool, float], None]
"""Whether it is on a majority of disks, and the time."""

log = logging.getLogger("raftlog.groups")


class KeptGroups(Protocol):
    """The groups in the metadata."""

    def __iter__(self) -> Iterator[str]: ...

    def get(self, group: str, /) -> StoredGroup | None: ...

    @property
    def is_open(self) -> bool:
        """Whether every broker of the cluster knows how to keep groups."""

    def keep(self, command: GroupCommand, on_kept: OnKept, /) -> None:
        """`on_kept` is called once, at once or later. A group that cannot be kept, for its size or for older
        brokers in the cluster, counts as kept: it is as if its members had never been known elsewhere."""


def to_row(member: Member) -> bytes:
    return cbor2.dumps(
        [
            member.instance_id,
            member.client_id,
            member.client_host,
            round(member.session_timeout * 1000),
            round(member.rebalance_timeout * 1000),
            [[offered.name, offered.metadata] for offered in member.protocols],
            member.assignment,
        ]
    )


def whole(group: Group, at_ms: int) -> StoreGroup:
    """All of a group that there is to keep."""
    return StoreGroup(
        group=group.group_id,
        generation=group.generation,
        protocol_type=group.protocol_type,
        protocol=group.protocol,
        leader=group.leader,
        members=tuple((id, to_row(member)) for id, member in group.members.by_id.items()),
        at_ms=at_ms,
    )


def restored(
    group_id: str, kept: StoredGroup, outbox: Outbox, now: float, empty_for_s: float
) -> Group | None:
    """The group, its members' sessions beginning now; None when what is kept of it makes no sense."""
    group = Group(
        group_id,
        GroupMembers(outbox),
        generation=kept.generation,
        protocol_type=kept.protocol_type,
        protocol=kept.protocol,
        leader=kept.leader,
        told_generation=kept.generation + GENERATIONS_SKIPPED,
        kept_generation=kept.generation,
        empty_since=now - empty_for_s,
    )
    for member_id, row in kept.members.items():
        member = _from_row(member_id, row)
        if member is None or kept.protocol not in {offered.name for offered in member.protocols}:
            log.warning("group %.60s is not taken over: what is kept of a member makes no sense", group_id)
            return None
        group.members.add(member)
        member.refresh(now)
    if group.members:
        group.state = GroupState.STABLE
        if kept.has_lost_members or group.leader not in group.members:
            group.rebalance(now)
    return group


def _from_row(member_id: str, row: bytes) -> Member | None:
    try:
        plain: Any = cbor2.loads(row)
    except Exception:  # tags decode to dates, patterns, fractions…: each fails in its own way
        return None
    match plain:
        case [
            None | str() as instance_id,
            str(client_id),
            str(client_host),
            int(session_ms),
            int(rebalance_ms),
            list(offers),
            bytes(assignment),
        ] if all(map(_is_offer, offers)):
            return Member(
                member_id,
                instance_id,
                client_id,
                client_host,
                session_ms / 1000,
                rebalance_ms / 1000,
                tuple(GroupProtocol(name, subscription) for name, subscription in offers),
                assignment=assignment,
            )
    return None


def _is_offer(plain: object) -> bool:
    match plain:
        case [str(), bytes()]:
            return True
    return False
