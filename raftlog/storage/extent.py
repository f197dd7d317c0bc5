"""How far a segment reaches: what the snapshot file says of it, and what its files are called."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from raftlog.storage.disk import Bytes
from raftlog.types import Offset, RaftIndex

NO_TIMESTAMP: Final = -1

_BATCH_TIME: Final = struct.Struct(">q")
_BATCH_TIME_AT: Final = 35


class SegmentExtent(NamedTuple):
    """What the snapshot file says about a segment; sizes in bytes, times in ms."""

    base_offset: Offset
    base_index: RaftIndex
    last_index: RaftIndex
    next_offset: Offset
    size: int
    max_timestamp: int
    first_timestamp: int
    first_written_ms: int = NO_TIMESTAMP
    last_written_ms: int = NO_TIMESTAMP
    """When its first and its last batch were written, by the broker's clock: how old it is where its records
    do not say. Not known of what was written before these two were kept."""
    generation: int = 0
    """How often what it covers was written again by compaction; 0: never, it has every entry."""

    @property
    def file_name(self) -> str:
        """Of the segment's files, without what says which of them. A cleaned one lies beside what it
        replaces."""
        number = f"{self.base_offset:020d}"
        return f"{number}.{self.generation}" if self.generation else number

    def to_list(self) -> list[int]:
        """As it is kept; of a log that was never cleaned as older builds read it."""
        return list(self) if self.generation else list(self[:-1])


def batch_time(payload: Bytes) -> int:
    """The greatest timestamp of a batch's records, in ms; -1 when they have none."""
    timestamp: int = _BATCH_TIME.unpack_from(payload, _BATCH_TIME_AT)[0]
    return timestamp
