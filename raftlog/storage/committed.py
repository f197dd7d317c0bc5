"""The committed part of a log: its segments, the entries of Raft itself between them, and their ends.

Decides where a batch goes, when a segment is full, what a reader gets and what retention takes. It knows
nothing of what is not committed. What retention drops stays on the disk until the snapshot file that no
longer names it is durable (`doomed`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from raftlog.errors import DamagedLog, FileRefused, InvalidInput
from raftlog.storage.cleaned import CleanedSegment, TermOf, merged
from raftlog.storage.compaction.job import Cleaned
from raftlog.storage.disk import SHORTAGES, Disk, Health
from raftlog.storage.entry import LOG_BEGIN, Entry, EntryKind, LogPoint
from raftlog.storage.index import Place, SparseIndex
from raftlog.storage.segment import (
    NO_TIMESTAMP,
    Segment,
    SegmentExtent,
    SegmentPiece,
    SegmentPool,
    Slice,
    TermAt,
    batch_time,
)
from raftlog.storage.snapshot import LogImage
from raftlog.storage.timestamps import Candidate
from raftlog.storage.warming import Warming
from raftlog.types import FilePosition, Offset, RaftIndex, Term

_READ_CHUNK: Final = 1 << 20
_NEVER: Final = 1 << 63
_INTERNAL_MAX: Final = 1_000
"""Entries of Raft itself that a log keeps. With more, the active segment is closed once its first records
are deleted: only a closed segment is dropped, and the entries with it."""
SEARCHED_MAX: Final = 1000
"""Batches whose headers a search for a time looks at before others get their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """When a segment is full or old, and how dense its index is."""

    segment_bytes: int
    roll_ms: int
    index_interval_bytes: int


