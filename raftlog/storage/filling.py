"""A log's compacted part, given to a replica that lacks it: as it stands on one disk, and as it is written to
another.

Entries that compaction has been over are gone one by one. So a replica that needs them takes the files as
they are, with what the log's snapshot file says of them: where terms begin, who is in the group, what the
state machine knows. It takes all of it or nothing, and nothing of its own log is left. A replica that kept
what it has and added a compacted rest could miss the marker of a transaction, or the tombstone of a key, that
it holds.

A `Copy` is of one moment; the files that it names stay until it is closed, also when a pass or retention has
replaced them. A `Filling` is written in a folder beside the replica's log, which goes on unchanged. The log
goes on in the folder with one record of the write-ahead log (`Cleaning.go_on_with`), and not before all of it
is on the disk. A crash before leaves the old log, and a folder with a mark, which the next start removes.

What blocks says so, and may run in a worker thread. Invariant: no batch counts that was not checked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import cbor2

from raftlog.errors import DamagedLog
from raftlog.storage.compaction.batches import read_batches
from raftlog.storage.compaction.job import Source
from raftlog.storage.disk import Disk, File
from raftlog.storage.extent import NO_TIMESTAMP, SegmentExtent
from raftlog.storage.index import SparseIndex
from raftlog.storage.snapshot import SNAPSHOT_NAME, LogImage, decode, encode, write_file

MARK_NAME: Final = "filling"
"""A folder with this file in it is a log that was never finished, unless a log goes by its name."""
DESCRIPTION: Final = -1
"""The number of the file that says what the others are."""
CHECK_BYTES: Final = 256 << 10
"""Bytes that one call checks."""


class Part(NamedTuple):
    """Bytes of one file of a copy."""

    file: int
    """The segment's number, or DESCRIPTION."""
    position: int
    size: int


class Copy:
    """The compacted part of a log, as of the moment in which this was made."""

    def __init__(self, disk: Disk, folder: str, image: LogImage) -> None:
        self.image = image
        """The log as it was up to the last entry that compaction had been over, and the state saved last."""
        self._disk = disk
        self._folder = folder
        self._description = b"".join(encode(image))
        self._open: tuple[int, File] | None = None

    @property
    def description_size(self) -> int:
        return len(self._description)

    @property
    def paths(self) -> Iterator[str]:
        """The files that must stay."""
        return (f"{self._folder}/{segment.file_name}.log" for segment in self.image.segments)

    def read(self, part: Part) -> bytes | None:
        """None for a part that there is not. Blocking. Raises OSError, also when the log was deleted."""
        number, position, size = part
        if number == DESCRIPTION:
            return self._description[position : position + size] or None
        if not 0 <= number < len(self.image.segments):
            return None
        if self._open is None or self._open[0] != number:
            path = f"{self._folder}/{self.image.segments[number].file_name}.log"
            self._open = number, self._disk.open(path)
        size = min(size, self.image.segments[number].size - position)
        return self._open[1].pread(size, position) if size > 0 else None


class Filling:
    """A log that is being filled with the parts of a copy."""

    def __init__(self, disk: Disk, folder: str, description: bytes, interval: int) -> None:
        """Makes the folder; `interval` is that of the index. Blocking. Raises DamagedLog, OSError."""
        self.image = _described(description)
        self._disk = disk
        self._folder = folder
        self._interval = interval
        disk.mkdir(folder)
        disk.open(f"{folder}/{MARK_NAME}", create=True)
        disk.sync_dir(folder)
        disk.sync_dir(folder.rpartition("/")[0])

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.image.segments)

    def parts(self, part_bytes: int) -> Iterator[Part]:
        """All that is needed, in the order in which it must come."""
        for number, segment in enumerate(self.image.segments):
            for position in range(0, segment.size, part_bytes):
                yield Part(number, position, min(part_bytes, segment.size - position))

    def add(self, part: Part, data: bytes) -> None:
        """Blocking. Raises DamagedLog for another size than was asked for, OSError."""
        if len(data) != part.size:
            raise DamagedLog(f"{len(data)} bytes came of {part}")
        file = self._disk.open(self._path(self.image.segments[part.file]), create=True)
        file.pwritev([data], part.position)

    def finish(self) -> Iterator[None]:
        """Check every batch, and make all of it durable; in steps, each of which blocks. Raises DamagedLog,
        OSError."""
        epochs: list[tuple[int, int]] = [(term, offset) for term, _, offset in self.image.epochs]
        for segment in self.image.segments:
            yield from self._finish(segment, epochs)
        # A replay of the write-ahead log applies to it whatever comes behind the record that names it.
        write_file(self._disk, self._folder, SNAPSHOT_NAME, encode(replace(self.image, wal_sequence=0)))
        self._disk.sync_dir(self._folder.rpartition("/")[0])

    def _finish(self, extent: SegmentExtent, epochs: list[tuple[int, int]]) -> Iterator[None]:
        path = self._path(extent)
        file = self._disk.open(path, create=True)
        source = Source(path, *extent[:5])
        index, newest, position, since, step = SparseIndex(), NO_TIMESTAMP, 0, 1 << 62, 0
        for header, batch in read_batches(self._disk, source, epochs):
            if since >= self._interval:
                index.add(header.base_offset, extent.base_index, position, newest)
                since = 0
            newest = max(newest, header.max_timestamp)
            position += len(batch)
            since += len(batch)
            step += len(batch)
            if step >= CHECK_BYTES:
                step = 0
                yield
        file.fdatasync()
        if len(index):  # not synced: what of it is lost is found again
            chunk = index.encode(0, len(index), extent.base_offset)
            self._disk.open(f"{self._folder}/{extent.file_name}.index", create=True).pwritev([chunk], 0)
        yield

    def _path(self, extent: SegmentExtent) -> str:
        return f"{self._folder}/{extent.file_name}.log"


def _described(description: bytes) -> LogImage:
    """Raises DamagedLog for what no broker describes: numbers become file names."""
    try:
        image = decode(description)
    except (cbor2.CBORError, LookupError, TypeError, ValueError) as error:
        raise DamagedLog(f"a copy that is not described: {error!r}") from error
    if not all(type(number) is int for segment in image.segments for number in segment):
        raise DamagedLog("a copy with segments that have no numbers")
    if not image.segments or any(segment.generation < 1 for segment in image.segments):
        raise DamagedLog("a copy with segments that were not compacted")
    return image


def remove_unfinished(disk: Disk, root: str, logs: Iterable[str]) -> None:
    """Remove the folders that a crash has left half filled; `logs` are those that a log goes by. Blocking.
    Raises OSError."""
    known = set(logs)
    for name in disk.listdir(root):
        if name not in known and disk.exists(f"{root}/{name}/{MARK_NAME}"):
            disk.rmtree(f"{root}/{name}")
