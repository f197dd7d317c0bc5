"""All logs of one broker on one disk.

The driver's turn:

    if store.has_pending:
        ticket = store.write()        # one block of everything pending of all groups
        ticket.sync()                 # one pwritev, one fdatasync; blocking, may run in a worker thread
        store.synced(ticket)          # the logs' synced_index moves
    if store.checkpoint_due:
        job = store.begin_checkpoint()
        job.run()                     # blocking, in a worker thread, while turns go on
        store.finish_checkpoint(job)  # makes something pending

One ticket at a time: what arrives while one is being synced goes out together with the next write. Only
so does a later block on the disk prove that an earlier one had been acknowledged. A checkpoint starts at
a point where nothing is pending, right behind a write; the uncommitted tails of all logs follow it there
once more, so that nothing before it is needed when it is done.

Nothing here is async, reads a clock or starts a thread.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from typing import Final

import cbor2

from raftlog.errors import ConfigError, DamagedLog, FileRefused
from raftlog.storage import wal_recovery
from raftlog.storage.aside import Aside
from raftlog.storage.checkpoint import CheckpointJob
from raftlog.storage.committed import LogLimits
from raftlog.storage.disk import Disk, File, Health, refuse_if_not_the_disks
from raftlog.storage.entry import LOG_BEGIN, LogPoint
from raftlog.storage.folder_names import short_name
from raftlog.storage.group_log import GroupLog, LogContext
from raftlog.storage.meta import LOCK_NAME, META_NAME, SCRATCH_NAME, WAL_NAME, Meta, read_meta, write_meta
from raftlog.storage.recent import RecentEntries
from raftlog.storage.recovery import recover
from raftlog.storage.segment_pool import SegmentPool
from raftlog.storage.snapshot import new_image
from raftlog.storage.wal import Wal, WalBlock
from raftlog.storage.wal_format import RecordKind
from raftlog.types import GROUP_KEY_SIZE, BrokerId, GroupKey

MIB: Final = 1 << 20

_NO_GROUP: Final = GroupKey(bytes(GROUP_KEY_SIZE))
_RESERVED: Final = frozenset((WAL_NAME, META_NAME, LOCK_NAME, SCRATCH_NAME, "", ".", ".."))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Bounds and sizes, in bytes unless the name says otherwise."""

    node_id: BrokerId
    cluster_id: str | None = None
    """None: whatever the folder says; see `Store.set_cluster_id`."""
    founders: frozenset[BrokerId] = frozenset()
    """Noted in a folder that is made."""
    wal_file_bytes: int = 64 * MIB
    checkpoint_bytes: int = 128 * MIB
    """WAL bytes after which a checkpoint is due; what a restart after a crash has to replay."""
    recent_bytes_max: int = 64 * MIB
    """Committed entries in memory, over all logs: how far a follower may be behind before it is
    served from the disk."""
    open_files_max: int = 512
    """Segments open for use; as many again may wait for a checkpoint that is under way."""
    segment_bytes: int = 1024 * MIB
    roll_ms: int = 7 * 24 * 3600 * 1000
    index_interval_bytes: int = 4096
    fsync: bool = True
    """False: only checkpoints are synced; a power loss may cost what was acknowledged since."""


class WriteTicket:
    """One block of the WAL on its way to the disk."""

    __slots__ = ("_wal", "abandoned", "block", "is_synced", "job", "logs")

    def __init__(
        self,
        wal: Wal,
        block: WalBlock,
        logs: dict[GroupLog, None],
        abandoned: list[str],
        job: CheckpointJob | None,
    ) -> None:
        self._wal = wal
        self.block, self.logs, self.abandoned, self.job = block, logs, abandoned, job
        self.is_synced = False

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self.block.seal_position - self.block.position

    def write(self) -> None:
        """What `sync` does first. Raises DiskFailed."""
        self._wal.put(self.block)

    def sync(self) -> None:
        """Write the block, and wait until it is durable. Raises DiskFailed, which is final. Safe in a worker
        thread, and so is abandoning it: call it again."""
        self._wal.sync(self.block)
        self.is_synced = True


