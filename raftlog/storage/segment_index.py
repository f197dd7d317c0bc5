"""The sparse index of one segment: in memory while it is used, in the `.index` file beside the log.

The file may lack entries, and is never synced: `SegmentReader.index` finds in the log what the file lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from raftlog.errors import FileRefused
from raftlog.storage.disk import Disk, Health
from raftlog.storage.index import SparseIndex, encoded_size

REBUILT_MIN: Final = 64
"""Index entries. An index that lacked so many took long to complete from the log: it is saved at once, so
that the next start need not do that again."""
ENTRY_DUE: Final = 1 << 62
"""Bytes since the last index entry, where the next batch gets one however dense the index is."""


class SegmentIndex:
    """See the module. Plain attributes: `path` of the file; `entries`, None while they are not in memory;
    `since_entry`, the bytes of the batches since the one that got the last entry."""

    def __init__(self, disk: Disk, health: Health, path: str, base_offset: int, *, is_new: bool) -> None:
        self._disk, self._health = disk, health
        self.path = path
        self._base_offset = base_offset
        self.entries: SparseIndex | None = SparseIndex() if is_new else None
        self.since_entry = ENTRY_DUE
        self._saved_count = 0
        self._file_size = 0

    def read_file(self, size: int) -> SparseIndex:
        """What the file holds of the first `size` bytes of the segment. Raises OSError."""
        stored = SparseIndex()
        self._file_size = 0
        if self._disk.exists(self.path):
            file = self._disk.open(self.path)
            self._file_size = stored.load(file.pread(file.size(), 0), self._base_offset, size)
        self._saved_count = len(stored)
        return stored

    def complete(self, entries: SparseIndex, since_entry: int, *, may_save: bool) -> None:
        """Keep what `read_file` gave and what was found in the log besides; save it when that was much."""
        self.entries, self.since_entry = entries, since_entry
        if may_save and len(entries) - self._saved_count >= REBUILT_MIN:
            self._save()

    def drop(self) -> None:
        """Let go of the entries in memory: the file is read when they are asked for again."""
        self.entries = None

    def take_chunk(self) -> tuple[Callable[[], bytes], int] | None:
        """What encodes the entries that the file does not hold yet, maybe in a worker thread, and where in
        the file they go; None when the file holds all."""
        entries, saved = self.entries, self._saved_count
        if entries is None or len(entries) == saved:
            return None
        self._saved_count, position = len(entries), self._file_size
        self._file_size += encoded_size(len(entries) - saved)
        return partial(entries.encode, saved, len(entries), self._base_offset), position

    def _save(self) -> None:
        """Append to the file what it lacks. Not synced, and left for later where the system does not open the
        file: the entries can be found again."""
        try:
            with self._health:
                file = self._disk.open(self.path, create=True)
        except FileRefused:
            return
        chunk = self.take_chunk()
        if chunk is not None:
            encode, position = chunk
            with self._health:
                file.pwritev([encode()], position)
