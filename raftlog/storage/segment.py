"""A segment: committed batches back to back in a `.log` file, and the sparse index over them.

Invariants: only committed batches are appended, so a segment is never truncated while it is open; the
bytes at a position never change. Nothing is given to anybody without having been read and checked for it
(CRC, offsets dense, leader epochs those of the Raft log), whoever wrote it and whenever: a page that was
sound a minute ago may have been read from the disk again since. A segment does not know about entries of
Raft itself; its log tells it which indexes they take (`next_batch_index`).
"""

from __future__ import annotations

import errno
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from crc32c import crc32c

from raftlog.errors import DamagedBatch, DamagedLog, FileRefused, InvalidInput, StorageError
from raftlog.records.batch import CRC_START, HEADER_SIZE, LOG_OVERHEAD, MAGIC, BatchHeader, read_header
from raftlog.storage.descriptors import files_max
from raftlog.storage.disk import SHORTAGES, Bytes, Disk, File, Health, RealFile
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.index import Place, SparseIndex
from raftlog.storage.warming import WARMED_MAX, Warming
from raftlog.types import FilePosition, Offset, RaftIndex, Term

NO_TIMESTAMP: Final = -1
CURSORS_MAX: Final = 32
"""Ends of recent reads that are remembered, where sequential readers go on without a search."""
RELIEF_FILES: Final = 16
"""Files that are closed when the process has no descriptor left."""
CHECKED_BATCHES_MAX: Final = 2048
"""Batches that one read checks and gives: with tiny ones, what holds the loop for some milliseconds."""

KEPT_BYTES_MAX: Final = 32 * 1024
"""A slice of at most so many bytes is given as it was read to be checked: no second read is between."""

INDEX_REBUILT_MIN: Final = 64
"""Index entries. An index that lacked so many took long to complete from the log: it is saved at once, so
that the next start need not do that again."""

TermAt = Callable[[RaftIndex], Term | None]

_LENGTH_MIN: Final = HEADER_SIZE - LOG_OVERHEAD
_WALK_CHUNK: Final = 8192
CHECK_CHUNK: Final = 1 << 20
"""Bytes that are read at once to be checked; more for a batch that is larger."""
_CHECKED_HEADER = struct.Struct(">qiibIhi")
"""Base offset, length, leader epoch, magic, crc, attributes, last offset delta."""
_BATCH_TIME = struct.Struct(">q")
_BATCH_TIME_AT: Final = 35


def _numbers(place: Place) -> tuple[int, int, int]:
    return place.index, place.offset, place.position


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
    file: File
    start: Place
    end: Place

    def read(self) -> memoryview | StorageError:
        """The bytes, or why they cannot be read. Safe in a worker thread."""
        try:
            return pread_batch(self.file, self.start, CHECK_CHUNK, self.end)
        except OSError as error:
            return DamagedBatch(f"{self.file!r}: {error}", *_numbers(self.start))