class Store:
    """The storage of one broker. Made by `open`; not thread-safe but for what says so."""

    def __init__(
        self, disk: Disk, root: str, settings: StoreSettings, health: Health, lock: File, meta: Meta
    ) -> None:
        self._disk, self._root, self._settings, self._health = disk, root, settings, health
        self._lock, self._meta = lock, meta
        self._wal = Wal(
            disk,
            f"{root}/{WAL_NAME}",
            health,
            meta.wal_id,
            file_bytes=settings.wal_file_bytes,
            fsync=settings.fsync,
        )
        self._pool = SegmentPool(disk, health, settings.open_files_max)
        limits = LogLimits(
            segment_bytes=settings.segment_bytes,
            roll_ms=settings.roll_ms,
            index_interval_bytes=settings.index_interval_bytes,
        )
        recent = RecentEntries(settings.recent_bytes_max)
        self._context = LogContext(
            disk, root, health, self._wal, self._pool, recent, limits, {}, [], self._new_dirname
        )
        self.logs: dict[GroupKey, GroupLog] = {}
        self._names: set[str] = set()
        self._trash: list[str] = []
        self.aside = Aside(
            disk,
            root,
            health,
            settings.index_interval_bytes,
            self._new_dirname,
            lambda dirname: self._trash.append(dirname),
        )
        self._ticket: WriteTicket | None = None
        self._job: CheckpointJob | None = None
        self._is_job_taken = False
        self._job_waits_for: WriteTicket | None = None
        self._recording: CheckpointJob | None = None
        self._checkpoint_at = 0
        self._is_closed = False

    @classmethod
    def open(
        cls, disk: Disk, root: str, settings: StoreSettings, *, rng: random.Random | None = None
    ) -> Store:
        """Lock the folder, create or check meta.toml, recover all logs. Blocking.

        Raises DataDirBusy, ConfigError (the folder belongs to another node or cluster), DamagedLog (the
        write-ahead log is damaged in what was acknowledged), FileRefused (a file is not ours to open, say),
        DiskFailed. `rng` gives the WAL its id.
        """
        health = Health()
        with health:
            disk.mkdir(root)
            lock = disk.lock(f"{root}/{LOCK_NAME}")
        try:
            meta = read_meta(disk, root)
            is_new = meta is None
            if meta is None:
                wal_id = (rng or random.SystemRandom()).getrandbits(64)
                meta = Meta(
                    node_id=settings.node_id,
                    cluster_id=settings.cluster_id,
                    wal_id=wal_id,
                    is_rejoining=True,
                    founders=settings.founders,
                )
            meta.check(root, settings.node_id, settings.cluster_id)
            store = cls(disk, root, settings, health, lock, meta)
            if is_new:
                store._format()
            else:
                store._recover()
                if meta.cluster_id is None and settings.cluster_id is not None:
                    store.set_cluster_id(settings.cluster_id)
        except BaseException:
            lock.close()
            raise
        return store

    def _format(self) -> None:
        """Make an empty store. meta.toml comes last: without it nothing else counts."""
        folder = f"{self._root}/{WAL_NAME}"
        _refuse_orphans(self._disk, self._root, folder)
        with self._health:
            self._disk.rmtree(folder)
            self._disk.mkdir(folder)
        self._prepare_checkpoint()
        self._finish_now(self.begin_checkpoint())
        with self._health:
            self._disk.sync_dir(folder)
            self._disk.sync_dir(os.path.dirname(self._root) or ".")
            write_meta(self._disk, self._root, self._meta)

    def _recover(self) -> None:
        folder = f"{self._root}/{WAL_NAME}"
        try:
            scan = wal_recovery.scan(self._disk, folder, self._meta.wal_id)
        except OSError as error:
            refuse_if_not_the_disks(error.filename or folder, error)
            raise DamagedLog(f"{folder}: {error}") from error
        if scan is None:
            raise DamagedLog(f"{folder}: the write-ahead log is missing. {wal_recovery.REMEDY}")
        with self._health:
            self._disk.rmtree(f"{self._root}/{SCRATCH_NAME}")
            self._disk.sync_dir(self._root)  # meta.toml may have been renamed by a process that died then
        wal_recovery.resume(self._wal, scan, self._disk, folder, self._health, self._meta.wal_id)
        self.logs.update(recover(self._context, scan))
        self._names.update(log.dirname for log in self.logs.values())
        self._checkpoint_at = -sum(block.header.size for block in scan.blocks)

    def __repr__(self) -> str:
        return f"<Store {self._root} node={self.node_id} logs={len(self.logs)}>"

    @property
    def node_id(self) -> BrokerId:
        return self._meta.node_id

    @property
    def cluster_id(self) -> str | None:
        return self._meta.cluster_id

    def set_cluster_id(self, cluster_id: str) -> None:
        """Write the cluster's id into meta.toml, once. Blocking (fsync). Raises ConfigError when the folder
        belongs to another cluster."""
        self._meta.check(self._root, self.node_id, cluster_id)
        if self._meta.cluster_id is None:
            self._write_meta(replace(self._meta, cluster_id=cluster_id))

    @property
    def disk(self) -> Disk:
        return self._disk

    @property
    def root(self) -> str:
        """The data folder."""
        return self._root

    @property
    def founders(self) -> frozenset[BrokerId]:
        """The brokers that founded the cluster; none where that has not been noted."""
        return self._meta.founders

    def set_founders(self, founders: frozenset[BrokerId]) -> None:
        """Note who founded the cluster. Blocking (fsync) when that is news."""
        if self._meta.founders != founders:
            self._write_meta(replace(self._meta, founders=founders))

    @property
    def is_rejoining(self) -> bool:
        """Whether the folder was made empty, and logs that are made now may have been here before it was."""
        return self._meta.is_rejoining

    def set_rejoined(self) -> None:
        """All groups that may have been here before have a log, and it holds what it should. Blocking
        (fsync)."""
        if self._meta.is_rejoining:
            self._write_meta(replace(self._meta, is_rejoining=False))

    def _write_meta(self, meta: Meta) -> None:
        with self._health:
            write_meta(self._disk, self._root, meta)
        self._meta = meta

    def create_log(
        self,
        key: GroupKey,
        dirname: str,
        *,
        start: LogPoint = LOG_BEGIN,
        membership: bytes = b"",
        may_lack: bool = False,
    ) -> GroupLog:
        """A new group's log, at once usable; pending like an entry. Its folder gets `dirname`, cut where that
        is too long (`folder_names`), or that and a suffix while an older folder of the name is still there.
        `membership` is who is in the group before an entry says otherwise: the payload of a MEMBERSHIP entry
        that stands before the first one.
        `may_lack`: this broker may have had a log of the group before."""
        self._health.check()
        if key in self.logs:
            raise ValueError(f"group {key.hex()} has a log already: {self.logs[key]!r}")
        if "/" in dirname or "~" in dirname or "\0" in dirname or dirname in _RESERVED:
            raise ValueError(f"{dirname!r} cannot be a log's folder")
        dirname = self._new_dirname(dirname)
        self._wal.add(
            RecordKind.CREATE,
            key,
            index=start.index,
            term=start.term,
            offset=start.offset,
            payload=cbor2.dumps([dirname, membership]),
        )
        image = new_image(key, start, membership)
        log = self.logs[key] = GroupLog(self._context, dirname, image)
        self._context.touched[log] = None
        log.promises.may_lack = may_lack
        return log

    def _new_dirname(self, dirname: str) -> str:
        base = short_name(dirname.partition("~")[0])
        name, number = base, 1
        while name in self._names or self._disk.exists(f"{self._root}/{name}"):
            number += 1
            name = f"{base}~{number}"
        self._names.add(name)
        return name

    def delete_log(self, key: GroupKey) -> None:
        """Drop a group and, later, its files; the log must not be used any more. Pending like an entry;
        slices that were read from it stay valid."""
        self._health.check()
        log = self.logs.pop(key)
        log.close()
        self._context.touched.pop(log, None)
        self._wal.add(RecordKind.DELETE, key)
        self._context.abandoned.append(log.dirname)

    @property
    def has_pending(self) -> bool:
        return self._wal.pending_count > 0

    def write(self) -> WriteTicket:
        """Put what is pending of all groups into one block. `has_pending` must be true and the ticket
        before must have been `synced`. Raises DiskFailed."""
        assert self._ticket is None, "one ticket at a time"
        assert self._wal.pending_count, "nothing is pending"
        context = self._context
        try:
            block = self._wal.write()
        except FileRefused:
            self._pool.relieve()
            block = self._wal.write()
        logs, context.touched = context.touched, {}
        for log in logs:
            log.entries.note_written()
        abandoned, context.abandoned = context.abandoned, []
        recording, self._recording = self._recording, None
        ticket = self._ticket = WriteTicket(self._wal, block, logs, abandoned, recording)
        if self._wants_checkpoint():
            self._prepare_checkpoint()
        return ticket

    def synced(self, ticket: WriteTicket) -> None:
        """After ticket.sync() returned: what it wrote counts as durable. On the loop's thread."""
        assert ticket is self._ticket and ticket.is_synced
        self._ticket = None
        if self._job_waits_for is ticket:
            self._job_waits_for = None
        for log in ticket.logs:
            log.entries.note_synced()
        self._trash += ticket.abandoned
        if ticket.job is not None:
            self._wal.release_before(ticket.job.start_sequence)
            self._names.difference_update(ticket.job.trash)
            self._job = None

    def _wants_checkpoint(self) -> bool:
        if self._job is not None:
            return False
        written = self._wal.bytes_written - self._checkpoint_at
        return (
            written >= self._settings.checkpoint_bytes
            or bool(self._trash)
            or self._context.has_garbage
            or self._pool.is_crowded
        )

    def _prepare_checkpoint(self) -> None:
        """Capture the logs as they are. Nothing is pending now, so the block written next is where a replay
        can start: it, or one behind it, brings all uncommitted tails."""
        assert not self._wal.pending_count and self._job is None
        start = self._wal.next_sequence
        job = CheckpointJob(disk=self._disk, root=self._root, health=self._health, start_sequence=start)
        job.lines = [log.saved.capture(job) for log in self.logs.values()]
        job.trash, self._trash = self._trash, []
        job.surplus = self._wal.take_surplus()
        self._context.has_garbage = False
        self._checkpoint_at = self._wal.bytes_written
        self._job, self._is_job_taken = job, False
        # What the job writes says that it stands on the blocks up to here, so they must not get lost.
        self._job_waits_for = self._ticket
        for log in self.logs.values():
            for entry in log.entries.uncommitted():  # the files of the WAL before them are to be reused
                self._wal.add_entry(log.key, entry, log.commit_index)

    @property
    def checkpoint_due(self) -> bool:
        """True when a checkpoint should be begun; False while one runs."""
        if self._job is not None:
            return not self._is_job_taken and self._job_waits_for is None
        idle = not self._wal.pending_count and self._ticket is None and self._health.failure is None
        return idle and self._wants_checkpoint()

    def begin_checkpoint(self) -> CheckpointJob:
        """The checkpoint that is due, for its `run`, which may take as long as the disk wants. Also when
        none is due, as long as nothing is pending or being synced."""
        if self._job is None:
            assert self._ticket is None, "what a checkpoint stands on must be durable before it is run"
            self._prepare_checkpoint()
        assert self._job is not None and not self._is_job_taken and self._job_waits_for is None
        self._is_job_taken = True
        return self._job

    def finish_checkpoint(self, job: CheckpointJob) -> None:
        """After job.run() returned. Makes a record pending; WAL files are reused once that is synced."""
        assert job is self._job and job.is_done
        self._wal.add(RecordKind.CHECKPOINT, _NO_GROUP, payload=job.record)
        self._recording = job

    def _flush(self) -> None:
        """Make everything pending durable, here and now."""
        if self._ticket is not None:
            self._ticket.sync()
            self.synced(self._ticket)
        while self.has_pending:
            ticket = self.write()
            ticket.sync()
            self.synced(ticket)

    def _finish_now(self, job: CheckpointJob) -> None:
        if not job.is_done:
            job.run()
        self.finish_checkpoint(job)
        self._flush()

    def close(self) -> None:
        """Sync what is pending, checkpoint so that the next start is fast, release the lock. Blocking.

        No sync or checkpoint may be running in a thread; one that was begun is done here. After a failure
        of the disk it only lets go: the next start recovers. Calling it again does nothing.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._health.failure is None:
                self._flush()
                if self._job is not None:
                    self._finish_now(self._job)
                self._finish_now(self.begin_checkpoint())
        finally:
            for log in self.logs.values():
                log.close()
            self._wal.close()
            self._lock.close()

    def forget_some(self) -> bool:
        """Let go of some committed entries that logs hold in memory, oldest first: their memory is needed.
        False when there are none."""
        return self._context.recent.forget_some()

    def statistics(self) -> dict[str, int]:
        """Counts and bytes, for metrics."""
        return {
            "logs": len(self.logs),
            "damaged_logs": sum(log.damage.problem is not None for log in self.logs.values()),
            "wal_files": self._wal.file_count,
            "wal_bytes_since_checkpoint": self._wal.bytes_written - self._checkpoint_at,
            "wal_bytes_written": self._wal.bytes_written,
            "pending_bytes": self._wal.pending_bytes,
            "recent_bytes": self._context.recent.size,
            "open_segments": len(self._pool),
            "unsynced_segments": self._pool.unsynced_count,
        }


def _refuse_orphans(disk: Disk, root: str, folder: str) -> None:
    """Without meta.toml the folder must be empty, or a creation that was interrupted."""
    if not disk.exists(folder):
        return
    for name in disk.listdir(folder):
        file = disk.open(f"{folder}/{name}")
        for _, header, _ in wal_recovery.scan_headers(file, file.size(), None):
            if header is not None and header.sequence > 1:
                raise ConfigError(f"{root}: {META_NAME} is missing although there is data; restore it")
