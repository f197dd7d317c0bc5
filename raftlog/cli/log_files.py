"""What `raftlog log` reads out of a data folder: opened for reading only, never locked, never written.

Beside a running broker it shows what has reached the files; what is being written right now may look cut off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import cbor2

from raftlog.cluster.metadata_group import apply_entry
from raftlog.errors import DamagedLog
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.state import MetadataState
from raftlog.records.batch import BatchHeader
from raftlog.storage import wal_recovery
from raftlog.storage.disk import File, RealDisk, RealFile
from raftlog.storage.entry import LOG_BEGIN, EntryKind, LogPoint
from raftlog.storage.folder_names import CUT, could_be_of
from raftlog.storage.inspect import dump_segment, log_folders, read_snapshot
from raftlog.storage.meta import META_NAME, WAL_NAME, Meta, read_meta
from raftlog.storage.snapshot import SNAPSHOT_NAME
from raftlog.storage.wal_format import RecordKind
from raftlog.types import METADATA_GROUP, Offset, RaftIndex, Term

METADATA_FOLDER: Final = "__cluster_metadata-0"


class NoData(Exception):
    """There is no data folder, or nothing in it that was asked for; the message says what there is."""


class ReadOnlyDisk(RealDisk):
    """A disk on which nothing can be changed, so that it may be a copy, or a mount that is read-only."""

    def open(self, path: str, *, create: bool = False) -> File:
        assert not create, path
        return RealFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def open_folder(root: str) -> tuple[ReadOnlyDisk, Meta]:
    """A disk to read the data folder with, and whose it is. Raises NoData, ConfigError, DamagedLog."""
    disk = ReadOnlyDisk()
    meta = read_meta(disk, root)
    if meta is None:
        raise NoData(f"{root} is no data folder of a broker: there is no {META_NAME} in it")
    return disk, meta


@dataclass(frozen=True, slots=True)
class LogSummary:
    """A log at a glance. `end` is behind the last record that can be read."""

    folder: str
    segments: int
    first: int
    end: int
    size: int


def summaries(disk: ReadOnlyDisk, root: str) -> Iterator[LogSummary]:
    """Every log of the folder."""
    for folder in log_folders(disk, root):
        paths = segment_paths(disk, root, folder)
        first = end = _base_offset(paths[0]) if paths else 0
        if disk.exists(f"{root}/{folder}/{SNAPSHOT_NAME}"):
            first = max(first, read_snapshot(disk, f"{root}/{folder}").log_start_offset)
        for batch in dump_segment(disk, paths[-1]) if paths else ():
            if batch.header is not None and batch.problem is None:
                end = batch.header.next_offset
        size = sum(os.path.getsize(path) for path in paths)
        yield LogSummary(folder, len(paths), first, max(first, end), size)


def full_names(disk: ReadOnlyDisk, root: str, meta: Meta, folders: list[str]) -> dict[str, str]:
    """What the logs are called whose folder's name had to be cut (`folder_names`), as far as the metadata
    that this folder holds knows their topics."""
    cut = [folder for folder in folders if CUT in folder]
    if not cut:
        return {}
    try:
        topics = {
            topic_id.hex(): topic for topic_id, topic in read_catalog(disk, root, meta).topics_by_id.items()
        }
    except DamagedLog:
        return {}
    names = {}
    for folder in cut:
        log, _, topic_id = folder.partition("~")[0].rpartition(".")
        if topic_id in topics:
            names[folder] = f"{topics[topic_id].name}-{log.rpartition('-')[2]}.{topic_id}"
    return names


def find_log(disk: ReadOnlyDisk, root: str, name: str) -> str:
    """The folder of a log that is named in full or by `topic-partition`. Raises NoData."""
    folders = log_folders(disk, root)
    found = [folder for folder in folders if folder == name or could_be_of(folder.rpartition(".")[0], name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NoData(f"{name!r} may be any of {', '.join(found)}")
    raise NoData(f"there is no log {name!r} in {root}, only {', '.join(folders) or 'none at all'}")


def segment_paths(disk: ReadOnlyDisk, root: str, folder: str) -> list[str]:
    """The segment files of a log, oldest first."""
    names = [name for name in disk.listdir(f"{root}/{folder}") if name.endswith(".log")]
    return [f"{root}/{folder}/{name}" for name in sorted(names)]


def _base_offset(path: str) -> int:
    return int(os.path.basename(path).partition(".")[0])


@dataclass(slots=True)
class _MetadataTail:
    """What the write-ahead log says of the metadata group: where it began, and entries by their index."""

    folder: str = METADATA_FOLDER
    start: LogPoint = LOG_BEGIN
    state: bytes = b""
    commit: int = 0
    commands: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """Offset and batch."""
    internal: set[int] = field(default_factory=set)
    """The indices of Raft's own entries."""


