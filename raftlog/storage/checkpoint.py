"""A checkpoint: what makes the committed part of all logs durable outside of the write-ahead log.

The store captures on the loop's thread what has to be synced and written; `run` does it, blocking, beside
the turns that go on. Only when all of it is durable is the checkpoint recorded in the WAL, so that a
crash anywhere in between finds the checkpoint before, whose WAL files are all still there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raftlog.storage.disk import Disk, File, Health
from raftlog.storage.segment import Segment
from raftlog.storage.snapshot import SNAPSHOT_NAME, LogImage, encode, write_file


@dataclass(slots=True, kw_only=True)
class CheckpointJob:
    """The work of one checkpoint. Made by `Store.begin_checkpoint`."""

    disk: Disk
    root: str
    health: Health
    start_sequence: int
    """The WAL block that replay starts at once the checkpoint is recorded."""
    record: bytes = b""
    files: list[File] = field(default_factory=list)
    index_chunks: list[tuple[str, bytes, int]] = field(default_factory=list)
    snapshots: list[tuple[str, LogImage]] = field(default_factory=list)
    doomed: list[str] = field(default_factory=list)
    """Segment files that no snapshot file names any more once `snapshots` are written."""
    trash: list[str] = field(default_factory=list)
    """Names of folders of deleted groups and of logs before their reset."""
    is_done: bool = False

    def add_segment(self, segment: Segment) -> None:
        """See that what the segment holds now becomes durable; from now on it counts so."""
        if segment.is_unsynced:
            self.files.append(segment.file())
        chunk, position = segment.take_index_chunk()
        if chunk:
            self.index_chunks.append((segment.index_path, chunk, position))
        segment.mark_clean()

    def run(self) -> None:
        """Sync segments, write snapshot files, remove what is of no use any more. Blocking; may run in a
        worker thread while the store takes turns. Raises DiskFailed, which is final, and FileRefused: call it
        again. When it is abandoned half-way nothing is lost: the checkpoint before still stands."""
        disk = self.disk
        with self.health:
            while self.files:
                self.files[-1].fdatasync()
                self.files.pop()  # its descriptor may be the last reference
            for path, chunk, position in self.index_chunks:
                disk.open(path, create=True).pwritev([chunk], position)
            for folder, image in self.snapshots:
                disk.mkdir(folder)
                if image.is_cleaned:  # files that it names may have been renamed into the folder
                    disk.sync_dir(folder)
                write_file(disk, folder, SNAPSHOT_NAME, encode(image))
            if self.snapshots:
                disk.sync_dir(self.root)  # folders of new logs
            for path in self.doomed:
                if disk.exists(path):
                    disk.unlink(path)
            for name in self.trash:
                disk.rmtree(f"{self.root}/{name}")
            if self.trash:
                disk.sync_dir(self.root)  # or a crash could bring them back when nothing knows them any more
        self.is_done = True
