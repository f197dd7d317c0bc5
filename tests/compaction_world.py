"""A log on a virtual disk that is compacted: small segments, and passes run here and now."""

from __future__ import annotations

import random
from typing import Any

from raftlog.records.batch import stamp
from raftlog.records.record import NewRecord, encode_batch
from raftlog.storage.cleaning import Cleanable, CleaningLimits
from raftlog.storage.compaction.cleaner import clean
from raftlog.storage.compaction.job import CleaningResult
from raftlog.storage.entry import EntryKind
from raftlog.storage.filling import DESCRIPTION, Copy, Filling, Part
from raftlog.storage.group_log import GroupLog
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, RaftIndex, Term, group_key
from tests.sim.virtual_disk import VirtualDisk

KEY = group_key(b"t" * 16, 0)
FOREVER = 1 << 60
PART_BYTES = 100


class World:
    """One log on a virtual disk, with segments of a few batches."""

    def __init__(self, seed: int = 1) -> None:
        self.disk = VirtualDisk(random.Random(seed))
        self.passes = 0
        self.store = self.open()
        self.log = self.store.create_log(KEY, "t-0.x")

    def open(self) -> Store:
        settings = StoreSettings(
            node_id=BrokerId(1), wal_file_bytes=64 << 10, segment_bytes=300, index_interval_bytes=100
        )
        return Store.open(self.disk, "/data", settings, rng=random.Random(1))

    def reopen(self) -> None:
        """The process ends as it stands, and another one begins."""
        self.disk.kill()
        self.store = self.open()
        self.log = self.store.logs[KEY]

    def put(self, key: bytes, value: bytes | None, term: int = 1) -> int:
        data = encode_batch([NewRecord(1000 + self.log.log_end_offset, key, value)])
        stamp(data, self.log.log_end_offset, term)
        return self.log.append(Term(term), EntryKind.BATCH, data, 1).base_offset

    def command(self, term: int = 1, kind: EntryKind = EntryKind.NOOP) -> int:
        return self.log.append(Term(term), kind, b"x", 0).index

    def flush(self) -> None:
        while self.store.has_pending:
            ticket = self.store.write()
            ticket.sync()
            self.store.synced(ticket)

    def checkpoint(self) -> None:
        self.flush()
        job = self.store.begin_checkpoint()
        job.run()
        self.store.finish_checkpoint(job)
        self.flush()

    def commit(self) -> None:
        """Everything, and the state is saved there."""
        self.flush()
        self.log.commit_to(self.log.last_index)
        self.log.saved.save(b"state", self.log.commit_index)

    def find(self, **changes: Any) -> Cleanable:
        limits = {"offset": self.log.high_watermark, "index": self.log.saved.index, "newest_ms": FOREVER}
        return self.log.cleaning.find(CleaningLimits(**(limits | changes)))

    def run_pass(self, found: Cleanable, **changes: Any) -> CleaningResult:
        rest: dict[str, Any] = {"purge_to": 0, "aborted": [], "key_map_bytes": 1 << 20, "bytes_per_second": 0}
        self.passes += 1
        target = self.store.aside.begin_pass(f"{self.passes}")
        return clean(self.disk, self.log.cleaning.job(found, target=target, **(rest | changes)))

    def clean(self, **changes: Any) -> None:
        found = self.find()
        assert self.log.cleaning.take(found, self.run_pass(found, **changes))


def describe(copy: Copy) -> bytes:
    size = copy.description_size
    return b"".join([copy.read(Part(DESCRIPTION, at, 50)) or b"" for at in range(0, size, 50)])


def fill(world: World, copy: Copy) -> tuple[Filling, str]:
    dirname = world.store.aside.new_folder(world.log)
    filling = world.store.aside.fill(dirname, describe(copy))
    for part in filling.parts(PART_BYTES):
        data = copy.read(part)
        assert data is not None
        filling.add(part, data)
    for _ in filling.finish():
        pass
    return filling, dirname


def take(world: World, copy: Copy) -> None:
    filling, dirname = fill(world, copy)
    world.log.cleaning.go_on_with(dirname, filling.image)
    world.flush()


def follow(world: World, source: GroupLog) -> None:
    """Have what the source has behind the copy, as Raft sends it."""
    entries = source.entries.read(RaftIndex(world.log.last_index + 1), 1 << 20, 1000)
    while entries:
        world.log.append_entries(entries)
        world.flush()
        entries = source.entries.read(RaftIndex(world.log.last_index + 1), 1 << 20, 1000)
    world.log.commit_to(world.log.last_index)
