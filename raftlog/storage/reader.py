"""What is read of a log by who does not replicate it: consumers, by offset or by time, and the scrub.

Only what is committed can be read. What cannot be read is damage, which the log notes, reports and refuses
(`reading`). A reader belongs to one life of its log; after a reset there is another one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import Final

from raftlog.errors import DamagedLog, StorageError
from raftlog.storage.committed import READ_CHUNK, CommittedLog
from raftlog.storage.epochs import Epochs
from raftlog.storage.extent import NO_TIMESTAMP
from raftlog.storage.index import Place, SparseIndex
from raftlog.storage.segment import Segment
from raftlog.storage.segment_reader import SegmentPiece, Slice, TermAt
from raftlog.storage.timestamps import Candidate, FoundTime, Steps, first_record
from raftlog.storage.warming import Warming
from raftlog.types import FilePosition, Offset, RaftIndex, Term

SEARCHED_MAX: Final = 1000
"""Batches whose headers a search for a time looks at before others get their turn."""


class LogReader:
    """Of one log."""

    def __init__(
        self,
        committed: CommittedLog,
        epochs: Epochs,
        term_at: TermAt,
        reading: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._committed = committed
        self._epochs = epochs
        self._term_at = term_at
        self._reading = reading
        self._is_closed = False

    @property
    def max_timestamp(self) -> int:
        """The greatest timestamp (ms) of a committed record, -1 when there is none."""
        return max((segment.max_timestamp for segment in self._committed.segments), default=NO_TIMESTAMP)

    def cold(self, offset: Offset, max_bytes: int) -> Warming | None:
        """What to run in a thread so that `read` of the same will not wait for the disk; None for what is in
        memory. Raises DamagedLog."""
        with self._reading():
            if self._is_readable(offset):
                for segment in self._segments_from(offset):
                    if segment.size:
                        return segment.reader.cold(lambda index: index.floor_offset(offset), max_bytes)
        return None

    def read(self, offset: Offset, max_bytes: int, before: Offset | None = None) -> Slice | None:
        """Committed batches from the one that contains `offset` on: at least one, whole ones, at most
        `max_bytes` after the first, from one segment, and none at `before` or behind, where a batch begins.
        None at the high watermark and outside [log_start_offset, high_watermark). Raises DamagedLog."""
        assert before is None or offset < before, (offset, before)
        with self._reading():
            return self._read(offset, max_bytes, before)

    def _read(self, offset: Offset, max_bytes: int, before: Offset | None) -> Slice | None:
        if not self._is_readable(offset):
            return None
        interval = self._committed.limits.index_interval_bytes
        found = self._find(offset)
        if found is None or (before is not None and found[1].offset >= before):
            return None  # what lay in between was cleaned away
        segment, place = found
        end = segment.reader.end_within(place, max_bytes, interval)
        if before is not None and end.offset > before:
            end = segment.reader.place_of_offset(before, interval) or end
        return segment.reader.read(place, end, self._term_at)

    def _is_readable(self, offset: Offset) -> bool:
        return self._committed.log_start_offset <= offset < self._committed.end.offset

    def _find(self, offset: Offset) -> tuple[Segment, Place] | None:
        """The first batch that ends behind `offset`, which lies before the end. There is one, since the last
        segment was never cleaned, unless the log was filled with a copy and nothing has followed yet."""
        for segment in self._segments_from(offset):
            place = segment.reader.place_of_offset(offset, self._committed.limits.index_interval_bytes)
            if place is not None:
                return segment, place
        return None

    def _segments_from(self, offset: Offset) -> Iterator[Segment]:
        """The segment that covers `offset`, and those behind it. Raises DamagedLog where none covers it."""
        segments = self._committed.segments
        number = bisect_right(segments, offset, key=lambda segment: segment.base_offset) - 1
        if number < 0 or offset >= segments[number].next_offset:
            raise DamagedLog(f"{self._committed.folder}: no segment holds offset {offset}")
        return islice(segments, number, None)

    def offset_for_timestamp_steps(self, timestamp_ms: int) -> Steps[FoundTime | None]:
        """The first committed record at or after `timestamp_ms`, or None, in steps that hold nobody up. What
        is written meanwhile may be found or not. Raises DamagedLog."""
        committed = self._committed
        offset = committed.log_start_offset
        while not self._is_closed:
            with self._reading():
                warming = self._cold_timestamp(timestamp_ms, offset)
            if warming is not None:
                yield warming.run
            if self._is_closed:
                break
            with self._reading():
                candidate = self._search_timestamp(timestamp_ms, offset)
            if candidate is None:
                break
            batch, offset = candidate
            if batch is None:
                yield lambda: None
                continue
            found = yield partial(first_record, batch, timestamp_ms, committed.log_start_offset)
            if isinstance(found, FoundTime):
                return found
        return None

    def _cold_timestamp(self, timestamp_ms: int, offset: Offset) -> Warming | None:
        """What to run in a thread so that `_search_timestamp` of the same will not wait for the disk."""
        for segment in self._segments_from_timestamp(timestamp_ms, offset):
            return segment.reader.cold(lambda index: _later_place(index, timestamp_ms, offset), READ_CHUNK)
        return None

    def _search_timestamp(self, timestamp_ms: int, offset: Offset) -> Candidate | None:
        """From `offset` on, the first batch whose greatest timestamp is at or after `timestamp_ms`; None when
        there is none. It looks at SEARCHED_MAX batches at most."""
        interval, budget = self._committed.limits.index_interval_bytes, SEARCHED_MAX
        offset = max(offset, self._committed.log_start_offset)
        for segment in self._segments_from_timestamp(timestamp_ms, offset):
            reader = segment.reader
            for place, header in reader.walk(_later_place(reader.index(interval), timestamp_ms, offset)):
                next_offset = Offset(header.next_offset)
                if header.max_timestamp >= timestamp_ms and next_offset > offset:
                    position = FilePosition(place.position + header.size)
                    end = Place(next_offset, RaftIndex(place.index + 1), position)
                    (entry,) = reader.checked_entries(place, end, self._term_at, 1)
                    return Candidate(bytes(entry.payload), next_offset)
                budget -= 1
                if not budget:
                    return Candidate(None, max(next_offset, offset))
        return None

    def _segments_from_timestamp(self, timestamp_ms: int, offset: Offset) -> Iterator[Segment]:
        for segment in self._committed.segments:
            if segment.max_timestamp >= timestamp_ms and segment.next_offset > offset:
                yield segment

    def offset_for_term(self, term: Term) -> tuple[Term, Offset]:
        """OffsetForLeaderEpoch: the newest term at or before `term`, and where its offsets end (KIP-101,
        KIP-279). (-1, -1) for a term newer than every one known. Never beyond the high watermark."""
        return self._epochs.end_offset(term, self._committed.end.offset)

    def piece(self, base_index: RaftIndex, path: str, place: Place | None) -> SegmentPiece | None:
        """What a scrub reads next: from `place` on in the segment that begins at `base_index` and lies in
        `path`, or without a place the beginning of the one behind it. None at the end. Raises FileRefused,
        DamagedLog."""
        with self._reading():
            if place is not None:
                segment = self._segment_at(base_index, path)
                if segment is not None:
                    return segment.reader.piece(place)
            segments = self._committed.segments
            number = bisect_right(segments, base_index, key=lambda segment: segment.base_index)
            while number < len(segments) and not segments[number].size:
                number += 1
            return segments[number].reader.piece(None) if number < len(segments) else None

    def check_piece(self, piece: SegmentPiece, data: memoryview | StorageError) -> Place | None:
        """Check what a scrub has read; where to go on in the segment. Raises DamagedLog."""
        with self._reading():
            segment = self._segment_at(piece.base_index, piece.path)
            if segment is None:
                return None
            if isinstance(data, StorageError):
                raise data
            return segment.reader.check_piece(piece, data, self._term_at)

    def _segment_at(self, base_index: RaftIndex, path: str) -> Segment | None:
        """The segment that begins there, if it is still in this file: retention may have taken it, and
        compaction, or a copy of another replica's log, may have put a file in its place in which nothing lies
        where it did."""
        segments = self._committed.segments
        number = bisect_right(segments, base_index, key=lambda segment: segment.base_index) - 1
        found = segments[number] if number >= 0 else None
        is_it = found is not None and (found.base_index, found.path) == (base_index, path)
        return found if is_it else None

    def close(self) -> None:
        """The log is gone, or has begun anew: a search that is under way ends."""
        self._is_closed = True


def _later_place(index: SparseIndex, timestamp_ms: int, offset: int) -> Place:
    """A place before which no batch is late enough, and one that is not long before `offset`."""
    by_offset = index.floor_offset(max(offset, index.place(0).offset))
    return max(index.before_timestamp(timestamp_ms), by_offset)
