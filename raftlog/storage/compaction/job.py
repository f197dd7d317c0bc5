"""What a pass of the cleaner is asked to do, and what it has done: plain values that go to its process and
back.

CBOR, with a version in front, since the two ends may be of different builds while a broker is upgraded.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import cbor2

VERSION: Final = 1
DAMAGED: Final = 3
"""The exit code of a pass whose source is damaged; stderr says which."""


class Source(NamedTuple):
    """A closed segment: it covers the offsets from `base_offset` to before `next_offset`."""

    path: str
    base_offset: int
    base_index: int
    last_index: int
    next_offset: int
    size: int


class AbortedRange(NamedTuple):
    """The records of a producer from `first_offset` to before its marker do not count."""

    producer_id: int
    first_offset: int
    marker_offset: int


class Cleaned(NamedTuple):
    """A file that the pass has written and synced; it stands for `source_count` sources, the next ones."""

    path: str
    index_path: str
    source_count: int
    size: int
    max_timestamp: int
    first_timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningJob:
    """One pass over the beginning of a log."""

    sources: list[Source]
    """Without a gap, from the log's first segment on."""
    dirty_from: int
    """Before this offset an earlier pass has left one value of each key."""
    purge_to: int
    """Tombstones and markers before this offset have been there for long enough."""
    aborted: list[AbortedRange]
    epochs: list[tuple[int, int]]
    """(term, first offset) of every term in the log, ascending."""
    target: str
    """What the paths of the new files begin with."""
    segment_bytes: int
    index_interval_bytes: int
    key_map_bytes: int
    bytes_per_second: int
    """What is read and written at most; 0: no limit."""

    def encode(self) -> bytes:
        return _encode(self)

    @classmethod
    def decode(cls, data: bytes) -> CleaningJob:
        """What `encode` gave. Raises ValueError for another version's."""
        plain = _fields(data)
        plain["sources"] = [Source(*each) for each in plain["sources"]]
        plain["aborted"] = [AbortedRange(*each) for each in plain["aborted"]]
        plain["epochs"] = [(term, offset) for term, offset in plain["epochs"]]
        return cls(**plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningResult:
    """What a pass has done. The files count only once the log has taken them over."""

    files: list[Cleaned]
    clean_to: int
    """Before this offset one value of each key is left. Below what was asked for where the keys were too many
    for one pass."""
    bytes_read: int
    records_read: int
    records_kept: int

    def encode(self) -> bytes:
        return _encode(self)

    @classmethod
    def decode(cls, data: bytes) -> CleaningResult:
        """What `encode` gave. Raises ValueError for anything else, as another version's."""
        try:
            plain = _fields(data)
            plain["files"] = [Cleaned(*each) for each in plain["files"]]
            return cls(**plain)
        except (cbor2.CBORDecodeError, LookupError, TypeError) as error:
            raise ValueError(f"{data[:60]!r} is no result of a pass: {error}") from error


def _encode(value: CleaningJob | CleaningResult) -> bytes:
    # Not `asdict`, which copies all that is in it: 90,000 aborted transactions would take 260 ms.
    return cbor2.dumps([VERSION, {field.name: getattr(value, field.name) for field in fields(value)}])


def _fields(data: bytes) -> dict[str, Any]:
    version, plain = cbor2.loads(data)
    if version != VERSION:
        raise ValueError(f"a pass of version {version}, not {VERSION}")
    return dict(plain)
