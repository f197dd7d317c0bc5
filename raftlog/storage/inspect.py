"""Looking into a data folder without opening the store: what `raftlog log dump` and `log verify` show.

Reads only and takes no lock, so it works beside a running broker; what that one is just writing may look
like the torn end of a file, which is not damage. Nothing here decides anything for the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2

from raftlog.errors import DamagedLog, InvalidInput
from raftlog.records.batch import HEADER_SIZE, BatchHeader, check_batch, read_header
from raftlog.storage import wal_recovery
from raftlog.storage.disk import Disk, File
from raftlog.storage.entry import EntryKind
from raftlog.storage.extent import SegmentExtent
from raftlog.storage.meta import META_NAME, SCRATCH_NAME, WAL_NAME, read_meta
from raftlog.storage.snapshot import SNAPSHOT_NAME, LogImage, read_file
from raftlog.storage.wal_format import RecordHead, RecordKind
from raftlog.types import Offset, RaftIndex, Term

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. `position` is a byte of the file, where one can be named."""

    path: str
    position: int | None
    problem: str

    def __str__(self) -> str:
        return f"{self.path}{'' if self.position is None else f' byte {self.position}'}: {self.problem}"


@dataclass(slots=True, kw_only=True)
class Verification:
    """What `verify` read, and what it found; no findings: all of it is sound."""

    wal_blocks: int = 0
    logs: int = 0
    batches: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BatchAt:
    """A batch of a segment file; `problem` says what is wrong with it, None for nothing."""

    position: int
    header: BatchHeader | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class WalLine:
    """A record of the write-ahead log, in words that fit a line."""

    sequence: int
    kind: RecordKind
    key: bytes
    index: int
    term: int
    commit: int
    text: str


def log_folders(disk: Disk, root: str) -> list[str]:
    """The names of the logs' folders, sorted."""
    names = []
    for name in disk.listdir(root):
        if name in (WAL_NAME, META_NAME, SCRATCH_NAME):
            continue
        try:
            inside = disk.listdir(f"{root}/{name}")
        except OSError:
            continue  # a file
        if SNAPSHOT_NAME in inside or any(file.endswith(".log") for file in inside):
            names.append(name)
    return sorted(names)


def dump_segment(disk: Disk, path: str) -> Iterator[BatchAt]:
    """Every batch of a `.log` file in order; the last one given is the first with a problem, if any."""
    number, _, generation = path.rpartition("/")[2].removesuffix(".log").partition(".")
    file = disk.open(path)
    yield from _batches(file, file.size(), int(number), is_cleaned=bool(generation))


def dump_wal(disk: Disk, root: str) -> Iterator[WalLine]:
    """Every record that a replay would apply, in order. Raises DamagedLog where the store would."""
    meta = read_meta(disk, root)
    if meta is None:
        raise DamagedLog(f"{root}: there is no {META_NAME}")
    scan = wal_recovery.scan(disk, f"{root}/{WAL_NAME}", meta.wal_id)
    if scan is None:
        raise DamagedLog(f"{root}/{WAL_NAME}: the write-ahead log is missing")
    for sequence, head, payload in scan.records():
        yield WalLine(
            sequence,
            RecordKind(head.kind),
            head.key,
            head.index,
            head.term,
            head.commit,
            _text(head, payload),
        )


def read_snapshot(disk: Disk, folder: str) -> LogImage:
    """What a log's snapshot file says. Raises DamagedLog."""
    return read_file(disk, folder)


def verify(disk: Disk, root: str) -> Verification:
    """Read everything under `root` and hold it to its CRCs, offsets and sizes."""
    result = Verification()
    checkpoint: dict[str, Any] = {"groups": []}
    try:
        meta = read_meta(disk, root)
        scan = meta and wal_recovery.scan(disk, f"{root}/{WAL_NAME}", meta.wal_id)
        if not scan:
            raise DamagedLog(f"{root}: {META_NAME} or the write-ahead log is missing")
        result.wal_blocks = len(scan.blocks)
        checkpoint = scan.checkpoint
    except (DamagedLog, OSError) as error:
        result.findings.append(Finding(root, None, str(error)))
    known = {line[1]: line for line in checkpoint["groups"]}
    for name in log_folders(disk, root):
        result.logs += 1
        line = known.get(name)
        _verify_log(disk, f"{root}/{name}", line and line[5], bool(line and line[2]), result)
    return result