class CommittedLog:
    """Segments in ascending order; the last one is appended to unless it was closed."""

    def __init__(
        self,
        disk: Disk,
        health: Health,
        pool: SegmentPool,
        folder: str,
        limits: LogLimits,
        image: LogImage,
        term_at: TermAt,
        term_of: TermOf,
    ) -> None:
        """`term_at` gives the term of an index, `term_of` that of an offset."""
        self._disk, self._health, self._pool = disk, health, pool
        self._term_at, self._term_of = term_at, term_of
        self.folder = folder
        self.limits = limits
        self.start = image.start
        self.log_start_offset = image.log_start_offset
        self.end = image.commit
        """The last committed entry, and the high watermark."""
        self.internal: dict[int, Entry] = {entry.index: entry for entry in image.internal}
        self.segments: list[Segment] = [
            self._cleaned_segment(extent) if extent.generation else self._segment(extent, is_new=False)
            for extent in image.segments
        ]
        self.clean_index = self._find_clean_index()
        """The last entry that compaction has been over: up to it entries are not read by their index."""
        self.is_changed = False
        """Whether something happened that the snapshot file must tell (more than a longer last segment)."""
        self.doomed: list[str] = []
        self._repaired: dict[Segment, None] = {}
        """Segments behind which bytes have been written again."""
        self._is_closed = False
        self._now_ms = NO_TIMESTAMP
        """The broker's clock when it was last asked what is due."""

    def _segment(self, extent: SegmentExtent, *, is_new: bool) -> Segment:
        return Segment(self._pool, self.folder, extent, self._next_batch_index, is_new=is_new)

    def _cleaned_segment(self, extent: SegmentExtent) -> CleanedSegment:
        return CleanedSegment(self._pool, self.folder, extent, self._term_of)

    def _find_clean_index(self) -> RaftIndex:
        cleaned = [each.last_index for each in self.segments if isinstance(each, CleanedSegment)]
        return max(cleaned, default=LOG_BEGIN.index)

    def _next_batch_index(self, index: int) -> RaftIndex:
        """The first index from `index` on that no entry of Raft itself takes."""
        while index in self.internal:
            index += 1
        return RaftIndex(index)

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def max_timestamp(self) -> int:
        return max((segment.max_timestamp for segment in self.segments), default=NO_TIMESTAMP)

    @property
    def lacks_file(self) -> bool:
        """The next batch begins one, or has the index of one read that an earlier process wrote."""
        return not self.segments or self._is_closed or not self.segments[-1].has_index

    def append(self, entries: Sequence[Entry]) -> tuple[int, str | None]:
        """Take over entries that became committed: how many of them, and why no more where the system does
        not open a file. Raises DiskFailed."""
        before = self.end.index
        try:
            with self._health:
                self._append(entries)
        except FileRefused as error:
            self._drop_unwritten()
            return self.end.index - before, str(error)
        return len(entries), None

    def _append(self, entries: Sequence[Entry]) -> None:
        """`end` says how far it came when it raises OSError."""
        active = self._active()
        batches: list[Entry] = []
        size = 0
        room = self.limits.segment_bytes - active.size if active is not None else 0
        ends_at = self._ends_at(active.first_timestamp) if active is not None else 0
        for entry in entries:
            if entry.kind is not EntryKind.BATCH:
                # A copy: the payload may be a view of the whole frame that it came in.
                self.internal[entry.index] = entry._replace(payload=bytes(entry.payload))
                self.is_changed = True
                continue
            is_full = size + len(entry.payload) > room or batch_time(entry.payload) > ends_at
            if active is None or (is_full and (batches or active.size)):
                if active is not None and batches:
                    self._write(active, batches)
                active, batches, size = self._roll(entry), [], 0
                room, ends_at = self.limits.segment_bytes, self._ends_at(batch_time(entry.payload))
            batches.append(entry)
            size += len(entry.payload)
        if active is not None and batches:
            self._write(active, batches)
        self._end_at(entries[-1])

    def _write(self, active: Segment, batches: list[Entry]) -> None:
        active.append(batches, self.limits.index_interval_bytes)
        active.note_written(self._now_ms)
        self._end_at(batches[-1])

    def _ends_at(self, first_timestamp: int) -> int:
        """Which time of a record is too late for a segment that begins at `first_timestamp`. The records' own
        times decide, as in Kafka: an old history that is written now is not cut into a segment a second."""
        return first_timestamp + self.limits.roll_ms if first_timestamp >= 0 else _NEVER

    def _end_at(self, last: Entry) -> None:
        if last.term != self.end.term:
            self.is_changed = True  # the snapshot file tells where terms begin
        self.end = LogPoint(last.index, last.term, last.next_offset)

    def _drop_unwritten(self) -> None:
        """What lies behind the end comes again: a segment without a file, and entries of Raft itself."""
        if self.segments and not self.segments[-1].size:
            del self.segments[-1]
        for index in [index for index in self.internal if index > self.end.index]:
            del self.internal[index]

    def _active(self) -> Segment | None:
        """The segment to go on with. One that cannot be read is left as it is, for a new one: damage in
        one log must not stop the others. Raises OSError for want of a descriptor."""
        if not self.segments or self._is_closed:
            return None
        try:
            self.segments[-1].index(self.limits.index_interval_bytes)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            self._is_closed = True
            return None
        return self.segments[-1]

    def _roll(self, first: Entry) -> Segment:
        """A new active segment that begins with the batch `first`."""
        if not self.segments:
            self._disk.mkdir(self.folder)
        offset = first.base_offset
        extent = SegmentExtent(offset, first.index, first.index, offset, 0, NO_TIMESTAMP, NO_TIMESTAMP)
        segment = self._segment(extent, is_new=True)
        self.segments.append(segment)
        self._is_closed = False
        self.is_changed = True
        return segment

    def roll_if_due(self, now_ms: int) -> bool:
        """Close the active segment when its records do not say how old they are and it is as old itself, or
        when it keeps too many entries of Raft itself from being dropped."""
        self._now_ms = now_ms
        for segment in self.segments:
            if segment.last_written_ms < 0:
                segment.note_written(now_ms)
        if not self.segments or self._is_closed:
            return False
        active = self.segments[-1]
        is_old = active.first_timestamp < 0 and now_ms - active.first_written_ms > self.limits.roll_ms
        is_crowded = len(self.internal) > _INTERNAL_MAX and self.log_start_offset > active.base_offset
        self._is_closed = is_old or is_crowded
        return self._is_closed

    def read(self, offset: int, max_bytes: int, before: int | None = None) -> Slice | None:
        if not self.log_start_offset <= offset < self.end.offset:
            return None
        interval = self.limits.index_interval_bytes
        segment, place = self._find(offset)
        if before is not None and place.offset >= before:
            return None  # what lay in between was cleaned away
        end = segment.end_within(place, max_bytes, interval)
        if before is not None and end.offset > before:
            end = segment.place_of_offset(before, interval) or end
        return segment.read(place, end, self._term_at)

    def _find(self, offset: int) -> tuple[Segment, Place]:
        """The first batch that ends behind `offset`, which lies before the end. The last segment was never
        cleaned, so that there is one."""
        number = self._number_of_offset(offset)
        while True:
            segment = self.segments[number]
            place = segment.place_of_offset(offset, self.limits.index_interval_bytes)
            if place is not None:
                return segment, place
            number += 1

    def cold(self, offset: int, max_bytes: int) -> Warming | None:
        """See `GroupLog.cold`."""
        if not self.log_start_offset <= offset < self.end.offset:
            return None
        number = self._number_of_offset(offset)
        while not self.segments[number].size:
            number += 1
        return self.segments[number].cold(lambda index: index.floor_offset(offset), max_bytes)

    def _number_of_offset(self, offset: int) -> int:
        """Of the segment that covers `offset`."""
        number = bisect_right(self.segments, offset, key=lambda segment: segment.base_offset) - 1
        if number < 0 or offset >= self.segments[number].next_offset:
            raise DamagedLog(f"{self.folder}: no segment holds offset {offset}")
        return number

    def entries(self, from_index: int, max_bytes: int, max_count: int) -> list[Entry]:
        """Committed entries from `from_index` on; at least one, then as many as fit."""
        found: list[Entry] = []
        index, budget = from_index, max_bytes
        while index <= self.end.index and len(found) < max_count:
            internal = self.internal.get(index)
            if internal is not None:
                if found and len(internal.payload) > budget:
                    break
                found.append(internal)
                budget -= len(internal.payload)
                index += 1
                continue
            if found and budget <= 0:
                break
            batches = self._batches(index, max(budget, 1), max_count - len(found))
            if found and len(batches[0].payload) > budget:
                break
            found += batches
            budget -= sum(len(batch.payload) for batch in batches)
            index = batches[-1].index + 1
        return found

    def _batches(self, index: int, max_bytes: int, max_count: int) -> list[Entry]:
        """Batches from the one at `index` on: up to the next entry of Raft itself, or the segment's end."""
        number = bisect_right(self.segments, index, key=lambda segment: segment.base_index) - 1
        if number < 0 or index > self.segments[number].last_index:
            raise DamagedLog(f"{self.folder}: no segment holds entry {index}")
        segment = self.segments[number]
        interval = self.limits.index_interval_bytes
        place = segment.place_of_index(index, interval)
        end = segment.end_within(place, min(max_bytes, _READ_CHUNK), interval)
        return segment.checked_entries(place, end, self._term_at, max_count)

    def piece(self, base_index: RaftIndex, place: Place | None) -> SegmentPiece | None:
        """What a scrub reads next: from `place` on in the segment that begins at `base_index`, or without a
        place the beginning of the one behind it. None at the end. Raises OSError."""
        if place is not None:
            segment = self._segment_at(base_index)
            if segment is not None:
                return segment.piece(place)
        number = bisect_right(self.segments, base_index, key=lambda segment: segment.base_index)
        while number < len(self.segments) and not self.segments[number].size:
            number += 1
        return self.segments[number].piece(None) if number < len(self.segments) else None

    def check_piece(self, piece: SegmentPiece, data: memoryview) -> Place | None:
        """Check what was read; where to go on in the segment. Raises DamagedBatch."""
        segment = self._segment_at(piece.base_index)
        return None if segment is None else segment.check_piece(piece, data, self._term_at)

    def _segment_at(self, base_index: RaftIndex) -> Segment | None:
        """The segment that begins there, if retention has left it."""
        number = bisect_right(self.segments, base_index, key=lambda segment: segment.base_index) - 1
        found = self.segments[number] if number >= 0 else None
        return found if found is not None and found.base_index == base_index else None

    def repair(self, place: Place, entries: Sequence[Entry]) -> None:
        """Write committed batches again, as another replica has them, from the damaged one at `place` on: as
        many as follow on each other in its segment. Then look at them and at what comes behind.
        Raises DamagedBatch where that is damaged as well, InvalidInput where they do not belong there.
        """
        number = bisect_right(self.segments, place.index, key=lambda segment: segment.base_index) - 1
        segment = self.segments[number]
        taken: list[Entry] = []
        index, offset = place.index, place.offset
        for entry in entries:
            if entry.kind is not EntryKind.BATCH or entry.index > segment.last_index:
                break
            if (entry.index, entry.base_offset, entry.term) != (index, offset, self._term_at(index)):
                raise InvalidInput(f"{entry[:2]} in the place of entry {index}, term {self._term_at(index)}")
            taken.append(entry)
            index, offset = RaftIndex(index + 1), entry.next_offset
        if not taken:
            raise InvalidInput(f"no batch for entry {place.index}")
        with self._health:
            end = segment.repair(place, taken)
        self._repaired[segment] = None
        if end.position < segment.size:
            end = segment.end_within(end, _READ_CHUNK, self.limits.index_interval_bytes)
        segment.check(place, end, self._term_at)

    def cold_timestamp(self, timestamp_ms: int, offset: int) -> Warming | None:
        """What to run in a thread so that `search_timestamp` of the same will not wait for the disk."""
        for segment in self._segments_from_timestamp(timestamp_ms, offset):
            return segment.cold(lambda index: _later_place(index, timestamp_ms, offset), _READ_CHUNK)
        return None

    def search_timestamp(self, timestamp_ms: int, offset: int) -> Candidate | None:
        """From `offset` on, the first batch whose greatest timestamp is at or after `timestamp_ms`; None when
        there is none. It looks at SEARCHED_MAX batches at most."""
        interval, budget = self.limits.index_interval_bytes, SEARCHED_MAX
        offset = max(offset, self.log_start_offset)
        for segment in self._segments_from_timestamp(timestamp_ms, offset):
            for place, header in segment.walk(_later_place(segment.index(interval), timestamp_ms, offset)):
                next_offset = Offset(header.next_offset)
                if header.max_timestamp >= timestamp_ms and next_offset > offset:
                    position = FilePosition(place.position + header.size)
                    end = Place(next_offset, RaftIndex(place.index + 1), position)
                    (entry,) = segment.checked_entries(place, end, self._term_at, 1)
                    return Candidate(bytes(entry.payload), next_offset)
                budget -= 1
                if not budget:
                    return Candidate(None, max(next_offset, Offset(offset)))
        return None

    def _segments_from_timestamp(self, timestamp_ms: int, offset: int) -> Iterator[Segment]:
        for segment in self.segments:
            if segment.max_timestamp >= timestamp_ms and segment.next_offset > offset:
                yield segment

    def delete_before(self, offset: int) -> bool:
        """Move log_start_offset forward, at most to the end; whether it moved."""
        offset = min(offset, self.end.offset)
        if offset <= self.log_start_offset:
            return False
        self.log_start_offset = Offset(offset)
        self.is_changed = True
        return True

    def expired_to(self, now_ms: int, retention_ms: int, retention_bytes: int) -> Offset:
        """Where the log would begin without the segments that are too old or too much."""
        offset, size = self.log_start_offset, self.size
        for number, segment in enumerate(self.segments):
            is_last = number == len(self.segments) - 1 and not self._is_closed
            is_old = retention_ms >= 0 and 0 <= segment.newest_ms < now_ms - retention_ms
            is_surplus = retention_bytes >= 0 and size - segment.size >= retention_bytes and not is_last
            if not (is_old or is_surplus or segment.next_offset <= offset):
                break
            offset = max(offset, segment.next_offset)
            size -= segment.size
        return offset

    def drop_deleted(self, index: RaftIndex) -> int:
        """Drop the segments that lie before log_start_offset and hold nothing above entry `index`; how
        many."""
        count = 0
        for segment in self.segments:
            if segment.next_offset > self.log_start_offset or segment.last_index > index:
                break
            count += 1
        self._drop(count)
        return count

    def drop_to(self, index: RaftIndex, term: Term) -> None:
        """Drop the segments that hold nothing above entry `index`, which is committed and of `term`."""
        count = 0
        while count < len(self.segments) and self.segments[count].last_index <= index:
            count += 1
        self._drop(count)
        if index > self.start.index and (not self.segments or self.segments[0].base_index > index):
            offset = self.segments[0].base_offset if self.segments else self.end.offset
            self._move_start(LogPoint(index, term, offset))

    def replace(self, files: Sequence[Cleaned]) -> None:
        """Put what a pass has written in the place of the segments that it read, with which the log begins.
        What Raft itself has written between them goes: nobody reads the entries around it any more. Raises
        DiskFailed, FileRefused."""
        count = sum(file.source_count for file in files)
        left = self.segments[:count]
        generation = 1 + max(each.extent.generation for each in left)
        cleaned: list[CleanedSegment] = []
        for file in files:
            covered, left = left[: file.source_count], left[file.source_count :]
            segment = self._cleaned_segment(merged(covered, file, generation))
            with self._health:
                self._disk.rename(file.path, segment.path)
                if self._disk.exists(file.index_path):
                    self._disk.rename(file.index_path, segment.index_path)
            cleaned.append(segment)
        self._doom(self.segments[:count])
        self.segments[:count] = cleaned
        self.clean_index = self._find_clean_index()
        self._drop_internal(self.clean_index)
        self.is_changed = True

    def _drop(self, count: int) -> None:
        if not count:
            return
        last = self.segments[count - 1]
        term = self._term_at(last.last_index)
        assert term is not None, last
        self._doom(self.segments[:count])
        del self.segments[:count]
        if not self.segments:
            self._is_closed = False
        self._move_start(LogPoint(last.last_index, term, last.next_offset))

    def _doom(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._pool.forget(segment)
            self.doomed += [segment.path, segment.index_path]

    def _drop_internal(self, index: RaftIndex) -> None:
        for gone in [each for each in self.internal if each <= index]:
            del self.internal[gone]

    def _move_start(self, start: LogPoint) -> None:
        self.start = start
        self.log_start_offset = max(self.log_start_offset, start.offset)
        self._drop_internal(start.index)
        self.is_changed = True

    def take_dirty(self) -> list[Segment]:
        """The segments with bytes that no checkpoint knows; each once."""
        dirty = {segment: None for segment in self._repaired if segment.dirty}
        self._repaired.clear()
        for segment in reversed(self.segments):
            if not segment.dirty:
                break
            dirty[segment] = None
        return list(dirty)

    def image(self, image: LogImage) -> LogImage:
        """`image` with this part of the log filled in."""
        return replace(
            image,
            start=self.start,
            log_start_offset=self.log_start_offset,
            commit=self.end,
            internal=list(self.internal.values()),
            segments=[segment.extent for segment in self.segments],
        )

    def close(self) -> None:
        for segment in self.segments:
            self._pool.forget(segment)


def _later_place(index: SparseIndex, timestamp_ms: int, offset: int) -> Place:
    """A place before which no batch is late enough, and one that is not long before `offset`."""
    by_offset = index.floor_offset(max(offset, index.place(0).offset))
    return max(index.before_timestamp(timestamp_ms), by_offset)
