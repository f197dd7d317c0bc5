"""Reading one segment: where a batch lies, and its bytes, checked.

Nothing is given to anybody without having been read and checked for it (CRC, offsets dense, leader epochs
those of the Raft log), whoever wrote it and whenever: a page that was sound a minute ago may have been read
from the disk again since. A segment does not know about entries of Raft itself; its log tells the reader
which indexes they take (`next_batch_index`).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from crc32c import crc32c

from raftlog.errors import DamagedBatch, DamagedLog, StorageError
from raftlog.records.batch import CRC_START, HEADER_SIZE, LOG_OVERHEAD, MAGIC, BatchHeader, read_header
from raftlog.storage.disk import File
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.extent import NO_TIMESTAMP
from raftlog.storage.index import Place, SparseIndex
from raftlog.storage.segment_index import ENTRY_DUE, SegmentIndex
from raftlog.storage.segment_pool import SegmentPool
from raftlog.storage.warming import WARMED_MAX, Warming
from raftlog.types import FilePosition, Offset, RaftIndex, Term

CURSORS_MAX: Final = 32
"""Ends of recent reads that are remembered, where sequential readers go on without a search."""
CHECKED_BATCHES_MAX: Final = 2048
"""Batches that one read checks and gives: with tiny ones, what holds the loop for some milliseconds."""
KEPT_BYTES_MAX: Final = 32 * 1024
"""A slice of at most so many bytes is given as it was read to be checked: no second read is between."""
CHECK_CHUNK: Final = 1 << 20
"""Bytes that are read at once to be checked; more for a batch that is larger."""

TermAt = Callable[[RaftIndex], Term | None]

_LENGTH_MIN: Final = HEADER_SIZE - LOG_OVERHEAD
_WALK_CHUNK: Final = 8192
_CHECKED_HEADER = struct.Struct(">qiibIhi")
"""Base offset, length, leader epoch, magic, crc, attributes, last offset delta."""


def _numbers(place: Place) -> tuple[int, int, int]:
    return place.index, place.offset, place.position


@dataclass(frozen=True, slots=True)
class Slice:
    """Whole committed batches as a range of a file. Valid as long as it is referred to, also when
    retention removes the file meanwhile."""

    file: File
    position: FilePosition
    length: int
    next_offset: Offset
    may_lend: bool = True
    """Whether the file may be kept open for as long as a client takes."""
    data: memoryview | None = None
    """The bytes as they were checked, of a small slice."""

    @property
    def fileno(self) -> int:
        return self.file.fileno()

    def read(self) -> bytes | memoryview:
        """The bytes themselves, where sendfile will not do."""
        return self.file.pread(self.length, self.position) if self.data is None else self.data


def pread_batch(file: File, place: Place, size: int, end: Place) -> memoryview:
    """`size` bytes from `place` on; fewer at `end`, more where the batch there takes more. Raises OSError."""
    data = file.pread(min(size, end.position - place.position), place.position)
    if len(data) >= HEADER_SIZE:
        needed = read_header(data).size
        if len(data) < needed <= end.position - place.position:
            data = file.pread(needed, place.position)
    return memoryview(data)


@dataclass(frozen=True, slots=True)
class SegmentPiece:
    """Bytes of a segment that are to be read again and checked, from `start` on; `end` is the segment's."""

    base_index: RaftIndex
    path: str
    """Another file may take the segment's place."""
    file: File
    start: Place
    end: Place

    def read(self) -> memoryview | StorageError:
        """The bytes, or why they cannot be read. Safe in a worker thread."""
        try:
            return pread_batch(self.file, self.start, CHECK_CHUNK, self.end)
        except OSError as error:
            return DamagedBatch(f"{self.file!r}: {error}", *_numbers(self.start))


