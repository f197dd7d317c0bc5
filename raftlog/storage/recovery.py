"""From a checkpoint and the write-ahead log (WAL) behind it back to the logs as they were.

After a crash a segment may hold anything beyond the checkpoint. So it is cut at the checkpoint, and its end
is written again from the WAL. The WAL has all of it: an entry goes into a segment only when it is committed,
and a broker commits an entry only when it is durable in its WAL.

Raft's commit index is volatile. But each record of the WAL says what its group had committed when the record
was written, and a committed entry stays committed. So recovery writes the entries up to there into the
segments. The entries behind it become the uncommitted tail; Raft finds out how much of that is committed.

Recovery looks for damage log by log, and only in logs that still exist after the replay. A log that the WAL
deletes or resets does not miss its old files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import cbor2

from raftlog.errors import DamagedLog, FileRefused
from raftlog.storage.disk import Disk, refuse_if_not_the_disks
from raftlog.storage.entry import Entry, EntryKind, HardState, LogPoint
from raftlog.storage.extent import SegmentExtent
from raftlog.storage.filling import remove_unfinished
from raftlog.storage.folder_names import possible_name
from raftlog.storage.group_log import GroupLog, LogContext
from raftlog.storage.snapshot import (
    SNAPSHOT_NAME,
    LogImage,
    empty_image,
    entry_from_cbor,
    new_image,
    read_file,
)
from raftlog.storage.wal_format import RecordHead, RecordKind
from raftlog.storage.wal_recovery import WalScan
from raftlog.types import BrokerId, GroupKey, Offset, RaftIndex, Term

COMMIT_EVERY: Final = 256
"""Committed entries of a group that recovery gathers before it writes them into the segments together."""
GATHERED_MAX: Final = 8 << 20
"""Bytes of entries, of all groups, that recovery holds in memory. Beyond that it writes those that are
committed: the write-ahead log as a whole may be larger than the memory."""


def recover(context: LogContext, scan: WalScan) -> dict[GroupKey, GroupLog]:
    """The logs as the checkpoint and the WAL say. The end of the WAL itself must be durable already.

    Raises DamagedLog when the WAL does not fit the checkpoint, FileRefused, DiskFailed.
    """
    groups: Any = scan.checkpoint["groups"]
    start: Any = scan.checkpoint["start"]
    replay = _Replay(context)
    for line in groups:
        replay.add(*_load(context, line, start))
    context.wal.replaying = True
    for sequence, head, payload in scan.records():
        try:
            replay.apply(sequence, head, payload)
        except DamagedLog as error:
            raise DamagedLog(f"block {sequence} of the write-ahead log: {error}") from error
    replay.finish()
    context.wal.replaying = False
    with context.health:
        remove_unfinished(context.disk, context.root, [log.dirname for log in replay.logs.values()])
        context.disk.sync_dir(context.root)  # else a removed folder may come back, as another log's
    context.touched.clear()
    return replay.logs


def _load(context: LogContext, line: list[Any], start: int) -> tuple[GroupLog, int]:
    """A log as its snapshot file and its line in the checkpoint describe it, and the WAL block up to which
    they do. The log has `damage` where the two do not fit, or a file of it cannot be read."""
    key, dirname, has_snapshot, (term, vote), commit, active = line
    dirname = possible_name(dirname)
    disk, folder = context.disk, f"{context.root}/{dirname}"
    point = LogPoint(*commit)
    if not has_snapshot and not disk.exists(f"{folder}/{SNAPSHOT_NAME}"):
        image = LogImage(key=GroupKey(key))
        with context.health:
            disk.rmtree(folder)
    else:
        image, has_snapshot = _read(context, dirname, GroupKey(key), point, active, has_snapshot)
    hard_state = HardState(Term(term), None if vote is None else BrokerId(vote))
    log = GroupLog(context, dirname, image, has_snapshot=has_snapshot, hard_state=hard_state)
    if image.wal_sequence > start:
        log.saved.note_changed()  # a crash may have come between the file's rename and the folder's sync
    return log, image.wal_sequence


def _read(
    context: LogContext,
    dirname: str,
    key: GroupKey,
    point: LogPoint,
    active: list[Any] | None,
    has_snapshot: bool = False,
) -> tuple[LogImage, bool]:
    """What the folder's snapshot file says of a log that is committed up to `point`, and whether there is
    one. The image has `damage` where the file does not fit, or a file that it names cannot be read."""
    folder = f"{context.root}/{dirname}"
    try:
        image = _extend(read_file(context.disk, folder), key, point, active)
        has_snapshot = True
        damage = _tidy(context, folder, image)
        if damage is not None and image.damage is None:
            image = replace(image, damage=damage)
    except DamagedLog as error:  # what is gone cannot be applied again
        image = replace(empty_image(key, point, b"", None), damage=str(error))
    return image, has_snapshot


def _extend(image: LogImage, key: bytes, commit: LogPoint, active: list[Any] | None) -> LogImage:
    """`image`, brought up to the checkpoint. A snapshot file may be older than the checkpoint: it is not
    written again when only the last segment has grown. It may be newer: the next checkpoint was begun and not
    finished."""
    if image.key != key:
        raise DamagedLog("the snapshot file is that of another group")
    if image.commit.index >= commit.index:
        return image
    if active is None or not image.segments or image.segments[-1].base_offset != active[0]:
        raise DamagedLog(f"the snapshot file is too old: it ends at entry {image.commit.index}")
    return replace(image, commit=commit, segments=[*image.segments[:-1], SegmentExtent(*active)])


def _tidy(context: LogContext, folder: str, image: LogImage) -> str | None:
    """Cut the last segment to its size, and remove files that the image does not name. Returns which of the
    named files cannot be opened; None when all can. A file that is missing or short is no damage of the log:
    the log still knows which entries it has, and a reader finds that their bytes are gone and has them
    repaired."""
    disk = context.disk
    expected = {segment.file_name: segment.size for segment in image.segments}
    active = image.segments[-1].file_name if image.segments else ""
    damage = None
    for name, size in expected.items():
        path = f"{folder}/{name}.log"
        try:
            file = disk.open(path, create=True)
            actual = file.size()
        except OSError as error:
            refuse_if_not_the_disks(path, error)
            damage = damage or f"{path}: {error}"
            continue
        if name == active and actual > size:
            with context.health:
                file.truncate(size)
    for name in disk.listdir(folder):
        if name != SNAPSHOT_NAME and name.rpartition(".")[0] not in expected:
            try:
                with context.health:
                    disk.unlink(f"{folder}/{name}")
            except FileRefused as error:
                damage = damage or str(error)
    return damage


_LIST_OF_TWO: Final = 0x82


class _Replay:
    """Applies the WAL's records to the logs, in order.

    A log's snapshot file may be newer than the checkpoint from which the replay starts. Then the file has the
    committed entries of the older records already, and they are not appended again. It does not have the
    uncommitted tail of that time. So from the older records the replay only gathers the entries that were the
    tail when the file was taken (`_tails`), and appends those.
    """

    def __init__(self, context: LogContext) -> None:
        self._context = context
        self._disk: Disk = context.disk
        self.logs: dict[GroupKey, GroupLog] = {}
        self._taken_at: dict[GroupKey, int] = {}
        self._tails: dict[GroupKey, list[Entry]] = {}
        self._committed: dict[GroupKey, int] = {}
        self._gathering: dict[GroupKey, GroupLog] = {}
        self._gathered_bytes = 0
        self._log_starts: dict[GroupKey, Offset] = {}

    def add(self, log: GroupLog, taken_at: int) -> None:
        """A log to start from. It includes all records before WAL block `taken_at`, but for its tail
        there."""
        self.logs[log.key] = log
        self._taken_at[log.key] = taken_at

    def apply(self, sequence: int, head: RecordHead, payload: memoryview) -> None:
        kind, key = RecordKind(head.kind), GroupKey(head.key)
        if kind is RecordKind.CHECKPOINT:
            return
        if kind is RecordKind.CREATE:
            self._create(key, head, payload)
            return
        log = self.logs.get(key)
        if log is None:
            raise DamagedLog(f"{kind.name} of group {key.hex()}, which does not exist")
        is_included = sequence < self._taken_at[key]
        if not is_included:
            self._end_tail(log)
        if kind not in (RecordKind.RESET, RecordKind.FILLED):
            self._committed[key] = max(self._committed.get(key, 0), head.commit)
        match kind:
            case RecordKind.ENTRY if is_included:
                tail = self._tails[key] = [
                    entry for entry in self._tails.get(key, ()) if entry.index < head.index
                ]
                if head.index > log.commit_index:
                    tail.append(_entry(head, payload))
            case RecordKind.TRUNCATE if is_included:
                self._tails[key] = [entry for entry in self._tails.get(key, ()) if entry.index < head.index]
            case RecordKind.ENTRY:
                self._append(log, _entry(head, payload))
            case RecordKind.HARD_STATE:
                vote = None if head.index < 0 else BrokerId(head.index)
                log.promises.hard_state = HardState(Term(head.term), vote)
            case RecordKind.TRUNCATE:
                log.truncate_from(RaftIndex(head.index))
            case RecordKind.RESET:
                self._reset(log, head, payload)
            case RecordKind.FILLED:
                self._go_on_with(log, head, payload)
            case RecordKind.DELETE:
                log.close()
                del self.logs[key]
                self._forget(key)
                self._remove(log.dirname)
            case RecordKind.MAY_LACK:
                log.promises.may_lack = bool(head.index)
            case RecordKind.LOG_START:
                # Set at the end: the entries up to it must be committed again first.
                self._log_starts[key] = Offset(head.base_offset)

    def _remove(self, dirname: str) -> None:
        with self._context.health:
            self._disk.rmtree(f"{self._context.root}/{dirname}")

    def _create(self, key: GroupKey, head: RecordHead, payload: memoryview) -> None:
        name, membership = _made(payload)
        dirname = possible_name(name)
        self._remove(dirname)  # its files are written again from the WAL
        self.add(GroupLog(self._context, dirname, new_image(key, _point(head), membership)), 0)

    def _reset(self, log: GroupLog, head: RecordHead, payload: memoryview) -> None:
        name, state, membership = cbor2.loads(payload)
        dirname = possible_name(name)
        self._remove(log.dirname)
        self._remove(dirname)
        log.go_on_in(dirname, empty_image(log.key, _point(head), state, entry_from_cbor(membership)))
        self._forget(log.key)
        self.add(log, 0)

    def _go_on_with(self, log: GroupLog, head: RecordHead, payload: memoryview) -> None:
        """The folder was complete before the record was. Its snapshot file may be newer, as in `_load`; and a
        record that comes later may have had the folder removed."""
        (dirname,) = cbor2.loads(payload)
        if log.dirname != dirname:
            self._remove(log.dirname)
        image, has_snapshot = _read(self._context, dirname, log.key, _point(head), None)
        log.go_on_in(dirname, image, has_snapshot=has_snapshot)
        self._forget(log.key)
        self.add(log, image.wal_sequence)

    def _forget(self, key: GroupKey) -> None:
        for about in (self._committed, self._log_starts, self._tails, self._taken_at, self._gathering):
            about.pop(key, None)

    def _end_tail(self, log: GroupLog) -> None:
        """The replay has reached the snapshot file: the tail that it gathered is complete."""
        for entry in self._tails.pop(log.key, ()):
            self._append(log, entry)

    def _append(self, log: GroupLog, entry: Entry) -> None:
        committed = max(self._committed.get(log.key, 0), log.commit_index)
        if not committed < entry.index <= log.last_index + 1:
            raise DamagedLog(f"entry {entry.index} does not fit {log!r}")
        log.truncate_from(entry.index)
        log.append_entries((entry,))
        self._gathering[log.key] = log
        self._gathered_bytes += len(entry.payload)
        if committed - log.commit_index >= COMMIT_EVERY:
            self._commit(log, committed)
        if self._gathered_bytes >= GATHERED_MAX:
            self._commit_gathered()

    def _commit_gathered(self) -> None:
        for key, log in self._gathering.items():
            self._commit(log, max(self._committed.get(key, 0), log.commit_index))
        self._gathering.clear()
        self._gathered_bytes = 0

    def _commit(self, log: GroupLog, committed: int) -> None:
        log.entries.note_written()
        log.entries.note_synced()
        log.commit_to(RaftIndex(min(committed, log.last_index)))

    def finish(self) -> None:
        for key, log in self.logs.items():
            self._end_tail(log)
            self._commit(log, self._committed.get(key, 0))
            log.retention.delete_before(self._log_starts.get(key, Offset(0)))


def _point(head: RecordHead) -> LogPoint:
    return LogPoint(RaftIndex(head.index), Term(head.term), Offset(head.base_offset))


def _entry(head: RecordHead, payload: memoryview) -> Entry:
    return Entry(
        RaftIndex(head.index),
        Term(head.term),
        EntryKind(head.entry_kind),
        bytes(payload),  # a copy, or one small entry would keep its whole block in memory
        Offset(head.base_offset),
        Offset(head.next_offset),
    )


def _made(payload: memoryview) -> tuple[str, bytes]:
    """The folder of a log that was made, and its first members. The first builds wrote the folder alone, as
    text: no name begins with the byte of a list of two."""
    if payload[0] == _LIST_OF_TWO:
        name, membership = cbor2.loads(payload)
        return name, membership
    return bytes(payload).decode(), b""
