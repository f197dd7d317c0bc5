"""Consumer groups' committed offsets: the commands that change them, what those come to, and the table.

Decides: which offsets there are after a command. Must not know: clocks, members of groups.

The table is made for many offsets. What a group has in one topic is a bucket, either rows or the bytes that
a snapshot holds of it, and it is read only when somebody asks. So a table of a hundred thousand offsets is
restored without a look at them, and a snapshot encodes what has changed since the last one, piece by piece,
while commands go on being applied: a group that is about to change while the snapshot still wants it is
encoded first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import cbor2

from raftlog.errors import InvalidInput

# Commands


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOffsets:
    """The commits that arrived together, of any number of groups."""

    kind: ClassVar[str] = "commit_offsets"
    commits: tuple[GroupCommit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOffsets:
    kind: ClassVar[str] = "delete_offsets"
    group: str
    partitions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteGroup:
    kind: ClassVar[str] = "delete_group"
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireOffsets:
    """Forgets the offsets of these groups that were committed before `before_ms`. Which groups are
    without members only the coordinator knows, so it names them."""

    kind: ClassVar[str] = "expire_offsets"
    groups: tuple[str, ...]
    before_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireTopicOffsets:
    """Forgets a group's offsets in these topics that were committed before `before_ms`: the group has
    members, and none of them subscribes to the topics (KIP-211)."""

    kind: ClassVar[str] = "expire_topic_offsets"
    group: str
    topics: tuple[str, ...]
    before_ms: int


OffsetsCommand = CommitOffsets | DeleteOffsets | DeleteGroup | ExpireOffsets | ExpireTopicOffsets


# Results


@dataclass(frozen=True, slots=True)
class OffsetsCommitted:
    """`unknown` are the (group, topic, partition) that were not stored, for there is no such partition."""

    unknown: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class OffsetsDeleted:
    count: int


# The table


class CommittedOffset(NamedTuple):
    """A group's position in a partition: the next offset to be read."""

    offset: int
    leader_epoch: int = -1
    metadata: str = ""
    commit_timestamp_ms: int = 0


Rows = dict[int, CommittedOffset]

_ROW_FIELDS: Final = 5  # partition, offset, leader epoch, metadata, commit timestamp


class _Bucket:
    """What a group has in one topic. At least one of the two is there, and they say the same."""

    __slots__ = ("_encoded", "_rows")

    def __init__(self, rows: Rows | None, encoded: bytes | None = None) -> None:
        self._rows = rows
        self._encoded = encoded

    def rows(self) -> Rows:
        """To be read only."""
        return self._rows if self._rows is not None else _decode_rows(self._encoded or b"")

    def change(self) -> Rows:
        """To be written to."""
        self._rows, self._encoded = self.rows(), None
        return self._rows

    def encoded(self) -> bytes:
        if self._encoded is None:
            flat: list[object] = []
            for partition, at in sorted(self.rows().items()):
                flat.append(partition)
                flat += at
            self._encoded = cbor2.dumps(flat)
        return self._encoded

    @property
    def cost(self) -> int:
        """About what `encoded` has to do, in rows."""
        return len(self._rows) if self._encoded is None and self._rows is not None else 1


_Buckets = dict[str, _Bucket]


