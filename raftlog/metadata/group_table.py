"""The table of consumer groups: each generation as one value, encoded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import cbor2

from raftlog.metadata import codec


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A generation whose members have been given their assignments, or a group that is empty."""

    generation: int
    protocol_type: str | None
    protocol: str | None
    leader: str
    members: Mapping[str, bytes]
    """Member id to what the coordinator keeps of it, in the order of joining."""
    since_ms: int
    """When the generation began, by its coordinator's clock."""
    has_lost_members: bool = False
    """Members of the generation have gone, and what they had is nobody's: the group has to rebalance."""
    _encoded: bytes = field(default=b"", init=False, repr=False, compare=False)

    def encoded(self, group: str) -> bytes:
        """The group in an image. Kept, for the next one: a group that changes is another value."""
        if not self._encoded:
            row = [
                group,
                self.generation,
                self.protocol_type,
                self.protocol,
                self.leader,
                dict(self.members),
                self.since_ms,
                self.has_lost_members,
            ]
            object.__setattr__(self, "_encoded", cbor2.dumps(row))
        return self._encoded

    @property
    def cost(self) -> int:
        """About what `encoded` has to do, in rows."""
        return 1 if self._encoded else 1 + len(self.members)


class Groups:
    """All groups that are kept."""

    def __init__(self) -> None:
        self._groups: dict[str, StoredGroup] = {}
        self.bytes = 0
        """About what they take in an image."""

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __contains__(self, group: object) -> bool:
        return group in self._groups

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Groups) and self._groups == other._groups

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Groups {len(self._groups)} bytes={self.bytes}>"

    def get(self, group: str) -> StoredGroup | None:
        return self._groups.get(group)

    def size_of(self, group: str, *, without: Iterable[str] = ()) -> int:
        """About what a group takes in an image, but for some members; 0 when it is not kept."""
        known = self._groups.get(group)
        if known is None:
            return 0
        gone = [(member, known.members[member]) for member in without if member in known.members]
        return _size(group, known) - sum(len(member) + len(row) for member, row in gone)

    def put(self, group: str, stored: StoredGroup) -> None:
        self.pop(group)
        self._groups[group] = stored
        self.bytes += _size(group, stored)

    def pop(self, group: str) -> StoredGroup | None:
        known = self._groups.pop(group, None)
        if known is not None:
            self.bytes -= _size(group, known)
        return known

    def canonical(self) -> bytes:
        return b"".join(stored.encoded(group) for group, stored in sorted(self._groups.items()))

    def begin_image(self) -> GroupsEncoding:
        return GroupsEncoding(list(self._groups.items()))


def _size(group: str, stored: StoredGroup) -> int:
    return 64 + len(group) + sum(len(member) + len(row) for member, row in stored.members.items())


class GroupsEncoding:
    """The table on its way into an image, as it was when that was begun."""

    def __init__(self, groups: list[tuple[str, StoredGroup]]) -> None:
        self._left = groups
        self._rows: list[bytes] = []

    def encode_some(self, cost_max: int) -> int:
        while self._left and cost_max > 0:
            group, stored = self._left.pop()
            cost_max -= stored.cost
            self._rows.append(stored.encoded(group))
        return 0 if self._left else max(cost_max, 1)

    def take_image(self) -> list[bytes]:
        assert not self._left, len(self._left)
        return codec.array_of(self._rows)
