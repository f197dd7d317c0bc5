"""Which record of a batch is the first at or after a time. Pure, so that it may run in a thread: a batch may
hold a hundred thousand records, compressed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple, TypeAlias, TypeVar

from raftlog.errors import InvalidInput
from raftlog.records.batch import read_header
from raftlog.types import Offset

T = TypeVar("T")

Steps: TypeAlias = Generator[Callable[[], object], object, T]
"""A search: it yields what may run in a thread, wants what that returned, and returns what it found."""


class FoundTime(NamedTuple):
    """A record's offset and its timestamp (ms)."""

    offset: Offset
    timestamp: int


class Candidate(NamedTuple):
    """A batch whose greatest timestamp is late enough, or None where the search has only come so far; and the
    offset from which to look on."""

    batch: bytes | None
    next_offset: Offset


def first_record(batch: bytes, timestamp_ms: int, start: Offset) -> FoundTime | None:
    """The first record at or after `timestamp_ms`, and not before offset `start`.

    A batch whose records cannot be read, or are too much to read, stands for itself: its producer wrote it
    so, and must not keep everybody else from what lies before and behind it.
    """
    from raftlog.records.record import decode_batch  # codecs are only needed here

    try:
        records = decode_batch(batch)
    except InvalidInput:
        header = read_header(batch)
        return FoundTime(Offset(max(header.base_offset, start)), header.max_timestamp)
    for record in records:
        if record.timestamp >= timestamp_ms and record.offset >= start:
            return FoundTime(Offset(record.offset), record.timestamp)
    return None
