"""The files that a pass writes: cleaned batches back to back, and the sparse index over them."""

from __future__ import annotations

from typing import Final

from raftlog.records.batch import BatchHeader
from raftlog.storage.compaction.job import Cleaned, CleaningJob, Source
from raftlog.storage.disk import Bytes, Disk
from raftlog.storage.index import SparseIndex

_BUFFERED: Final = 1 << 20
NO_TIMESTAMP: Final = -1


class Output:
    """One file in the making. It stands for whole sources, so that it is known which entries it covers."""

    def __init__(self, disk: Disk, job: CleaningJob, number: int, first: Source) -> None:
        self._disk = disk
        self._path = f"{job.target}.{number}.log"
        self._index_path = f"{job.target}.{number}.index"
        self._interval = job.index_interval_bytes
        self._file = disk.open(self._path, create=True)
        self._index = SparseIndex()
        self._first = first
        self._buffers: list[Bytes] = []
        self._buffered = self._written = 0
        self._since = 1 << 62
        self._newest = self._oldest = NO_TIMESTAMP
        self.source_count = 0

    @property
    def size(self) -> int:
        return self._written + self._buffered

    def append(self, header: BatchHeader, batch: Bytes, max_timestamp: int) -> None:
        """`batch` is not changed afterwards. Raises OSError."""
        if self._since >= self._interval:
            self._index.add(header.base_offset, self._first.base_index, self.size, self._newest)
            self._since = 0
        if not self.size:
            self._oldest = max_timestamp
        self._newest = max(self._newest, max_timestamp)
        self._since += len(batch)
        self._buffered += len(batch)
        self._buffers.append(batch)
        if self._buffered >= _BUFFERED:
            self._flush()

    def _flush(self) -> None:
        if self._buffers:
            self._file.pwritev(self._buffers, self._written)
            self._written += self._buffered
            self._buffers, self._buffered = [], 0

    def finish(self) -> Cleaned:
        """Make what was appended durable. The index is not synced: what of it is lost is found again."""
        self._flush()
        self._file.fdatasync()
        if len(self._index):
            chunk = self._index.encode(0, len(self._index), self._first.base_offset)
            self._disk.open(self._index_path, create=True).pwritev([chunk], 0)
        return Cleaned(
            self._path, self._index_path, self.source_count, self._written, self._newest, self._oldest
        )