def read_catalog(disk: ReadOnlyDisk, root: str, meta: Meta) -> Catalog:
    """The cluster's metadata as far as this folder knows that they are committed.

    The snapshot first, then the commands in the segments, then those that only the write-ahead log has.
    Raises DamagedLog where the write-ahead log cannot be read.
    """
    tail = _read_tail(disk, root, meta)
    folder = f"{root}/{tail.folder}"
    start, data, internal = tail.start, tail.state, tail.internal
    if disk.exists(f"{folder}/{SNAPSHOT_NAME}"):  # a folder is new with each reset, so this is newer
        image = read_snapshot(disk, folder)
        start, data = image.start, image.state
        internal |= {entry.index for entry in image.internal}
    state = MetadataState()
    if data:
        state.restore(data)
    index, end = start.index, start.offset
    for path in segment_paths(disk, root, tail.folder) if disk.exists(folder) else ():
        for batch, header in _sound_batches(disk, path):
            if header.base_offset < start.offset:
                continue
            index = RaftIndex(index + 1)
            while index in internal:
                index = RaftIndex(index + 1)
            _apply(state, index, batch)
            end = Offset(header.next_offset)
    for at, (offset, data) in sorted(tail.commands.items()):
        if offset >= end and at <= tail.commit:
            _apply(state, RaftIndex(at), data)
    return state.catalog


def _sound_batches(disk: ReadOnlyDisk, path: str) -> Iterator[tuple[bytes, BatchHeader]]:
    """The batches of a segment up to the first that is not sound."""
    file = disk.open(path)
    for batch in dump_segment(disk, path):
        if batch.problem is not None or batch.header is None:
            return
        yield file.pread(batch.header.size, batch.position), batch.header


def _apply(state: MetadataState, index: RaftIndex, batch: bytes) -> None:
    apply_entry(state, max(index, state.catalog.applied_index), batch)


def _read_tail(disk: ReadOnlyDisk, root: str, meta: Meta) -> _MetadataTail:
    tail = _MetadataTail()
    scan = wal_recovery.scan(disk, f"{root}/{WAL_NAME}", meta.wal_id)
    for _, head, payload in scan.records() if scan is not None else ():
        if head.key != METADATA_GROUP:
            continue
        tail.commit = max(tail.commit, head.commit)
        if head.kind in (RecordKind.ENTRY, RecordKind.TRUNCATE):
            tail.commands = {at: one for at, one in tail.commands.items() if at < head.index}
            tail.internal = {at for at in tail.internal if at < head.index}
        match RecordKind(head.kind):
            case RecordKind.ENTRY if head.entry_kind == EntryKind.BATCH:
                tail.commands[head.index] = (head.base_offset, bytes(payload))
            case RecordKind.ENTRY:
                tail.internal.add(head.index)
            case RecordKind.RESET:
                folder, state, _ = cbor2.loads(payload)
                point = LogPoint(RaftIndex(head.index), Term(head.term), Offset(head.base_offset))
                tail = _MetadataTail(folder, point, state, head.index)
    return tail