class SegmentPool:
    """Opens segment files and keeps at most `open_max` of them, the recently used.

    The kernel tells a failed write-back to the descriptors that were open when it happened, once to each. To
    one that is opened later it tells it only while nobody has heard of it and the file's inode is still in
    memory (errseq_t). So a file with bytes that are not synced is closed only after a sync that returned. The
    next checkpoint does that in its thread, and it is asked for when half of what may be open waits for it
    (`is_crowded`). Where writes are faster than checkpoints, the file that was unused for longest is synced
    here and now: that is slow, and it is what a limit on descriptors below the number of written logs costs.
    """

    def __init__(self, disk: Disk, health: Health, open_max: int) -> None:
        self.disk = disk
        self.health = health
        self._open_max = open_max
        self._files_max = files_max(open_max)
        self._clean: OrderedDict[Segment, None] = OrderedDict()
        self._unsynced: OrderedDict[Segment, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clean) + len(self._unsynced)

    @property
    def unsynced_count(self) -> int:
        return len(self._unsynced)

    @property
    def is_crowded(self) -> bool:
        return len(self._unsynced) > self._open_max // 2

    @property
    def may_lend(self) -> bool:
        """Whether a file may be kept open by an answer that is being sent."""
        return RealFile.open_count() < self._files_max

    def open(self, segment: Segment, *, create: bool) -> File:
        """Open the file of a segment that is going to be used. Raises OSError."""
        try:
            return self.disk.open(segment.path, create=create)
        except OSError as error:
            if error.errno not in SHORTAGES or not len(self):
                raise
        self.relieve()
        return self.disk.open(segment.path, create=create)

    def use(self, segment: Segment) -> None:
        """The segment's file is open, and used now."""
        files = self._unsynced if segment.is_unsynced else self._clean
        files[segment] = None
        files.move_to_end(segment)
        while len(self) > self._open_max and self._close_one(segment):
            pass

    def note_unsynced(self, segment: Segment) -> None:
        self._clean.pop(segment, None)
        self._unsynced[segment] = None

    def note_synced(self, segment: Segment) -> None:
        if segment in self._unsynced:
            del self._unsynced[segment]
            self._clean[segment] = None

    def relieve(self) -> None:
        """Others have taken descriptors that belong to the segments: give some of them up."""
        for _ in range(RELIEF_FILES):
            if not self._close_one(None):
                return

    def _close_one(self, used: Segment | None) -> bool:
        """Close the file that was unused for longest, but not that of `used`. Raises DiskFailed."""
        segment = next((each for each in self._clean if each is not used), None)
        if segment is None:
            segment = next((each for each in self._unsynced if each is not used), None)
            if segment is None:
                return False
            with self.health:
                segment.sync()
        del self._clean[segment]
        segment.release()
        return True

    def forget(self, segment: Segment) -> None:
        """The segment is gone: its unsynced bytes do not matter any more."""
        self._clean.pop(segment, None)
        self._unsynced.pop(segment, None)
        segment.mark_clean()
        segment.release()


