"""A checkpoint: what makes the committed part of all logs durable outside of the write-ahead log.

The store captures on the loop's thread what has to be synced and written; `run` does it, blocking, beside
the turns that go on. Only when all of it is durable is the checkpoint recorded in the WAL, so that a
crash anywhere in between finds the checkpoint before, whose WAL files are all still there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cbor2

from raftlog.storage.disk import Disk, File, Health
from raftlog.storage.segment import Segment
from raftlog.storage.snapshot import SNAPSHOT_NAME, LogImage, encode, write_file
from raftlog.storage.wal import WalFile


@dataclass(slots=True, kw_only=True)
class CheckpointJob:
    """The work of one checkpoint. Made by `Store.begin_checkpoint`."""

    disk: Disk
    root: str
    health: Health
    start_sequence: int
    """The WAL block that replay starts at once the checkpoint is recorded."""
    lines: list[object] = field(default_factory=list)
    """What the record says of each log."""
    record: bytes = b""
    """What the WAL is told once all is durable; `run` makes it."""
    files: list[File] = field(default_factory=list)
    index_chunks: list[tuple[str, Callable[[], bytes], int]] = field(default_factory=list)
    """Paths of `.index` files, what encodes what is to be written there, and where."""
    snapshots: list[tuple[str, LogImage]] = field(default_factory=list)
    doomed: list[str] = field(default_factory=list)
    """Segment files that no snapshot file names any more once `snapshots` are written."""
    trash: list[str] = field(default_factory=list)
    """Names of folders of deleted groups and of logs before their reset."""
    surplus: list[WalFile] = field(default_factory=list)
    """Files of the WAL that hold nothing that is needed: to remove one takes the file system long."""
    is_done: bool = False

    def add_segment(self, segment: Segment) -> None:
        """See that what the segment holds now becomes durable; from now on it counts so."""
        if segment.is_unsynced:
            self.files.append(segment.file())
        chunk = segment.index.take_chunk()
        if chunk is not None:
            self.index_chunks.append((segment.index.path, *chunk))
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
            for path, encode_chunk, position in self.index_chunks:
                disk.open(path, create=True).pwritev([encode_chunk()], position)
            for folder, image in self.snapshots:
                disk.mkdir(folder)
                if image.is_cleaned:  # files that it names may have been renamed into the folder
                    disk.sync_dir(folder)
                write_file(disk, folder, SNAPSHOT_NAME, encode(image))
            if self.snapshots:
                disk.sync_dir(self.root)  # folders of new logs
            while self.surplus:
                disk.unlink(self.surplus[-1].path)
                self.surplus.pop().file.close()
            for path in self.doomed:
                if disk.exists(path):
                    disk.unlink(path)
            for name in self.trash:
                disk.rmtree(f"{self.root}/{name}")
            if self.trash:
                disk.sync_dir(self.root)  # or a crash could bring them back when nothing knows them any more
        self.record = cbor2.dumps({"version": 1, "start": self.start_sequence, "groups": self.lines})
        self.is_done = True
