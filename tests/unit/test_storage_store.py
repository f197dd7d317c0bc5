"""The store as a whole: identity, tickets, failures, checkpoints, WAL files."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from raftlog.errors import ConfigError, DamagedLog, DataDirBusy, DiskFailed
from raftlog.storage.disk import RealDisk
from raftlog.storage.entry import EntryKind, HardState, LogPoint
from raftlog.storage.inspect import dump_segment, dump_wal, log_folders, read_snapshot, verify
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, Offset, RaftIndex, Term, group_key
from tests.sim.virtual_disk import VirtualDisk
from tests.storage_world import all_entries, batch, expire, roll
from tests.unit.test_storage_group_log import KEY, add, checkpoint, commit_all, flush, new_log, open_store


def settings(node: int = 1, cluster: str | None = None) -> StoreSettings:
    return StoreSettings(node_id=BrokerId(node), cluster_id=cluster, wal_file_bytes=64 << 10)


def test_a_folder_belongs_to_a_node_and_a_cluster() -> None:
    disk = VirtualDisk(random.Random(1))
    store = Store.open(disk, "/data", settings())
    with pytest.raises(DataDirBusy):
        Store.open(disk, "/data", settings())
    assert store.cluster_id is None
    store.set_cluster_id("blue")
    store.set_cluster_id("blue")
    with pytest.raises(ConfigError, match="cluster blue, not to cluster red"):
        store.set_cluster_id("red")
    store.close()
    store.close()
    with pytest.raises(ConfigError, match="node 1, not to node 2"):
        Store.open(disk, "/data", settings(node=2))
    with pytest.raises(ConfigError, match="cluster blue"):
        Store.open(disk, "/data", settings(cluster="red"))
    store = Store.open(disk, "/data", settings(cluster="blue"))
    assert (store.node_id, store.cluster_id) == (1, "blue")
    assert repr(store) == "<Store /data node=1 logs=0>"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"format_version = 3\nnode_id = 1\nwal_id = '1'", ConfigError),
        (b"format_version = 1\nnode_id = 1", DamagedLog),
        (b"format_version = 1\nnode_id = 1\nwal_id = '1'", DamagedLog),
        (b"\xff\xfe", DamagedLog),
        (b"", DamagedLog),
    ],
)
def test_a_meta_file_that_is_not_ours_stops_the_start(content: bytes, error: type[Exception]) -> None:
    disk = VirtualDisk(random.Random(1))
    Store.open(disk, "/data", settings()).close()
    disk.put("/data/meta.toml", content)
    with pytest.raises(error):
        Store.open(disk, "/data", settings())


def test_data_without_its_meta_file_is_not_formatted_over() -> None:
    disk, store, log = new_log()
    add(log)
    store.close()
    disk.unlink("/data/meta.toml")
    with pytest.raises(ConfigError, match=r"meta\.toml is missing"):
        open_store(disk)


def test_a_missing_write_ahead_log_stops_the_start() -> None:
    disk, store, _ = new_log()
    store.close()
    disk.rmtree("/data/wal")
    with pytest.raises(DamagedLog):
        open_store(disk)
    disk.mkdir("/data/wal")
    with pytest.raises(DamagedLog, match="missing"):
        open_store(disk)


def test_one_turn_is_one_write_and_one_sync() -> None:
    disk, store, log = new_log()
    other = store.create_log(group_key(b"u" * 16, 0), "u-0.x")
    flush(store)
    for either in (log, other):
        either.promises.hard_state = HardState(Term(1), BrokerId(1))
        add(either)
        add(either)
    seen: list[str] = []
    disk.on_operation = lambda operation, path: seen.append(operation)
    flush(store)
    assert seen == ["write", "sync", "write"]  # the block, its sync, the seal
    assert (log.entries.synced_index, other.entries.synced_index) == (2, 2)


def test_a_block_is_written_where_its_sync_is_waited_for() -> None:
    """A busy disk holds up who writes as well as who syncs: that must not be the event loop."""
    disk, store, log = new_log()
    flush(store)
    add(log)
    seen: list[str] = []
    disk.on_operation = lambda operation, path: seen.append(operation)
    ticket = store.write()
    assert not seen
    ticket.write()
    ticket.write()
    assert seen == ["write"], "once"
    ticket.sync()
    assert seen == ["write", "sync", "write"]  # the block, its sync, the seal
    store.synced(ticket)
    assert log.entries.synced_index == 1


def test_one_ticket_at_a_time() -> None:
    _, store, log = new_log()
    ticket = store.write()
    add(log)
    with pytest.raises(AssertionError):
        store.write()
    with pytest.raises(AssertionError):
        store.synced(ticket)
    ticket.sync()
    store.synced(ticket)
    assert store.has_pending


def test_a_failed_sync_is_final_and_counts_nothing() -> None:
    disk, store, log = new_log()
    flush(store)
    add(log)
    ticket = store.write()
    disk.fail_next("sync")
    with pytest.raises(DiskFailed):
        ticket.sync()
    with pytest.raises(DiskFailed):
        ticket.sync()  # a second one would succeed, and mean nothing
    with pytest.raises(AssertionError):
        store.synced(ticket)
    assert log.entries.synced_index == 0
    assert not store.checkpoint_due
    with pytest.raises(DiskFailed):
        add(log)
    store.close()
    disk.power_loss()
    assert open_store(disk).logs[KEY].last_index == 0


def test_what_a_failed_sync_left_in_the_cache_is_written_again_at_the_next_start() -> None:
    disk, store, log = new_log()
    flush(store)
    add(log)
    ticket = store.write()
    disk.fail_next("sync")
    with pytest.raises(DiskFailed):
        ticket.sync()
    disk.kill()
    found = open_store(disk).logs[KEY]
    assert found.entries.synced_index == found.last_index == 1  # so it must not get lost any more
    disk.power_loss()
    assert open_store(disk).logs[KEY].last_index == 1


def test_a_full_disk_is_final() -> None:
    disk, store, log = new_log()
    flush(store)
    disk.capacity = disk.used
    with pytest.raises(DiskFailed, match="No space"):
        while True:
            add(log, size=10_000)
            flush(store)
    synced = log.entries.synced_index
    disk.power_loss()
    disk.capacity = None
    assert open_store(disk).logs[KEY].last_index == synced


def test_a_failed_checkpoint_is_final_and_loses_nothing() -> None:
    disk, store, log = new_log()
    for _ in range(5):
        add(log)
    commit_all(store, log)
    flush(store)
    job = store.begin_checkpoint()
    disk.fail_next("sync", where=lambda path: path.endswith(".log"))
    with pytest.raises(DiskFailed):
        job.run()
    with pytest.raises(AssertionError):
        store.finish_checkpoint(job)
    expected = [entry.payload for entry in log.entries.memory]
    disk.power_loss()
    assert [entry.payload for entry in all_entries(open_store(disk).logs[KEY])] == expected


def test_wal_files_are_reused_after_a_checkpoint() -> None:
    disk, store, log = new_log(checkpoint_bytes=128 << 10)
    for number in range(200):
        add(log, size=4000)
        commit_all(store, log)
        if store.checkpoint_due:
            checkpoint(store)
        if number == 100:
            files = disk.files("/data/wal")
    assert disk.files("/data/wal") == files
    assert len(files) <= 5
    assert all(len(disk.content(path)) == 64 << 10 for path in files)
    add(log, size=200_000)  # a block larger than a file gets one of its own
    commit_all(store, log)
    flush(store)
    assert max(len(disk.content(path)) for path in disk.files("/data/wal")) > 200_000
    disk.power_loss()
    store = open_store(disk)
    assert store.logs[KEY].last_index == 201
    store.logs[KEY].commit_to(RaftIndex(201))
    checkpoint(store)
    removed: list[str] = []
    disk.on_operation = lambda operation, path: removed.append(path) if operation == "unlink" else None
    job = store.begin_checkpoint()
    assert not removed, "the file system takes long for it"
    job.run()
    store.finish_checkpoint(job)
    assert any("/wal/" in path for path in removed)
    flush(store)
    assert max(len(disk.content(path)) for path in disk.files("/data/wal")) == 64 << 10


def test_an_uncommitted_tail_outlives_the_files_it_was_written_to() -> None:
    disk, store, log = new_log()
    entries = [add(log, term=number) for number in range(1, 4)]
    flush(store)
    log.commit_to(RaftIndex(1))
    log.promises.hard_state = HardState(Term(7), BrokerId(3))
    checkpoint(store)
    first = next(iter(dump_wal(disk, "/data"))).sequence
    assert first > 2
    disk.power_loss()
    log = open_store(disk).logs[KEY]
    assert [entry.payload for entry in all_entries(log)] == [bytes(entry.payload) for entry in entries]
    assert (log.commit_index, log.promises.hard_state) == (1, HardState(Term(7), BrokerId(3)))


def test_a_checkpoint_does_not_run_before_what_it_stands_on_is_durable() -> None:
    _, store, log = new_log(checkpoint_bytes=1)
    add(log)
    ticket = store.write()
    assert not store.checkpoint_due
    ticket.sync()
    store.synced(ticket)
    assert store.checkpoint_due
    job = store.begin_checkpoint()
    assert not store.checkpoint_due
    job.run()
    store.finish_checkpoint(job)
    assert store.has_pending
    flush(store)
    assert store.statistics()["damaged_logs"] == 0


def test_files_that_a_running_checkpoint_will_need_are_not_reused() -> None:
    disk, store, log = new_log()
    add(log)
    flush(store)
    job = store.begin_checkpoint()
    for _ in range(40):  # over several files
        add(log)
        flush(store)
    job.run()
    store.finish_checkpoint(job)
    for _ in range(40):
        flush(store)
        add(log)
    flush(store)
    disk.power_loss()
    assert len(all_entries(open_store(disk).logs[KEY])) == 81


def lost_power(seed: int, *, kept: str) -> VirtualDisk:
    """A disk whose generator keeps all or none of what was not synced, whatever it is asked."""
    disk = VirtualDisk(random.Random(seed))
    disk.rng = Mood(kept)
    return disk


class Mood(random.Random):
    """Always the same mood."""

    def __init__(self, mood: str) -> None:
        super().__init__(1)
        self._mood = mood

    def choice(self, seq: Any) -> Any:
        return self._mood if self._mood in seq else super().choice(seq)


def test_a_wal_file_whose_maker_died_gets_its_name_synced() -> None:
    disk = lost_power(1, kept="none")
    store = open_store(disk)
    log = store.create_log(KEY, "t-0.x")
    while len(disk.files("/data/wal")) == 1:
        add(log, size=9000)
        ticket = store.write()
        ticket.write()
        if len(disk.files("/data/wal")) == 1:
            ticket.sync()
        store.synced(ticket) if ticket.is_synced else disk.kill()
    log = open_store(disk).logs[KEY]
    synced = log.entries.synced_index
    disk.power_loss()
    assert open_store(disk).logs[KEY].last_index == synced


def test_a_snapshot_file_whose_writer_died_is_written_again() -> None:
    disk = lost_power(1, kept="none")
    store = open_store(disk)
    log = store.create_log(KEY, "t-0.x")
    checkpoint(store)
    add(log)
    commit_all(store, log)
    job = store.begin_checkpoint()
    disk.fail_next("sync", where=lambda path: path == "/data/t-0.x")
    with pytest.raises(DiskFailed):
        job.run()
    assert disk.exists("/data/t-0.x/snapshot")
    disk.kill()
    store = open_store(disk)
    store.logs[KEY].commit_to(RaftIndex(1))
    checkpoint(store)
    disk.power_loss()
    log = open_store(disk).logs[KEY]
    assert (log.damage.lost, log.commit_index) == (None, 1)


def test_a_folder_that_recovery_removed_does_not_come_back_as_another_logs() -> None:
    disk = lost_power(1, kept="none")
    store = open_store(disk)
    log = store.create_log(KEY, "t-0.x")
    add(log)
    commit_all(store, log)
    checkpoint(store)
    store.delete_log(KEY)
    flush(store)
    disk.kill()
    store = open_store(disk)
    store.create_log(KEY, "t-0.x")
    checkpoint(store)
    disk.power_loss()
    assert open_store(disk).logs[KEY].last_index == 0


def test_what_a_segment_holds_beyond_the_checkpoint_is_cut_and_written_again() -> None:
    disk, store, log = new_log()
    add(log)
    commit_all(store, log)
    checkpoint(store)
    path = "/data/t-0.x/00000000000000000000.log"
    synced = disk.content(path)
    add(log)
    commit_all(store, log)
    assert disk.content(path) != synced
    disk.kill()
    store = open_store(disk)
    log = store.logs[KEY]
    assert (disk.content(path), log.commit_index, log.last_index) == (synced, 1, 2)


def test_idle_groups_cost_no_operation() -> None:
    disk, store, log = new_log()
    for number in range(50):
        store.create_log(group_key(b"i" * 16, number), f"i-{number}.x")
    checkpoint(store)
    before = disk.operations
    add(log)
    commit_all(store, log)
    checkpoint(store)
    assert disk.operations - before < 25
    assert [path for path in disk.files("/data") if "/i-" in path] == []


def test_groups_survive_by_the_write_ahead_log_alone() -> None:
    disk, store, _ = new_log()
    store.create_log(group_key(b"s" * 16, 1), "s-1.x", start=LogPoint(RaftIndex(9), Term(2), Offset(40)))
    flush(store)
    disk.power_loss()
    store = open_store(disk)
    log = store.logs[group_key(b"s" * 16, 1)]
    assert (log.first_index, log.last_term, log.retention.start_offset) == (10, 2, 40)
    store.close()
    log = open_store(disk).logs[group_key(b"s" * 16, 1)]
    assert (log.first_index, log.last_term, log.retention.start_offset) == (10, 2, 40)


def test_what_a_log_was_made_with_outlives_power_loss_and_checkpoints() -> None:
    disk, store, _ = new_log()
    key = group_key(b"m" * 16, 0)
    store.create_log(key, "m-0.x", membership=b"who is in it")
    for finish in (flush, checkpoint, Store.close):
        finish(store)
        disk.power_loss()
        store = open_store(disk)
        (entry,) = store.logs[key].memberships
        assert (entry.index, entry.kind, entry.payload) == (0, EntryKind.MEMBERSHIP, b"who is in it")


@pytest.mark.parametrize("name", ["wal", "lock", "meta.toml", "a/b", "..", "", "a~2"])
def test_folders_that_are_no_logs(name: str) -> None:
    _, store, _ = new_log()
    with pytest.raises(ValueError, match="cannot be"):
        store.create_log(group_key(b"x" * 16, 0), name)


def test_a_group_has_one_log() -> None:
    _, store, _ = new_log()
    with pytest.raises(ValueError, match="already"):
        store.create_log(KEY, "t-0.y")


def test_without_sync_every_turn_a_checkpoint_is_still_durable() -> None:
    disk = VirtualDisk(random.Random(4))
    relaxed = StoreSettings(node_id=BrokerId(1), wal_file_bytes=64 << 10, fsync=False)
    store = Store.open(disk, "/data", relaxed)
    log = store.create_log(KEY, "t-0.x")
    syncs = disk.syncs
    for _ in range(5):
        add(log)
        flush(store)
    assert disk.syncs == syncs
    log.commit_to(RaftIndex(4))
    checkpoint(store)
    disk.power_loss()
    log = Store.open(disk, "/data", relaxed).logs[KEY]
    assert (log.commit_index, log.last_index) == (4, 5)


def test_dump_and_verify_read_what_is_there() -> None:
    disk, store, log = new_log()
    log.append(Term(1), EntryKind.NOOP, b"", 0)
    entries = [add(log, records=2) for _ in range(3)]
    commit_all(store, log)
    checkpoint(store)
    log.promises.hard_state = HardState(Term(2), None)
    log.append(Term(2), EntryKind.BATCH, batch(log, 2, 1, 9), 1)
    log.truncate_from(RaftIndex(5))
    flush(store)
    assert log_folders(disk, "/data") == ["t-0.x"]
    found = list(dump_segment(disk, "/data/t-0.x/00000000000000000000.log"))
    assert [at.header.base_offset for at in found if at.header] == [0, 2, 4]
    assert [at.problem for at in found] == [None] * 3
    assert read_snapshot(disk, "/data/t-0.x").commit == (4, 1, 6)
    lines = [(line.kind.name, line.index, line.text) for line in dump_wal(disk, "/data")]
    assert ("HARD_STATE", -1, "voted for nobody") in lines
    assert ("TRUNCATE", 5, "") in lines
    assert any(kind == "ENTRY" and text.startswith("BATCH offsets 6..7") for kind, _, text in lines)
    result = verify(disk, "/data")
    assert (result.logs, result.batches, result.findings) == (1, 3, [])
    assert result.bytes == sum(len(entry.payload) for entry in entries)
    disk.flip_bit("/data/t-0.x/00000000000000000000.log", 8 * 200)
    assert "byte" in str(verify(disk, "/data").findings[0])


def test_the_same_on_the_real_disk(tmp_path: Path) -> None:
    """Files, locks, descriptors and sendfile are the operating system's here."""
    root = str(tmp_path / "data")
    store = Store.open(RealDisk(), root, settings())
    log = store.create_log(KEY, "t-0.x")
    log.promises.hard_state = HardState(Term(1), BrokerId(1))
    entries = [add(log, records=2, size=size) for size in (10, 100_000, 5)]
    flush(store)
    log.commit_to(RaftIndex(2))
    checkpoint(store)
    add(log)
    flush(store)
    with pytest.raises(DataDirBusy):
        Store.open(RealDisk(), root, settings())
    store._lock.close()  # as if the process had died
    store = Store.open(RealDisk(), root, settings())
    log = store.logs[KEY]
    assert (log.commit_index, log.last_index, log.promises.hard_state) == (
        2,
        4,
        HardState(Term(1), BrokerId(1)),
    )
    log.commit_to(RaftIndex(4))
    piece = log.reader.read(Offset(2), 1)
    assert piece is not None
    assert os.pread(piece.fileno, piece.length, piece.position) == entries[1].payload
    log.retention.delete_before(Offset(7))
    roll(log)
    assert expire(log, 0, -1, -1)
    store.close()
    assert not list((tmp_path / "data" / "t-0.x").glob("*.log"))
    assert os.pread(piece.fileno, piece.length, piece.position) == entries[1].payload
    fd = piece.fileno
    del piece
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert Store.open(RealDisk(), root, settings()).logs[KEY].first_index == 5