class Segment:
    """One segment. Its file is made with the first append and opened when it is used."""

    def __init__(
        self,
        pool: SegmentPool,
        folder: str,
        extent: SegmentExtent,
        next_batch_index: Callable[[int], RaftIndex],
        *,
        is_new: bool,
    ) -> None:
        self._pool = pool
        self.path = f"{folder}/{extent.file_name}.log"
        self.index_path = f"{folder}/{extent.file_name}.index"
        self._generation = extent.generation
        self.base_offset, self.base_index = extent.base_offset, extent.base_index
        self.last_index, self.next_offset = extent.last_index, extent.next_offset
        self.size = extent.size
        self.max_timestamp, self.first_timestamp = extent.max_timestamp, extent.first_timestamp
        self.first_written_ms, self.last_written_ms = extent.first_written_ms, extent.last_written_ms
        self.dirty = False
        """It has bytes that no checkpoint knows."""
        self.is_unsynced = False
        """Only whoever has the file open is told when bytes of it cannot be written back."""
        self._next_batch_index = next_batch_index
        self._exists = not is_new
        self._file: File | None = None
        self._index: SparseIndex | None = SparseIndex() if is_new else None
        self._index_saved = 0
        self._index_file_size = 0
        self._since_entry = 1 << 62  # the first batch gets an index entry
        self._cursors: dict[int, Place] = {}

    def __repr__(self) -> str:
        return f"<Segment {self.path} end={self.next_offset} size={self.size}>"

    @property
    def newest_ms(self) -> int:
        """The time of the newest record, or of the last write where no record has a time."""
        return self.max_timestamp if self.max_timestamp >= 0 else self.last_written_ms

    def note_written(self, now_ms: int) -> None:
        """Something was written now, or it is not known when it was."""
        if self.first_written_ms < 0:
            self.first_written_ms = now_ms
        self.last_written_ms = now_ms

    @property
    def extent(self) -> SegmentExtent:
        return SegmentExtent(
            self.base_offset,
            self.base_index,
            self.last_index,
            self.next_offset,
            self.size,
            self.max_timestamp,
            self.first_timestamp,
            self.first_written_ms,
            self.last_written_ms,
            self._generation,
        )

    def file(self) -> File:
        file = self._file
        if file is None:
            file = self._file = self._pool.open(self, create=not self._exists)
            self._exists = True
        self._pool.use(self)
        return file

    def release(self) -> None:
        """Let go of the file and of what can be read again. Slices keep the file open that they refer to."""
        self._file = None
        self._cursors.clear()
        if not self.dirty:
            self._index = None

    @property
    def has_index(self) -> bool:
        """In memory: it need not be read."""
        return self._index is not None

    def index(self, interval: int) -> SparseIndex:
        """The sparse index, read or made when it is not in memory. Raises OSError."""
        return self._index if self._index is not None else self._load_index(interval)

    def append(self, entries: Sequence[Entry], interval: int) -> None:
        """Write batches behind the last one; not synced. Raises OSError."""
        index = self.index(interval)
        file = self.file()
        file.pwritev([entry.payload for entry in entries], self.size)
        self._note_written()
        position, since, newest = self.size, self._since_entry, self.max_timestamp
        for entry in entries:
            if since >= interval:
                index.add(entry.base_offset, entry.index, position, newest)
                since = 0
            payload = entry.payload
            (timestamp,) = _BATCH_TIME.unpack_from(payload, _BATCH_TIME_AT)
            if timestamp > newest:
                newest = timestamp
            size = len(payload)
            position += size
            since += size
        if not self.size:
            self.first_timestamp = batch_time(entries[0].payload)
        self.size, self._since_entry, self.max_timestamp = position, since, newest
        self.last_index, self.next_offset = entries[-1].index, entries[-1].next_offset

    def cut(self) -> None:
        """Take away what lies behind the size (recovery: it may be anything). Raises OSError."""
        file = self.file()
        if file.size() > self.size:
            file.truncate(self.size)

    def _note_written(self) -> None:
        self.dirty = True
        if not self.is_unsynced:
            self.is_unsynced = True
            self._pool.note_unsynced(self)

    def sync(self) -> None:
        """Sync the file, which is open, before the next checkpoint does. Raises OSError."""
        self.file().fdatasync()
        self.is_unsynced = False
        self._pool.note_synced(self)

    def mark_clean(self) -> None:
        """A checkpoint looks after what is dirty and unsynced now."""
        self.dirty = self.is_unsynced = False
        self._pool.note_synced(self)
        if self._file is None:
            self._index = None

    def take_index_chunk(self) -> tuple[bytes, int]:
        """Index entries that the `.index` file does not hold yet, and where in it they go."""
        if self._index is None:
            return b"", 0
        chunk = self._index.encode(self._index_saved, self.base_offset)
        position = self._index_file_size
        self._index_saved = len(self._index)
        self._index_file_size += len(chunk)
        return chunk, position

    def cold(self, find: Callable[[SparseIndex], Place], max_bytes: int) -> Warming | None:
        """What must be read from the disk before `max_bytes` from the place that `find` finds can be read
        without waiting for it; None when all of that is in memory."""
        file, index, position = self._file, self._index, None
        if index is not None:
            position = find(index).position
            size = min(max_bytes, WARMED_MAX, self.size - position)
            if file is not None and file.is_cached(size, position):
                return None
        return Warming(
            self._pool.disk,
            self.path,
            self.index_path,
            self.base_offset,
            self.size,
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
        raise DamagedLog(f"{self.path}: offset {offset} is not in it, although it ends at {self.next_offset}")

    def place_of_index(self, raft_index: int, interval: int) -> Place:
        """The batch with the Raft index `raft_index`."""
        index = self.index(interval)
        for place, _ in self.walk(index.floor_index(raft_index)):
            if place.index == raft_index:
                return place
        raise DamagedLog(
            f"{self.path}: entry {raft_index} is not in it, although it ends at {self.last_index}"
        )

    def place_before_timestamp(self, timestamp_ms: int, interval: int) -> Place:
        """A place before which every batch is older than `timestamp_ms`."""
        index = self.index(interval)
        return index.before_timestamp(timestamp_ms)

    def end_within(self, place: Place, max_bytes: int, interval: int) -> Place:
        """Where whole batches from `place` on end that take at most `max_bytes`; behind the first if even
        that is larger."""
        limit = place.position + max_bytes
        if limit >= self.size:
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
        data = self._pread_batch(self.file(), place, KEPT_BYTES_MAX, end)
        end, _ = self._check(data, place, end, term_at, CHECKED_BATCHES_MAX)
        return self._slice(place, end, data[: end.position - place.position])

    def _slice(self, place: Place, end: Place, data: memoryview | None = None) -> Slice:
        """A reader that goes on at `end` finds it without a search."""
        while len(self._cursors) >= CURSORS_MAX:
            del self._cursors[next(iter(self._cursors))]
        self._cursors[end.offset] = end
        length = end.position - place.position
        return Slice(self.file(), place.position, length, end.offset, self._pool.may_lend, data)

    def _end(self) -> Place:
        return Place(self.next_offset, self._next_batch_index(self.last_index + 1), FilePosition(self.size))

    def walk(self, place: Place) -> Iterator[tuple[Place, BatchHeader]]:
        """(place, header) of the batches from `place` on. Headers only; raises DamagedLog where one does
        not continue the one before."""
        file, end = self.file(), self.size
        offset, index, position = place
        chunk, chunk_at = b"", 0
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
                place = Place(Offset(offset), RaftIndex(index), position)
                raise self._damage(place, f"is not the batch at offset {offset}")
            yield Place(Offset(offset), RaftIndex(index), FilePosition(position)), header
            offset, position = Offset(header.next_offset), FilePosition(next_position)
            index = self._next_batch_index(index + 1)

    def check(self, place: Place, end: Place, term_at: TermAt) -> Place:
        """Read what lies between two places and hold every batch to its CRC, its offset and its term. Where
        it ends: before `end` when there are more than CHECKED_BATCHES_MAX. Raises DamagedBatch."""
        file, budget = self.file(), CHECKED_BATCHES_MAX
        while place.position < end.position and budget:
            data = self._pread_batch(file, place, CHECK_CHUNK, end)
            place, count = self._check(data, place, end, term_at, budget)
            budget -= count
        return place

    def checked_entries(self, place: Place, end: Place, term_at: TermAt, count_max: int) -> list[Entry]:
        """The batches between two places as entries, checked; at most `count_max`, and only up to the next
        index that is no batch's."""
        entries: list[Entry] = []
        data = self._pread_batch(self.file(), place, end.position - place.position, end)
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
        start = start or Place(self.base_offset, self.base_index, FilePosition(0))
        return SegmentPiece(self.base_index, self.file(), start, self._end())

    def check_piece(self, piece: SegmentPiece, data: memoryview, term_at: TermAt) -> Place | None:
        """Check what was read of the segment; where to go on, None at its end. Raises DamagedBatch."""
        place, _ = self._check(data, piece.start, piece.end, term_at, CHECKED_BATCHES_MAX)
        return place if place.position < piece.end.position else None

    def _damage(self, place: Place, problem: str) -> DamagedBatch:
        return DamagedBatch(f"{self.path}: byte {place.position}: {problem}", *_numbers(place))

    def repair(self, place: Place, entries: Sequence[Entry]) -> Place:
        """Write batches again at the place where they were written first; where they end. It is not synced:
        what a power loss undoes is found again, and repaired again. The next checkpoint syncs it. Raises
        InvalidInput when they do not fit, OSError."""
        end = place.position + sum(len(entry.payload) for entry in entries)
        if entries[0].base_offset != place.offset or end > self.size or entries[-1].index > self.last_index:
            raise InvalidInput(f"{self.path}: {len(entries)} batches do not fit at byte {place.position}")
        self.file().pwritev([entry.payload for entry in entries], place.position)
        if not self.dirty:
            self._index = None  # it may have been made when what lies behind the damage could not be found
        self._note_written()
        last = entries[-1]
        return Place(last.next_offset, self._next_batch_index(last.index + 1), FilePosition(end))

    def _load_index(self, interval: int) -> SparseIndex:
        """Read the `.index` file and find what it lacks in the log."""
        index = SparseIndex()
        if self._pool.disk.exists(self.index_path):
            file = self._pool.disk.open(self.index_path)
            self._index_file_size = index.load(file.pread(file.size(), 0), self.base_offset, self.size)
        else:
            self._index_file_size = 0
        self._index_saved = len(index)
        since, newest = 1 << 62, NO_TIMESTAMP
        place = Place(self.base_offset, self.base_index, FilePosition(0))
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
                index.add(self.base_offset, self.base_index, 0, NO_TIMESTAMP)
        self._since_entry = since
        self._index = index
        if len(index) - self._index_saved >= INDEX_REBUILT_MIN and not self.dirty:
            self.save_index()
        return index

    def save_index(self) -> None:
        """Append to the `.index` file what it lacks. Not synced, and left for later where the system does not
        open it: it can be found again."""
        try:
            with self._pool.health:
                file = self._pool.disk.open(self.index_path, create=True)
        except FileRefused:
            return
        chunk, position = self.take_index_chunk()
        if chunk:
            with self._pool.health:
                file.pwritev([chunk], position)