class Offsets:
    """Every group's offsets. A group without any is not in it."""

    def __init__(self) -> None:
        self._groups: dict[str, _Buckets] = {}
        self._groups_of: dict[str, dict[str, None]] = {}  # by topic
        self._wanted: dict[str, _Buckets] = {}
        """The groups that the snapshot under way has not encoded yet."""
        self._pieces: list[bytes] = []

    # Reading

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __contains__(self, group: object) -> bool:
        return group in self._groups

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Offsets):
            return NotImplemented
        return self._groups.keys() == other._groups.keys() and all(
            self.of(group) == other.of(group) for group in self._groups
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Offsets groups={len(self._groups)}>"

    def topics(self, group: str) -> Iterable[str]:
        """The topics that a group has offsets in."""
        return self._groups.get(group, ())

    def rows(self, group: str, topic: str) -> Mapping[int, CommittedOffset]:
        """What a group has in a topic, by partition."""
        bucket = self._groups.get(group, _NOTHING).get(topic)
        return bucket.rows() if bucket is not None else {}

    def of(self, group: str) -> dict[tuple[str, int], CommittedOffset]:
        """All that a group has; as long as it takes to read that."""
        return {
            (topic, partition): at
            for topic, bucket in self._groups.get(group, _NOTHING).items()
            for partition, at in bucket.rows().items()
        }

    # Commands. Each is a function of the table and the command alone.

    def commit(self, command: CommitOffsets, partitions: Callable[[str], int]) -> OffsetsCommitted:
        """`partitions` says how many a topic has; 0 where there is none."""
        unknown = []
        counts: dict[str, int] = {}
        for group, timestamp_ms, offsets in command.commits:
            last_topic, rows = None, _NO_ROWS
            for topic, partition, offset, epoch, metadata in offsets:
                if topic not in counts:
                    counts[topic] = partitions(topic)
                if not 0 <= partition < counts[topic]:
                    unknown.append((group, topic, partition))
                    continue
                if topic != last_topic:
                    last_topic, rows = topic, self._rows_to_change(group, topic)
                rows[partition] = CommittedOffset(offset, epoch, metadata, timestamp_ms)
        return OffsetsCommitted(tuple(unknown))

    def delete(self, command: DeleteOffsets) -> OffsetsDeleted | None:
        """None when there is no such group."""
        if command.group not in self._groups:
            return None
        wanted: dict[str, set[int]] = {}
        for topic, partition in command.partitions:
            wanted.setdefault(topic, set()).add(partition)
        return OffsetsDeleted(
            sum(
                self._forget(
                    command.group, topic, [p for p in self.rows(command.group, topic) if p in chosen]
                )
                for topic, chosen in wanted.items()
            )
        )

    def delete_group(self, group: str) -> OffsetsDeleted | None:
        """None when there is no such group."""
        if group not in self._groups:
            return None
        return OffsetsDeleted(sum(self._drop(group, topic) for topic in list(self._groups[group])))

    def expire(self, groups: Iterable[str], topics: Sequence[str] | None, before_ms: int) -> OffsetsDeleted:
        """In these topics, or in all for None."""
        count = 0
        for group in groups:
            for topic in list(self.topics(group)) if topics is None else topics:
                old = [p for p, at in self.rows(group, topic).items() if at.commit_timestamp_ms < before_ms]
                count += self._forget(group, topic, old)
        return OffsetsDeleted(count)

    def topic_deleted(self, topic: str) -> None:
        """Costs little a group, whatever it has in the topic."""
        for group in list(self._groups_of.get(topic, ())):
            if group in self._wanted:
                self._wanted[group] = self._wanted[group].copy()
            del self._groups[group][topic]
            if not self._groups[group]:
                del self._groups[group]
        self._groups_of.pop(topic, None)

    def _rows_to_change(self, group: str, topic: str) -> Rows:
        self._about_to_change(group)
        buckets = self._groups.get(group)
        if buckets is None:
            buckets = self._groups[group] = {}
        bucket = buckets.get(topic)
        if bucket is None:
            bucket = buckets[topic] = _Bucket({})
            self._groups_of.setdefault(topic, {})[group] = None
        return bucket.change()

    def _forget(self, group: str, topic: str, partitions: Sequence[int]) -> int:
        if not partitions:
            return 0
        rows = self._rows_to_change(group, topic)
        for partition in partitions:
            del rows[partition]
        if not rows:
            self._drop(group, topic)
        return len(partitions)

    def _drop(self, group: str, topic: str) -> int:
        """Forget a bucket; how many offsets were in it."""
        self._about_to_change(group)
        bucket = self._groups[group].pop(topic)
        if not self._groups[group]:
            del self._groups[group]
        holders = self._groups_of[topic]
        del holders[group]
        if not holders:
            del self._groups_of[topic]
        return len(bucket.rows())

    # Snapshots

    def begin_image(self) -> None:
        """From now on `encode_some` collects the table as it is at this moment."""
        self._wanted = self._groups.copy()
        self._pieces = []

    def encode_some(self, cost_max: int) -> bool:
        """Encode groups that are worth about `cost_max` rows; whether there are more."""
        while self._wanted and cost_max > 0:
            group, buckets = self._wanted.popitem()
            cost_max -= sum(bucket.cost for bucket in buckets.values())
            self._pieces.append(_encode_group(group, buckets))
        return bool(self._wanted)

    def take_image(self) -> bytes:
        """The table as it was at `begin_image`, once `encode_some` has no more: a CBOR array."""
        assert not self._wanted, len(self._wanted)
        pieces, self._pieces = self._pieces, []
        return b"".join((array_head(len(pieces)), *pieces))

    def canonical(self) -> bytes:
        """Equal tables are equal bytes. All of it at once."""
        return b"".join(
            _encode_group(group, dict(sorted(buckets.items())))
            for group, buckets in sorted(self._groups.items())
        )

    @classmethod
    def from_plain(cls, plain: object) -> Offsets:
        """What `take_image` gave, read as CBOR. Raises InvalidInput when it is something else."""
        table = cls()
        for row in plain if isinstance(plain, list) else [plain]:
            match row:
                case [str(group), dict(topics)] if topics:
                    table._groups[group] = {
                        _str(topic): _Bucket(None, _bytes(encoded)) for topic, encoded in topics.items()
                    }
                    for topic in topics:
                        table._groups_of.setdefault(topic, {})[group] = None
                case _:
                    raise InvalidInput(f"a group's offsets are [group, topics], not {str(row)[:60]}")
        return table

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, str, int, CommittedOffset]]) -> Offsets:
        """A table of (group, topic, partition, offset)."""
        table = cls()
        for group, topic, partition, at in rows:
            table._rows_to_change(group, topic)[partition] = at
        return table

    def _about_to_change(self, group: str) -> None:
        if self._wanted and (buckets := self._wanted.pop(group, None)) is not None:
            self._pieces.append(_encode_group(group, buckets))


