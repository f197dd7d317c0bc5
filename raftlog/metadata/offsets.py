"""Consumer groups' committed offsets: the commands that change them, and what those come to.

Must not know: clocks, members of groups. How so many of them are kept is `offset_table`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

import cbor2

from raftlog.metadata import codec
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.noun import Command, Noun, Refusal, Refused, Result, Table
from raftlog.metadata.offset_table import CommittedOffset, Offsets
from raftlog.types import RaftIndex


@dataclass(frozen=True, slots=True)
class OffsetsCommitted(Result):
    """`unknown` are the (group, topic, partition) that were not stored, for there is no such partition."""

    unknown: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class OffsetsDeleted(Result):
    count: int


class OffsetCommit(NamedTuple):
    topic: str
    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str = ""


class GroupCommit(NamedTuple):
    """What one group commits; `timestamp_ms` is the coordinator's clock."""

    group: str
    timestamp_ms: int
    offsets: tuple[OffsetCommit, ...]


class _OffsetsCommand(Command):
    __slots__ = ()

    changes_topology: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOffsets(_OffsetsCommand):
    """The commits that arrived together, of any number of groups."""

    kind: ClassVar[str] = "commit_offsets"
    grows: ClassVar[str] = "offsets"
    commits: tuple[GroupCommit, ...]

    def apply(self, catalog: Catalog, index: RaftIndex) -> OffsetsCommitted:
        unknown = []
        counts: dict[str, int] = {}
        change, staging = catalog.group_offsets.change, catalog.transactions
        for group, timestamp_ms, offsets in self.commits:
            last_topic, rows = None, _NO_ROWS
            for topic, partition, offset, epoch, metadata in offsets:
                if topic not in counts:
                    counts[topic] = catalog.partition_count(topic)
                if not 0 <= partition < counts[topic]:
                    unknown.append((group, topic, partition))
                    continue
                if topic != last_topic:
                    last_topic, rows = topic, change(group, topic)
                rows[partition] = CommittedOffset(offset, epoch, metadata, timestamp_ms)
            if staging.is_staged(group):
                staging.unstage(group, [(each.topic, each.partition) for each in offsets])
        return OffsetsCommitted(tuple(unknown))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOffsets(_OffsetsCommand):
    kind: ClassVar[str] = "delete_offsets"
    group: str
    partitions: tuple[tuple[str, int], ...]

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        table = catalog.group_offsets
        catalog.transactions.unstage(self.group, self.partitions)
        if self.group not in table:
            return _unknown(self.group)
        wanted: dict[str, set[int]] = {}
        for topic, partition in self.partitions:
            wanted.setdefault(topic, set()).add(partition)
        count = 0
        for topic, chosen in wanted.items():
            count += table.forget(
                self.group, topic, [p for p in table.rows(self.group, topic) if p in chosen]
            )
        return OffsetsDeleted(count)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteGroup(_OffsetsCommand):
    """Forgets a group altogether."""

    kind: ClassVar[str] = "delete_group"
    group: str

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        catalog.transactions.unstage(self.group)
        was_kept = catalog.groups.pop(self.group) is not None
        if not was_kept and self.group not in catalog.group_offsets:
            return _unknown(self.group)
        return OffsetsDeleted(catalog.group_offsets.forget_group(self.group))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireOffsets(_OffsetsCommand):
    """Forgets the offsets of these groups that were committed before `before_ms`. Which groups are
    without members only the coordinator knows, so it names them."""

    kind: ClassVar[str] = "expire_offsets"
    groups: tuple[str, ...]
    before_ms: int

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        table = catalog.group_offsets
        return OffsetsDeleted(
            sum(_expire(catalog, group, list(table.topics(group)), self.before_ms) for group in self.groups)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireTopicOffsets(_OffsetsCommand):
    """Forgets a group's offsets in these topics that were committed before `before_ms`: the group has
    members, and none of them subscribes to the topics (KIP-211)."""

    kind: ClassVar[str] = "expire_topic_offsets"
    needs_level: ClassVar[int] = 2
    group: str
    topics: tuple[str, ...]
    before_ms: int

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        return OffsetsDeleted(_expire(catalog, self.group, self.topics, self.before_ms))


def _expire(catalog: Catalog, group: str, topics: Iterable[str], before_ms: int) -> int:
    """All but those that a transaction is about to replace."""
    table, unstable, count = catalog.group_offsets, catalog.transactions.unstable(group), 0
    for topic in topics:
        old = [
            partition
            for partition, at in table.rows(group, topic).items()
            if at.commit_timestamp_ms < before_ms and (topic, partition) not in unstable
        ]
        count += table.forget(group, topic, old)
    return count


def _unknown(group: str) -> Refused:
    return Refused(Refusal.UNKNOWN_GROUP, f"group {group[:60]!r} has no offsets")


_NO_ROWS: Final[dict[int, CommittedOffset]] = {}


# A command as bytes: what `encode_command` makes of a CommitOffsets, without making one.


def encode_commits(commits: Sequence[GroupCommit]) -> bytes:
    """The CommitOffsets of these commits, encoded."""
    return _COMMIT_OFFSETS + cbor2.dumps(commits)


def encode_commit(commit: GroupCommit) -> bytes:
    """One commit, for `join_commits`."""
    return cbor2.dumps(commit)


def join_commits(commits: Sequence[bytes]) -> bytes:
    """The CommitOffsets of these encoded commits, encoded."""
    return b"".join((_COMMIT_OFFSETS, *codec.array_of(commits)))


_COMMIT_OFFSETS: Final = b"\x83\x01" + cbor2.dumps(CommitOffsets.kind) + b"\xa1" + cbor2.dumps("commits")


def _put(catalog: Catalog, plain: object) -> None:
    catalog.group_offsets = Offsets.from_plain(plain)


OFFSETS: Final = Noun(
    commands=(CommitOffsets, DeleteOffsets, DeleteGroup, ExpireOffsets, ExpireTopicOffsets),
    table=Table(
        begin=lambda catalog: catalog.group_offsets.begin_image(),
        canonical=lambda catalog: catalog.group_offsets.canonical(),
        put=_put,
    ),
)
