"""All logs of one broker on one disk. (Signatures; the bodies follow.)

The driver's turn:

    if store.has_pending:
        ticket = store.write()        # one pwritev of everything pending of all groups
        ticket.sync()                 # one fdatasync; blocking, may run in a worker thread
        store.synced(ticket)          # the logs' synced_index moves
    if store.checkpoint_due:
        job = store.begin_checkpoint()
        job.run()                     # blocking, in a worker thread, while turns go on
        store.finish_checkpoint(job)  # makes something pending

One ticket at a time: what arrives while one is being synced goes out together with the next write. Only
so does a later block on the disk prove that an earlier one had been acknowledged.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from raftlog.storage.disk import Disk
from raftlog.storage.entry import EMPTY_START, LogStart
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Bounds and sizes, in bytes unless the name says otherwise."""

    node_id: BrokerId
    cluster_id: str | None = None
    wal_file_bytes: int = 64 * MIB
    checkpoint_bytes: int = 128 * MIB
    recent_bytes_max: int = 64 * MIB
    open_files_max: int = 256
    segment_bytes: int = 1024 * MIB
    roll_ms: int = 7 * 24 * 3600 * 1000
    index_interval_bytes: int = 4096
    fsync: bool = True


class WriteTicket:
    """One write of the WAL that waits for its sync."""

    def sync(self) -> None:
        """Block until the write is durable. Raises DiskFailed, which is final. Thread-safe."""
        raise NotImplementedError


class CheckpointJob:
    def run(self) -> None:
        """Sync segments and write snapshot files. Blocking; thread-safe beside turns of the store."""
        raise NotImplementedError


class Store:
    """The storage of one broker. Not thread-safe but for what says so."""

    logs: dict[GroupKey, GroupLog]
    node_id: BrokerId
    cluster_id: str | None

    @classmethod
    def open(
        cls, disk: Disk, root: str, settings: StoreSettings, *, rng: random.Random | None = None
    ) -> Store:
        """Lock the folder, create or check meta.toml, recover all logs.

        Raises DataDirBusy, ConfigError (the folder belongs to another node or cluster), DamagedLog (the
        write-ahead log is damaged in what was acknowledged), DiskFailed."""
        raise NotImplementedError

    def create_log(self, key: GroupKey, dirname: str, *, start: LogStart = EMPTY_START) -> GroupLog:
        """A new group's log, at once usable; pending like an entry."""
        raise NotImplementedError

    def delete_log(self, key: GroupKey) -> None:
        """Drop a group and its files; the log must not be used any more. Pending like an entry; slices that
        were read from it stay valid."""
        raise NotImplementedError

    @property
    def has_pending(self) -> bool:
        raise NotImplementedError

    def write(self) -> WriteTicket:
        """Write what is pending of all groups as one block. has_pending must be true and the ticket
        before must have been `synced`."""
        raise NotImplementedError

    def synced(self, ticket: WriteTicket) -> None:
        """After ticket.sync() returned: what it wrote counts as durable. On the loop's thread."""
        raise NotImplementedError

    @property
    def checkpoint_due(self) -> bool:
        """True when a checkpoint should be begun; False while one runs."""
        raise NotImplementedError

    def begin_checkpoint(self) -> CheckpointJob:
        raise NotImplementedError

    def finish_checkpoint(self, job: CheckpointJob) -> None:
        """After job.run() returned. Makes a record pending; WAL files are reused once that is synced."""
        raise NotImplementedError

    def set_cluster_id(self, cluster_id: str) -> None:
        """Write the cluster's id into meta.toml, once. Blocking (fsync)."""
        raise NotImplementedError

    def close(self) -> None:
        """Sync what is pending, checkpoint, release the lock. No-op after a failure but for the lock."""
        raise NotImplementedError

    def statistics(self) -> dict[str, int]:
        raise NotImplementedError