_NOTHING: Final[_Buckets] = {}
_NO_ROWS: Final[Rows] = {}


def _encode_group(group: str, buckets: _Buckets) -> bytes:
    return cbor2.dumps([group, {topic: bucket.encoded() for topic, bucket in buckets.items()}])


def _decode_rows(encoded: bytes) -> Rows:
    flat: Any = cbor2.loads(encoded)
    rows = iter(flat)
    if len(flat) % _ROW_FIELDS:
        raise InvalidInput(f"a group's offsets in a topic are rows of {_ROW_FIELDS}, not {len(flat)} values")
    return {
        partition: CommittedOffset(offset, epoch, metadata, timestamp)
        for partition, offset, epoch, metadata, timestamp in zip(rows, rows, rows, rows, rows, strict=True)
    }


def _str(value: object) -> str:
    if type(value) is not str:
        raise InvalidInput(f"a topic is {type(value).__name__}")
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise InvalidInput(f"a group's offsets in a topic are {type(value).__name__}")
    return value


# A commit as bytes, each at its time: a command is put together from them.


def encode_commit(commit: GroupCommit) -> bytes:
    return cbor2.dumps([commit.group, commit.timestamp_ms, [list(at) for at in commit.offsets]])


def join_commits(commits: Sequence[bytes]) -> bytes:
    """The CommitOffsets of these encoded commits, encoded: what `encode_command` makes of it."""
    return b"".join((_COMMIT_OFFSETS, array_head(len(commits)), *commits))


def array_head(count: int) -> bytes:
    """What CBOR begins an array of `count` items with."""
    if count < 24:
        return bytes((0x80 | count,))
    for code, size in ((0x98, 1), (0x99, 2), (0x9A, 4)):
        if count < 1 << 8 * size:
            return bytes((code,)) + count.to_bytes(size, "big")
    raise ValueError(f"an array of {count} items")


_COMMIT_OFFSETS: Final = b"\x83\x01" + cbor2.dumps(CommitOffsets.kind) + b"\xa1" + cbor2.dumps("commits")
