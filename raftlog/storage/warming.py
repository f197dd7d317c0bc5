"""Reading from the disk ahead of a reader that must not wait for it.

Reads of a log are plain calls in the event loop, which is right for bytes in the page cache and wrong for all
others: a disk that seeks takes ten milliseconds, one that is busy a hundred. So a caller that can wait asks
first (`LogReader.cold`). What it gets back is run in a thread and brings the bytes into the page cache; it
touches nothing of the log's own. Between that and the read they may be dropped again: that costs time, and no
more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from raftlog.storage.disk import Disk
from raftlog.storage.index import Place, SparseIndex

WARMED_MAX: Final = 8 << 20
"""Bytes that are brought in at once."""
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Warming:
    """Brings a part of a segment, and its index, into the page cache."""

    disk: Disk
    path: str
    index_path: str
    base_offset: int
    size: int
    find: Callable[[SparseIndex], Place]
    """Where the part begins, by the index."""
    position: int | None
    """The same; None: the index is not in memory, and has to be read as well."""
    max_bytes: int

    def run(self) -> None:
        """Blocking; in a thread. What cannot be read is for the reader to meet."""
        try:
            position = self._look_up() if self.position is None else self.position
            end = min(position + min(self.max_bytes, WARMED_MAX) + _CHUNK, self.size)
            file = self.disk.open(self.path)
            while position < end and (data := file.pread(min(_CHUNK, end - position), position)):
                position += len(data)
        except OSError:
            pass

    def _look_up(self) -> int:
        index = SparseIndex()
        if self.disk.exists(self.index_path):
            file = self.disk.open(self.index_path)
            index.load(file.pread(file.size(), 0), self.base_offset, self.size)
        return self.find(index).position if len(index) else 0
