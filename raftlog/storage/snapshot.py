"""A log's `snapshot` file: where the log starts, what its segments are, and what lies between the batches.

    magic | format version | length of the description | length of the state | crc | description | state

The description is CBOR; the state is the state machine's own. The file is replaced as a whole: written to
a temporary name, synced, renamed, and the folder synced, so that after a crash the old or the new one is
there, never a mixture.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2
from crc32c import crc32c

from raftlog.errors import DamagedLog
from raftlog.storage.disk import Disk, refuse_if_not_the_disks
from raftlog.storage.entry import LOG_BEGIN, Entry, EntryKind, LogPoint
from raftlog.storage.extent import SegmentExtent
from raftlog.types import GroupKey, Offset, RaftIndex, Term

_HEADER: Final = struct.Struct(">4sIQQI")
_MAGIC: Final = b"rlsn"
FORMAT_VERSION: Final = 2
"""Of a log that was cleaned; of all others it is 1, which older builds read as well."""
_NEVER_CLEANED: Final = 1
SNAPSHOT_NAME: Final = "snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogImage:
    """Everything about a log but its batches and its uncommitted tail."""

    key: GroupKey
    start: LogPoint = LOG_BEGIN
    log_start_offset: Offset = LOG_BEGIN.offset
    commit: LogPoint = LOG_BEGIN
    """The last committed entry, and the offset behind it."""
    epochs: list[tuple[Term, RaftIndex, Offset]] = field(default_factory=list)
    """(term, first index, first offset) of every term in the log, ascending."""
    internal: list[Entry] = field(default_factory=list)
    """Entries of Raft itself, which take an index but are not in the segments."""
    membership: Entry | None = None
    """The newest membership that was compacted away, or the one that the log was made with."""
    segments: list[SegmentExtent] = field(default_factory=list)
    snapshot_index: RaftIndex = LOG_BEGIN.index
    state: bytes = b""
    wal_sequence: int = 0
    """The WAL block before which everything that was done to the log is in the image, but for its tail."""
    damage: str | None = None
    """What was found damaged in the log; it outlives a restart, until the log is reset."""
    may_lack: bool = False
    """Whether the log may lack what its replica has acknowledged."""
    passes: list[tuple[Offset, int]] = field(default_factory=list)
    """Of each pass of the cleaner: up to where, and how long ago in ms of the broker's running time."""

    @property
    def is_cleaned(self) -> bool:
        """Whether compaction has ever been over the log."""
        return bool(self.passes) or any(segment.generation for segment in self.segments)


def new_image(key: GroupKey, start: LogPoint, membership: bytes) -> LogImage:
    """Of a log that has just been made."""
    return LogImage(
        key=key,
        start=start,
        log_start_offset=start.offset,
        commit=start,
        membership=start.membership(membership) if membership else None,
        snapshot_index=start.index,
    )


def empty_image(key: GroupKey, point: LogPoint, state: bytes, membership: Entry | None) -> LogImage:
    """Of a log that begins at `point`, with a state."""
    return LogImage(
        key=key,
        start=point,
        log_start_offset=point.offset,
        commit=point,
        snapshot_index=point.index,
        state=state,
        membership=membership,
    )


def encode(image: LogImage) -> list[bytes]:
    """The file's bytes, as buffers to be written one behind the other."""
    description = cbor2.dumps(
        {
            "key": image.key,
            "start": list(image.start),
            "log_start_offset": image.log_start_offset,
            "commit": list(image.commit),
            "epochs": [list(epoch) for epoch in image.epochs],
            "internal": [_entry_to_list(entry) for entry in image.internal],
            "membership": None if image.membership is None else _entry_to_list(image.membership),
            "segments": [segment.to_list() for segment in image.segments],
            "snapshot_index": image.snapshot_index,
            "wal_sequence": image.wal_sequence,
            "damage": image.damage,
            "may_lack": image.may_lack,
            **({"passes": [list(each) for each in image.passes]} if image.is_cleaned else {}),
        }
    )
    fields = (
        _MAGIC,
        FORMAT_VERSION if image.is_cleaned else _NEVER_CLEANED,
        len(description),
        len(image.state),
    )
    crc = crc32c(image.state, crc32c(description, crc32c(_HEADER.pack(*fields, 0)[:-4])))
    return [_HEADER.pack(*fields, crc), description, image.state]


def decode(data: bytes) -> LogImage:
    """The image in a snapshot file's bytes. Raises DamagedLog, saying why they are none."""
    if len(data) < _HEADER.size:
        raise DamagedLog(f"a snapshot file of {len(data)} bytes is cut off")
    magic, version, description_size, state_size, crc = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size :]
    if magic != _MAGIC or len(body) != description_size + state_size:
        raise DamagedLog("not a whole snapshot file")
    if crc32c(body, crc32c(data[: _HEADER.size - 4])) != crc:
        raise DamagedLog("the snapshot file's bytes do not have its crc")
    if version not in (_NEVER_CLEANED, FORMAT_VERSION):
        raise DamagedLog(f"snapshot format {version} is not known, only those up to {FORMAT_VERSION}")
    description: dict[str, Any] = cbor2.loads(body[:description_size])
    return LogImage(
        key=GroupKey(description["key"]),
        start=LogPoint(*description["start"]),
        log_start_offset=description["log_start_offset"],
        commit=LogPoint(*description["commit"]),
        epochs=[(epoch[0], epoch[1], epoch[2]) for epoch in description["epochs"]],
        internal=[_entry_from_list(entry) for entry in description["internal"]],
        membership=None if description["membership"] is None else _entry_from_list(description["membership"]),
        segments=[SegmentExtent(*extent) for extent in description["segments"]],
        snapshot_index=description["snapshot_index"],
        wal_sequence=description["wal_sequence"],
        damage=description["damage"],
        may_lack=description["may_lack"],
        passes=[(Offset(clean_to), age_ms) for clean_to, age_ms in description.get("passes", ())],
        state=bytes(body[description_size:]),
    )


def read_file(disk: Disk, folder: str) -> LogImage:
    """The image in a log's folder. Raises DamagedLog, also when the file is missing, and FileRefused."""
    path = f"{folder}/{SNAPSHOT_NAME}"
    try:
        file = disk.open(path)
        return decode(file.pread(file.size(), 0))
    except OSError as error:
        refuse_if_not_the_disks(path, error)
        raise DamagedLog(f"{path}: {error}") from error
    except DamagedLog as error:
        raise DamagedLog(f"{path}: {error}") from error


def write_file(disk: Disk, folder: str, name: str, buffers: list[bytes]) -> None:
    """Replace the file `name` in `folder` so that a crash leaves the old or the new one. Raises OSError."""
    temporary = f"{folder}/{name}.tmp"
    file = disk.open(temporary, create=True)
    file.truncate(0)
    file.pwritev(buffers, 0)
    file.fdatasync()
    disk.rename(temporary, f"{folder}/{name}")
    disk.sync_dir(folder)


def entry_to_cbor(entry: Entry | None) -> list[Any] | None:
    return None if entry is None else _entry_to_list(entry)


def entry_from_cbor(fields: list[Any] | None) -> Entry | None:
    return None if fields is None else _entry_from_list(fields)


def _entry_to_list(entry: Entry) -> list[Any]:
    return [entry.index, entry.term, int(entry.kind), bytes(entry.payload), entry.base_offset]


def _entry_from_list(fields: list[Any]) -> Entry:
    index, term, kind, payload, offset = fields
    return Entry(RaftIndex(index), Term(term), EntryKind(kind), payload, Offset(offset), Offset(offset))
