"""Which segment files are open: a limit for all logs of a broker, and no file with unsynced bytes closed."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from raftlog.storage.descriptors import files_max
from raftlog.storage.disk import SHORTAGES, Disk, File, Health, RealFile

RELIEF_FILES: Final = 16
"""Files that are closed when the process has no descriptor left."""


class PooledSegment(Protocol):
    """What the pool asks of a segment."""

    path: str
    is_unsynced: bool

    def sync(self) -> None: ...

    def mark_clean(self) -> None: ...

    def release(self) -> None: ...


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
        self._clean: OrderedDict[PooledSegment, None] = OrderedDict()
        self._unsynced: OrderedDict[PooledSegment, None] = OrderedDict()

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

    def open(self, segment: PooledSegment, *, create: bool) -> File:
        """Open the file of a segment that is going to be used. Raises OSError."""
        try:
            return self.disk.open(segment.path, create=create)
        except OSError as error:
            if error.errno not in SHORTAGES or not len(self):
                raise
        self.relieve()
        return self.disk.open(segment.path, create=create)

    def use(self, segment: PooledSegment) -> None:
        """The segment's file is open, and used now."""
        files = self._unsynced if segment.is_unsynced else self._clean
        files[segment] = None
        files.move_to_end(segment)
        while len(self) > self._open_max and self._close_one(segment):
            pass

    def note_unsynced(self, segment: PooledSegment) -> None:
        self._clean.pop(segment, None)
        self._unsynced[segment] = None

    def note_synced(self, segment: PooledSegment) -> None:
        if segment in self._unsynced:
            del self._unsynced[segment]
            self._clean[segment] = None

    def relieve(self) -> None:
        """Others have taken descriptors that belong to the segments: give some of them up."""
        for _ in range(RELIEF_FILES):
            if not self._close_one(None):
                return

    def _close_one(self, used: PooledSegment | None) -> bool:
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

    def forget(self, segment: PooledSegment) -> None:
        """The segment is gone: its unsynced bytes do not matter any more."""
        self._clean.pop(segment, None)
        self._unsynced.pop(segment, None)
        segment.mark_clean()
        segment.release()
