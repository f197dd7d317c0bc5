"""The committed part of a log: its segments, the entries of Raft itself between them, and their ends.

Decides where a batch goes, when a segment is full, and what retention takes; `LogReader` decides what a
consumer gets. It knows nothing of what is not committed. What retention drops stays on the disk until the
snapshot file that no longer names it is durable (`doomed`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from raftlog.errors import DamagedLog, FileRefused, InvalidInput
from raftlog.storage.cleaned import CleanedReader, TermOf, merged
from raftlog.storage.compaction.job import Cleaned
from raftlog.storage.disk import SHORTAGES, Disk, Health
from raftlog.storage.doomed import Doomed
from raftlog.storage.entry import LOG_BEGIN, Entry, EntryKind, LogPoint
from raftlog.storage.extent import NO_TIMESTAMP, SegmentExtent, batch_time
from raftlog.storage.index import Place
from raftlog.storage.segment import Segment
from raftlog.storage.segment_pool import SegmentPool
from raftlog.storage.segment_reader import SegmentBytes, SegmentReader, TermAt
from raftlog.storage.snapshot import LogImage
from raftlog.types import Offset, RaftIndex, Term

READ_CHUNK: Final = 1 << 20
"""Bytes of batches that are read, or brought into memory, at once."""
_NEVER: Final = 1 << 63
_INTERNAL_MAX: Final = 1_000
"""Entries of Raft itself that a log keeps. With more, the active segment is closed once its first records
are deleted: only a closed segment is dropped, and the entries with it."""


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
        self.segments = [self._segment(extent, is_new=False) for extent in image.segments]
        self.clean_index = self._find_clean_index()
        """The last entry that compaction has been over: up to it entries are not read by their index."""
        self.is_changed = False
        """Whether something happened that the snapshot file must tell (more than a longer last segment)."""
        self.doomed = Doomed()
        self._repaired: dict[Segment, None] = {}
        """Segments behind which bytes have been written again."""
        # A log that was filled with a copy ends with a cleaned segment, until entries follow.
        self._is_closed = bool(self.segments) and self.segments[-1].generation > 0
        self._now_ms = NO_TIMESTAMP
        """The broker's clock when it was last asked what is due."""

    def _segment(self, extent: SegmentExtent, *, is_new: bool) -> Segment:
        def read_by(segment: SegmentBytes) -> SegmentReader:
            if extent.generation:
                return CleanedReader(segment, self._pool, self._term_of)
            return SegmentReader(segment, self._pool, self._next_batch_index)

        return Segment(self._pool, self.folder, extent, read_by, is_new=is_new)

    def _find_clean_index(self) -> RaftIndex:
        cleaned = [each.last_index for each in self.segments if each.generation]
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
    def lacks_file(self) -> bool:
        """The next batch begins one, or has the index of one read that an earlier process wrote."""
        return not self.segments or self._is_closed or self.segments[-1].index.entries is None

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
            self.segments[-1].reader.index(self.limits.index_interval_bytes)
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
        place = segment.reader.place_of_index(index, interval)
        end = segment.reader.end_within(place, min(max_bytes, READ_CHUNK), interval)
        return segment.reader.checked_entries(place, end, self._term_at, max_count)

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
            position = segment.repair(place, taken)
        end = Place(offset, self._next_batch_index(index), position)
        self._repaired[segment] = None
        if position < segment.size:
            end = segment.reader.end_within(end, READ_CHUNK, self.limits.index_interval_bytes)
        segment.reader.check(place, end, self._term_at)

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
        generation = 1 + max(each.generation for each in left)
        cleaned: list[Segment] = []
        for file in files:
            covered, left = left[: file.source_count], left[file.source_count :]
            segment = self._segment(merged(covered, file, generation), is_new=False)
            with self._health:
                self._disk.rename(file.path, segment.path)
                if self._disk.exists(file.index_path):
                    self._disk.rename(file.index_path, segment.index.path)
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
        self.clean_index = self._find_clean_index()
        self._move_start(LogPoint(last.last_index, term, last.next_offset))

    def _doom(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._pool.forget(segment)
            self.doomed.add([segment.path, segment.index.path])

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

    def close(self) -> None:
        for segment in self.segments:
            self._pool.forget(segment)
