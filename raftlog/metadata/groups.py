"""Classic consumer groups: generation, members, assignments, so that the next coordinator goes on with them.

Must not know: who was heard when, what a member's row says. A coordinator writes rows and reads them; here
they are bytes. A group's generation never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

from raftlog.errors import InvalidInput
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.group_table import StoredGroup
from raftlog.metadata.noun import Command, Noun, Refusal, Refused, Result, Table
from raftlog.types import RaftIndex

GROUP_BYTES_MAX: Final = 512 * 1024
"""A group in one command: some thousands of members with a few partitions each. A larger one is not kept: its
members join again when the coordinator changes."""

GROUPS_BYTES_MAX: Final = 32 * 1024 * 1024
"""All groups together, so that topics and offsets have their half of a full catalog."""

GENERATION_MAX: Final = 2**31 - 10_000
"""A generation is 31 bits at clients, and a coordinator counts on from here."""

STRING_MAX: Final = 32_767
"""Bytes of a string at clients."""


@dataclass(frozen=True, slots=True)
class GroupStored(Result):
    generation: int


@dataclass(frozen=True, slots=True)
class GroupForgotten(Result):
    pass


class _GroupsCommand(Command):
    __slots__ = ()

    needs_level: ClassVar[int] = 3
    changes_topology: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreGroup(_GroupsCommand):
    """A group's rebalance is complete, or it has become empty."""

    kind: ClassVar[str] = "store_group"
    grows: ClassVar[str] = "groups"
    group: str
    generation: int
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: tuple[tuple[str, bytes], ...] = ()
    at_ms: int

    def no_room(self, catalog: Catalog, size: int) -> str | None:
        return _no_room(catalog, size, size)

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        names = (self.group, self.protocol_type or "", self.protocol or "", self.leader)
        if not 0 <= self.generation <= GENERATION_MAX or not _fit(*names, *(id for id, _ in self.members)):
            return Refused(Refusal.INVALID_VALUE, f"group {self.group[:60]!r} cannot be told to clients")
        known = catalog.groups.get(self.group)
        if known is not None and self.generation < known.generation:
            detail = f"generation {self.generation} of {self.group[:60]!r}, which had {known.generation}"
            return Refused(Refusal.INVALID_VALUE, detail)
        stored = StoredGroup(
            self.generation,
            self.protocol_type,
            self.protocol,
            self.leader,
            dict(self.members),
            self.at_ms,
        )
        catalog.groups.put(self.group, stored)
        return GroupStored(self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeMembers(_GroupsCommand):
    """Members of a generation have left or were silent; or a static one came back under another id, and the
    generation goes on."""

    kind: ClassVar[str] = "change_members"
    grows: ClassVar[str] = "groups"
    group: str
    generation: int
    gone: tuple[str, ...]
    come: tuple[tuple[str, bytes], ...] = ()
    leader: str

    def no_room(self, catalog: Catalog, size: int) -> str | None:
        if not self.come:
            return None
        group_size = catalog.groups.size_of(self.group, without=self.gone) + size
        return _no_room(catalog, group_size, size)

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        known = catalog.groups.get(self.group)
        if known is None or known.generation != self.generation:
            return Refused(
                Refusal.UNKNOWN_GROUP, f"group {self.group[:60]!r} is not at generation {self.generation}"
            )
        if not _fit(self.leader, *(id for id, _ in self.come)):
            return Refused(Refusal.INVALID_VALUE, f"group {self.group[:60]!r} cannot be told to clients")
        members = dict(known.members)
        lost = sum(members.pop(member, None) is not None for member in self.gone)
        members.update(self.come)
        changed = replace(
            known,
            members=members,
            leader=self.leader,
            has_lost_members=known.has_lost_members or lost > len(self.come),
        )
        catalog.groups.put(self.group, changed)
        return GroupStored(self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetGroup(_GroupsCommand):
    """A group has been empty for long, or is too large to be kept. Its offsets stay."""

    kind: ClassVar[str] = "forget_group"
    group: str

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        if catalog.groups.pop(self.group) is None:
            return Refused(Refusal.UNKNOWN_GROUP, f"group {self.group[:60]!r} is not kept")
        return GroupForgotten()


def _no_room(catalog: Catalog, group_size: int, more: int) -> str | None:
    """Why a group cannot become so large, by so many bytes `more`; None when it can."""
    if group_size > GROUP_BYTES_MAX:
        return f"a group of {group_size} bytes, {GROUP_BYTES_MAX} is the most"
    if catalog.groups.bytes + more > GROUPS_BYTES_MAX:
        return f"groups of {catalog.groups.bytes} bytes, {GROUPS_BYTES_MAX} is the most"
    return None


def _fit(*names: str) -> bool:
    return all(len(name) <= STRING_MAX // 4 or len(name.encode()) <= STRING_MAX for name in names)


def _put(catalog: Catalog, plain: object) -> None:
    for row in plain if isinstance(plain, list) else [plain]:
        match row:
            case [
                str(group),
                int(generation),
                None | str() as protocol_type,
                None | str() as protocol,
                str(leader),
                dict(members),
                int(since_ms),
                bool(has_lost),
            ] if all(type(id) is str and type(kept) is bytes for id, kept in members.items()):
                stored = StoredGroup(generation, protocol_type, protocol, leader, members, since_ms, has_lost)
                catalog.groups.put(group, stored)
            case _:
                raise InvalidInput(f"a group is a row of eight, not {str(row)[:60]}")


GROUPS: Final = Noun(
    commands=(StoreGroup, ChangeMembers, ForgetGroup),
    table=Table(
        begin=lambda catalog: catalog.groups.begin_image(),
        canonical=lambda catalog: catalog.groups.canonical(),
        put=_put,
        since_version=3,
        is_empty=lambda catalog: not catalog.groups,
    ),
)
