"""The real store on a virtual disk, under the interface that the Raft cluster of the tests uses."""

from __future__ import annotations

import random

from raftlog.records.batch import stamp
from raftlog.records.record import NewRecord, encode_batch
from raftlog.storage.checkpoint import CheckpointJob
from raftlog.storage.group_log import GroupLog
from raftlog.storage.store import Store, StoreSettings, WriteTicket
from raftlog.types import BrokerId, GroupKey, RaftIndex
from tests.sim.virtual_disk import VirtualDisk

SETTINGS = StoreSettings(
    node_id=BrokerId(1),
    cluster_id="c",
    wal_file_bytes=24 << 10,
    checkpoint_bytes=20 << 10,
    recent_bytes_max=4000,
    open_files_max=8,
    segment_bytes=1500,
    index_interval_bytes=150,
)


class DiskStore:
    """Small files, so that a short run rolls, checkpoints and recycles many times."""

    def __init__(self, seed: int, disk: VirtualDisk | None = None) -> None:
        self._seed = seed
        self.disk = disk if disk is not None else VirtualDisk(random.Random(seed))
        self.store = Store.open(self.disk, "/data", SETTINGS, rng=random.Random(seed))
        self.syncs = 0

    @property
    def logs(self) -> dict[GroupKey, GroupLog]:
        return self.store.logs

    def create_log(self, key: GroupKey) -> GroupLog:
        return self.store.create_log(key, "group-0")

    @property
    def has_pending(self) -> bool:
        return self.store.has_pending

    def write(self) -> WriteTicket:
        self.syncs += 1
        ticket = self.store.write()
        ticket.write()  # before the power may go: some of it may arrive
        return ticket

    def synced(self, ticket: WriteTicket) -> None:
        self.store.synced(ticket)

    @property
    def checkpoint_due(self) -> bool:
        return self.store.checkpoint_due

    def begin_checkpoint(self) -> CheckpointJob:
        return self.store.begin_checkpoint()

    def finish_checkpoint(self, job: CheckpointJob) -> None:
        self.store.finish_checkpoint(job)

    def power_loss(self) -> DiskStore:
        self.disk.power_loss()
        return DiskStore(self._seed, self.disk)


def batch_of(value: bytes, log: GroupLog, term: int) -> bytes:
    """`value` as a batch of one record, stamped to come next."""
    data = encode_batch([NewRecord(1000, None, value)])
    stamp(data, log.log_end_offset, term)
    return bytes(data)


def compact(log: GroupLog, index: RaftIndex) -> None:
    """Drop what lies before `index`, as the metadata group does."""
    if index <= log.saved.index:
        return
    log.saved.save(int(index).to_bytes(8, "big"), index, drop_before=True)