class SegmentBytes(Protocol):
    """What a reader asks of its segment: the file, the index, and how far they go now."""

    path: str
    base_offset: Offset
    base_index: RaftIndex
    last_index: RaftIndex
    next_offset: Offset
    size: int
    dirty: bool
    index: SegmentIndex

    @property
    def opened(self) -> File | None:
        """The file, if it is open."""

    def file(self) -> File:
        """The file, opened. Raises OSError."""


class SegmentReader:
    """Of a segment with every entry, as it was written."""

    def __init__(
        self, segment: SegmentBytes, pool: SegmentPool, next_batch_index: Callable[[int], RaftIndex]
    ) -> None:
        """`next_batch_index` gives the first index, from the one given on, that is a batch's."""
        self._segment = segment
        self._pool = pool
        self._next_batch_index = next_batch_index
        self._cursors: dict[int, Place] = {}

    def forget_ends(self) -> None:
        """Where reads ended is of no use any more: nobody has read here for a while."""
        self._cursors.clear()

    def index(self, interval: int) -> SparseIndex:
        """The sparse index, read or made when it is not in memory. Raises OSError."""
        entries = self._segment.index.entries
        return entries if entries is not None else self._load_index(interval)

    def _load_index(self, interval: int) -> SparseIndex:
        """Read the `.index` file and find what it lacks in the log."""
        segment = self._segment
        index = segment.index.read_file(segment.size)
        since, newest = ENTRY_DUE, NO_TIMESTAMP
        place = Place(segment.base_offset, segment.base_index, FilePosition(0))
        if len(index):
            place, newest = index.place(len(index) - 1), index.timestamp_before(len(index) - 1)
            since = 0
        try:
            for batch, header in self.walk(place):
                if since >= interval:
                    index.add(batch.offset, batch.index, batch.position, newest)
                    since = 0
                since += header.size
                newest = max(newest, header.max_timestamp)
        except DamagedLog:
            # What lies before the damage can still be found and served; reading on runs into it again.
            if not len(index):
                index.add(segment.base_offset, segment.base_index, 0, NO_TIMESTAMP)
        segment.index.complete(index, since, may_save=not segment.dirty)
        return index

    def cold(self, find: Callable[[SparseIndex], Place], max_bytes: int) -> Warming | None:
        """What must be read from the disk before `max_bytes` from the place that `find` finds can be read
        without waiting for it; None when all of that is in memory."""
        segment, position = self._segment, None
        file, index = segment.opened, segment.index.entries
        if index is not None:
            position = find(index).position
            size = min(max_bytes, WARMED_MAX, segment.size - position)
            if file is not None and file.is_cached(size, position):
                return None
        return Warming(
            self._pool.disk,
            segment.path,
            segment.index.path,
            segment.base_offset,
            segment.size,
            find,
            position,
            max_bytes,
        )

    def place_of_offset(self, offset: int, interval: int) -> Place | None:
        """The batch that holds `offset`, which must lie in the segment; in a cleaned one the first that ends
        behind it, or None where none is left."""
        place = self._cursors.get(offset)
        if place is not None:  # entries of Raft itself may have come in between since
            return Place(place.offset, self._next_batch_index(place.index), place.position)
        index = self.index(interval)
        for place, header in self.walk(index.floor_offset(offset)):
            if header.next_offset > offset:
                return place
        path, end = self._segment.path, self._segment.next_offset
        raise DamagedLog(f"{path}: offset {offset} is not in it, although it ends at {end}")

    def place_of_index(self, raft_index: int, interval: int) -> Place:
        """The batch with the Raft index `raft_index`."""
        index = self.index(interval)
        for place, _ in self.walk(index.floor_index(raft_index)):
            if place.index == raft_index:
                return place
        path, end = self._segment.path, self._segment.last_index
        raise DamagedLog(f"{path}: entry {raft_index} is not in it, although it ends at {end}")

    def end_within(self, place: Place, max_bytes: int, interval: int) -> Place:
        """Where whole batches from `place` on end that take at most `max_bytes`; behind the first if even
        that is larger."""
        limit = place.position + max_bytes
        if limit >= self._segment.size:
            return self._end()
        index = self.index(interval)
        end = index.floor_position(limit)
        if end.position > place.position:
            return end
        end = place
        for batch, header in self.walk(place):
            if batch.position + header.size > limit and end.position > place.position:
                break
            end = Place(
                Offset(header.next_offset),
                self._next_batch_index(batch.index + 1),
                FilePosition(batch.position + header.size),
            )
            if end.position >= limit:
                break
        return end

    def read(self, place: Place, end: Place, term_at: TermAt) -> Slice:
        """The bytes between two places, checked; fewer where `check` ends before. Raises DamagedBatch."""
        if end.position - place.position > KEPT_BYTES_MAX:
            return self._slice(place, self.check(place, end, term_at))
        data = self._pread_batch(self._segment.file(), place, KEPT_BYTES_MAX, end)
        end, _ = self._check(data, place, end, term_at, CHECKED_BATCHES_MAX)
        return self._slice(place, end, data[: end.position - place.position])

    def _slice(self, place: Place, end: Place, data: memoryview | None = None) -> Slice:
        """A reader that goes on at `end` finds it without a search."""
        while len(self._cursors) >= CURSORS_MAX:
            del self._cursors[next(iter(self._cursors))]
        self._cursors[end.offset] = end
        length = end.position - place.position
        return Slice(self._segment.file(), place.position, length, end.offset, self._pool.may_lend, data)

    def _end(self) -> Place:
        segment = self._segment
        index = self._next_batch_index(segment.last_index + 1)
        return Place(segment.next_offset, index, FilePosition(segment.size))

    def walk(self, place: Place) -> Iterator[tuple[Place, BatchHeader]]:
        """(place, header) of the batches from `place` on. Headers only; raises DamagedLog where one does
        not continue the one before."""
        file, end = self._segment.file(), self._segment.size
        offset, index, position = place
        chunk, chunk_at = b"", 0
        before: Place | None = None
        while position < end:
            at = position - chunk_at
            if len(chunk) - at < HEADER_SIZE:
                here = Place(Offset(offset), RaftIndex(index), position)
                chunk, chunk_at, at = self._pread(file, min(_WALK_CHUNK, end - position), here), position, 0
            if len(chunk) - at < HEADER_SIZE:
                problem = f"ends at byte {position + len(chunk)}, not at {end}"
                raise self._damage(Place(Offset(offset), RaftIndex(index), position), problem)
            header = read_header(chunk, at)
            next_position = position + header.size
            if (
                header.base_offset != offset
                or header.magic != MAGIC
                or header.last_offset_delta < 0
                or header.size < HEADER_SIZE
                or next_position > end
            ):
                raise self._misplaced(before, Place(Offset(offset), RaftIndex(index), position))
            before = Place(Offset(offset), RaftIndex(index), FilePosition(position))
            yield before, header
            offset, position = Offset(header.next_offset), FilePosition(next_position)
            index = self._next_batch_index(index + 1)

    def _misplaced(self, before: Place | None, place: Place) -> DamagedBatch:
        """No batch at `place` continues the one `before`. A walk trusts headers: which offset follows was in
        that of the one before, and may be what is damaged."""
        if before is not None:
            size = place.position - before.position
            data = memoryview(self._pread(self._segment.file(), size, before))
            if len(data) < size or crc32c(data[CRC_START:]) != _CHECKED_HEADER.unpack_from(data)[4]:
                return self._damage(before, "does not have the crc of its header")
        return self._damage(place, f"is not the batch at offset {place.offset}")

    def check(self, place: Place, end: Place, term_at: TermAt) -> Place:
        """Read what lies between two places and hold every batch to its CRC, its offset and its term. Where
        it ends: before `end` when there are more than CHECKED_BATCHES_MAX. Raises DamagedBatch."""
        file, budget = self._segment.file(), CHECKED_BATCHES_MAX
        while place.position < end.position and budget:
            data = self._pread_batch(file, place, CHECK_CHUNK, end)
            place, count = self._check(data, place, end, term_at, budget)
            budget -= count
        return place

    def checked_entries(self, place: Place, end: Place, term_at: TermAt, count_max: int) -> list[Entry]:
        """The batches between two places as entries, checked; at most `count_max`, and only up to the next
        index that is no batch's."""
        entries: list[Entry] = []
        data = self._pread_batch(self._segment.file(), place, end.position - place.position, end)
        self._check(data, place, end, term_at, min(count_max, CHECKED_BATCHES_MAX), entries)
        return entries

    def _pread_batch(self, file: File, place: Place, size: int, end: Place) -> memoryview:
        try:
            return pread_batch(file, place, size, end)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise self._damage(place, str(error)) from error

    def _pread(self, file: File, size: int, place: Place) -> bytes:
        """What a disk can no longer read is damage, too."""
        try:
            return file.pread(size, place.position)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise self._damage(place, str(error)) from error

    def _check(
        self,
        data: memoryview,
        place: Place,
        end: Place,
        term_at: TermAt,
        count_max: int,
        entries: list[Entry] | None = None,
    ) -> tuple[Place, int]:
        """Check the whole batches in `data`, which was read at `place`; at least one. Where they end, and
        how many there are. With `entries` they are put there, and must follow on each other in the log."""
        offset, index, position = place
        begin, available = position, len(data)
        term = term_at(index)
        is_one_term = term == term_at(RaftIndex(end.index - 1))
        count = at = 0
        while count < count_max and available - at >= HEADER_SIZE:
            base, length, epoch, magic, crc, _, delta = _CHECKED_HEADER.unpack_from(data, at)
            stop = at + length + LOG_OVERHEAD
            if stop > available and count:
                break  # the rest comes with the next chunk
            if not is_one_term:
                term = term_at(index)
            if base != offset or epoch != term or magic != MAGIC or delta < 0 or length < _LENGTH_MIN:
                problem = f"is offset {base} of term {epoch}, not the batch at offset {offset} of term {term}"
                raise self._damage(Place(offset, index, position), problem)
            if available < stop <= end.position - begin:
                break  # and so does the file
            if stop > available or crc32c(data[at + CRC_START : stop]) != crc:
                raise self._damage(Place(offset, index, position), "does not have the crc of its header")
            next_offset = Offset(offset + delta + 1)
            if entries is not None:
                entries.append(Entry(index, Term(epoch), EntryKind.BATCH, data[at:stop], offset, next_offset))
            next_index = self._next_batch_index(index + 1)
            is_gap = next_index != index + 1
            offset, index, at = next_offset, next_index, stop
            position = FilePosition(begin + at)
            count += 1
            if is_gap and entries is not None:
                break
        if not count:
            problem = f"the file ends at byte {begin + available}, not at {end.position}"
            raise self._damage(place, problem)
        return Place(offset, index, position), count

    def piece(self, start: Place | None) -> SegmentPiece:
        """What a scrub reads next, from `start` or the beginning on. Raises OSError."""
        segment = self._segment
        start = start or Place(segment.base_offset, segment.base_index, FilePosition(0))
        return SegmentPiece(segment.base_index, segment.path, segment.file(), start, self._end())

    def check_piece(self, piece: SegmentPiece, data: memoryview, term_at: TermAt) -> Place | None:
        """Check what was read of the segment; where to go on, None at its end. Raises DamagedBatch."""
        place, _ = self._check(data, piece.start, piece.end, term_at, CHECKED_BATCHES_MAX)
        return place if place.position < piece.end.position else None

    def _damage(self, place: Place, problem: str) -> DamagedBatch:
        return DamagedBatch(f"{self._segment.path}: byte {place.position}: {problem}", *_numbers(place))