def _verify_log(
    disk: Disk, folder: str, active: list[int] | None, has_snapshot: bool, result: Verification
) -> None:
    """Add what is wrong in one log's folder; `active`: the checkpoint's line about the last segment."""
    sizes: dict[str, int] = {}
    epochs: list[tuple[Term, RaftIndex, Offset]] = []
    if has_snapshot or disk.exists(f"{folder}/{SNAPSHOT_NAME}"):
        try:
            image = read_file(disk, folder)
        except DamagedLog as error:
            result.findings.append(Finding(f"{folder}/{SNAPSHOT_NAME}", None, str(error)))
        else:
            epochs = image.epochs
            sizes = {segment.file_name: segment.size for segment in image.segments}
            if image.damage is not None:
                result.findings.append(Finding(folder, None, f"known to be damaged: {image.damage}"))
    if active is not None:
        last = SegmentExtent(*active).file_name  # type: ignore[arg-type]
        sizes[last] = max(active[4], sizes.get(last, 0))
    for segment in sizes:
        if not disk.exists(f"{folder}/{segment}.log"):
            result.findings.append(Finding(f"{folder}/{segment}.log", None, "the file is missing"))
    for name in disk.listdir(folder):
        if name.endswith(".log"):
            size = sizes.get(name.removesuffix(".log"), 0)
            _verify_segment(disk, f"{folder}/{name}", size, epochs, result)


def _verify_segment(
    disk: Disk,
    path: str,
    synced: int,
    epochs: list[tuple[Term, RaftIndex, Offset]],
    result: Verification,
) -> None:
    """What lies beyond `synced` bytes may be anything after a crash, and is written again from the WAL."""
    end = 0
    for batch in dump_segment(disk, path):
        if batch.problem is not None:
            if batch.position < synced:
                result.findings.append(Finding(path, batch.position, batch.problem))
            return
        assert batch.header is not None
        offset, term = batch.header.base_offset, batch.header.leader_epoch
        expected = max((line[0] for line in epochs if line[2] <= offset), default=term)
        if term != expected and batch.position < synced:
            problem = f"leader epoch {term}, expected {expected}"  # it lies outside of the batch's CRC
            result.findings.append(Finding(path, batch.position, problem))
        end = batch.position + batch.header.size
        result.batches += 1
        result.bytes += batch.header.size
    if end < synced:
        result.findings.append(Finding(path, end, f"the file ends here, not at byte {synced}"))


def _batches(file: File, size: int, offset: int, *, is_cleaned: bool) -> Iterator[BatchAt]:
    position, term = 0, 0
    while position < size:
        data = file.pread(_CHUNK, position)
        if len(data) >= HEADER_SIZE and (needed := read_header(data).size) > len(data):
            data = file.pread(min(needed, size - position), position)
        at = 0
        while len(data) - at >= HEADER_SIZE:
            header = read_header(data, at)
            if at and header.size > len(data) - at:
                break  # the chunk's end; from the batch's own beginning next time
            problem = _problem(data, at, header, offset, term, is_cleaned)
            yield BatchAt(position + at, header, problem)
            if problem is not None:
                return
            offset, term = header.next_offset, header.leader_epoch
            at += header.size
        if at == 0:
            yield BatchAt(position, None, f"{len(data)} bytes that are no batch")
            return
        position += at


def _problem(
    data: bytes, at: int, header: BatchHeader, offset: int, term: int, is_cleaned: bool
) -> str | None:
    try:
        check_batch(data, at)
    except InvalidInput as error:
        return str(error)
    if header.base_offset < offset or (header.base_offset > offset and not is_cleaned):
        return f"base offset {header.base_offset}, expected {offset}"
    if header.leader_epoch < term:
        return f"leader epoch {header.leader_epoch} after {term}"
    return None


def _text(head: RecordHead, payload: memoryview) -> str:
    match RecordKind(head.kind):
        case RecordKind.ENTRY:
            kind = EntryKind(head.entry_kind)
            offsets = f" offsets {head.base_offset}..{head.next_offset}" if kind is EntryKind.BATCH else ""
            return f"{kind.name}{offsets} {len(payload)} bytes"
        case RecordKind.HARD_STATE:
            return f"voted for {'nobody' if head.index < 0 else head.index}"
        case RecordKind.RESET | RecordKind.LOG_START:
            return f"offset {head.base_offset}"
        case RecordKind.CREATE:
            dirname, _ = cbor2.loads(payload)
            return str(dirname)
        case RecordKind.FILLED:
            (dirname,) = cbor2.loads(payload)
            return f"offset {head.base_offset} in {dirname}"
        case RecordKind.MAY_LACK:
            return "may lack something" if head.index else "lacks nothing"
        case RecordKind.CHECKPOINT:
            return f"{len(payload)} bytes"
        case RecordKind.TRUNCATE | RecordKind.DELETE:
            return ""
