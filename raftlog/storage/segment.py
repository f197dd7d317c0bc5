"""A segment: committed batches back to back in a `.log` file, and how far they reach.

Invariants: only committed batches are appended, so a segment is never truncated while it is open; the bytes
at a position never change. What is given of them to anybody goes through the segment's `reader`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftlog.errors import InvalidInput
from raftlog.storage.disk import File
from raftlog.storage.entry import Entry
from raftlog.storage.extent import SegmentExtent, batch_time
from raftlog.storage.index import Place
from raftlog.storage.segment_index import SegmentIndex
from raftlog.storage.segment_pool import SegmentPool
from raftlog.storage.segment_reader import SegmentBytes, SegmentReader
from raftlog.types import FilePosition

ReadBy = Callable[[SegmentBytes], SegmentReader]


class Segment:
    """One segment. Its file is made with the first append and opened when it is used."""

    def __init__(
        self,
        pool: SegmentPool,
        folder: str,
        extent: SegmentExtent,
        read_by: ReadBy,
        *,
        is_new: bool,
    ) -> None:
        """`read_by` makes its reader."""
        self._pool = pool
        self.path = f"{folder}/{extent.file_name}.log"
        self.generation = extent.generation
        self.base_offset, self.base_index = extent.base_offset, extent.base_index
        self.last_index, self.next_offset = extent.last_index, extent.next_offset
        self.size = extent.size
        self.max_timestamp, self.first_timestamp = extent.max_timestamp, extent.first_timestamp
        self.first_written_ms, self.last_written_ms = extent.first_written_ms, extent.last_written_ms
        self.dirty = False
        """It has bytes that no checkpoint knows."""
        self.is_unsynced = False
        """Only whoever has the file open is told when bytes of it cannot be written back."""
        self._exists = not is_new
        self._file: File | None = None
        index_path = f"{folder}/{extent.file_name}.index"
        self.index = SegmentIndex(pool.disk, pool.health, index_path, extent.base_offset, is_new=is_new)
        self.reader = read_by(self)

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
            self.generation,
        )

    @property
    def opened(self) -> File | None:
        """The file, if it is open."""
        return self._file

    def file(self) -> File:
        """The file, opened if need be. Raises OSError."""
        file = self._file
        if file is None:
            file = self._file = self._pool.open(self, create=not self._exists)
            self._exists = True
        self._pool.use(self)
        return file

    def release(self) -> None:
        """Let go of the file and of what can be read again. Slices keep the file open that they refer to."""
        self._file = None
        self.reader.forget_ends()
        if not self.dirty:
            self.index.drop()

    def append(self, entries: Sequence[Entry], interval: int) -> None:
        """Write batches behind the last one; not synced. Raises OSError."""
        index = self.reader.index(interval)
        file = self.file()
        file.pwritev([entry.payload for entry in entries], self.size)
        self._note_written()
        position, since, newest = self.size, self.index.since_entry, self.max_timestamp
        for entry in entries:
            if since >= interval:
                index.add(entry.base_offset, entry.index, position, newest)
                since = 0
            payload = entry.payload
            timestamp = batch_time(payload)
            if timestamp > newest:
                newest = timestamp
            size = len(payload)
            position += size
            since += size
        if not self.size:
            self.first_timestamp = batch_time(entries[0].payload)
        self.size, self.index.since_entry, self.max_timestamp = position, since, newest
        self.last_index, self.next_offset = entries[-1].index, entries[-1].next_offset

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
            self.index.drop()

    def repair(self, place: Place, entries: Sequence[Entry]) -> FilePosition:
        """Write batches again at the place where they were written first; where they end. It is not synced:
        what a power loss undoes is found again, and repaired again. The next checkpoint syncs it. Raises
        InvalidInput when they do not fit, OSError."""
        if self.generation:
            raise InvalidInput(f"{self.path}: no replica has the entries of a segment that was cleaned")
        end = place.position + sum(len(entry.payload) for entry in entries)
        if entries[0].base_offset != place.offset or end > self.size or entries[-1].index > self.last_index:
            raise InvalidInput(f"{self.path}: {len(entries)} batches do not fit at byte {place.position}")
        self.file().pwritev([entry.payload for entry in entries], place.position)
        if not self.dirty:
            self.index.drop()  # it may have been made when what lies behind the damage could not be found
        self._note_written()
        return FilePosition(end)
