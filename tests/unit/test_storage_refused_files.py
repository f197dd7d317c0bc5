"""What the system refuses to open is no failure of the disk: it waits, or it is this one log's."""

from __future__ import annotations

import errno
import random

import pytest

from raftlog.errors import DiskFailed, FileRefused
from raftlog.storage.folder_names import NAME_MAX, could_be_of, possible_name, short_name
from raftlog.storage.store import Store
from raftlog.types import GroupKey, Offset, RaftIndex
from tests.sim.virtual_disk import VirtualDisk, VirtualFile
from tests.unit.test_storage_group_log import KEY, add, checkpoint, commit_all, flush, new_log, open_store

TOPIC_ID = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("length", [1, 190, 200, 207, 208, 220, 221, 222, 249])
def test_a_topic_of_any_length_has_a_log_and_a_second_one(length: int) -> None:
    disk = VirtualDisk(random.Random(1))
    store = open_store(disk)
    log = store.create_log(KEY, f"{'t' * length}-12.{TOPIC_ID}")
    add(log)
    commit_all(store, log)
    checkpoint(store)
    log.reset(RaftIndex(9), log.last_term, Offset(20), b"")  # a follower far behind begins anew
    add(log)
    commit_all(store, log)
    store.close()
    again = open_store(disk).logs[KEY]
    assert again.damage.lost is None
    assert (again.commit_index, again.retention.start_offset, again.high_watermark) == (10, 20, 21)


def test_a_log_that_an_older_build_could_not_make_a_folder_for_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ended of the name, and at every start again: its write-ahead log has the name uncut."""
    disk = VirtualDisk(random.Random(1))
    with monkeypatch.context() as older:
        older.setattr(Store, "_new_dirname", lambda store, name: name)
        store = open_store(disk)
        log = store.create_log(KEY, f"{'t' * 249}-12.{TOPIC_ID}")
        add(log)
        flush(store)
    disk.power_loss()
    store = open_store(disk)
    log = store.logs[KEY]
    add(log)
    commit_all(store, log)
    store.close()
    store = open_store(disk)
    log = store.logs[KEY]
    assert (log.damage.lost, log.high_watermark) == (None, 2)
    assert log.dirname == short_name(f"{'t' * 249}-12.{TOPIC_ID}")
    checkpoint(store)
    store.close()
    assert open_store(disk).logs[KEY].high_watermark == 2


def test_a_second_folder_of_an_uncut_name_stays_another() -> None:
    name = f"{'t' * 249}-12.{TOPIC_ID}"
    assert possible_name(f"{name}~2") == f"{short_name(name)}~2"
    assert possible_name(f"{'t' * 215}-12.{TOPIC_ID}") == f"{'t' * 215}-12.{TOPIC_ID}"


def test_short_names_stay_as_they_are_and_long_ones_keep_what_identifies_them() -> None:
    assert short_name(f"orders-0.{TOPIC_ID}") == f"orders-0.{TOPIC_ID}"
    names = {short_name(f"{'t' * 249}-{number}.{TOPIC_ID}") for number in (1, 12, 4096)}
    assert len(names) == 3
    assert all(len(name) == NAME_MAX and name.endswith(TOPIC_ID) for name in names)
    assert len(short_name("ü" * 240).encode()) <= NAME_MAX


def test_a_cut_name_is_that_of_its_log_and_of_no_other() -> None:
    folder = short_name(f"{'t' * 249}-12.{TOPIC_ID}").rpartition(".")[0]
    assert could_be_of(folder, f"{'t' * 249}-12")
    assert not could_be_of(folder, f"{'t' * 249}-13")
    assert not could_be_of(folder, "t-12")
    assert could_be_of("orders-0", "orders-0")
    assert not could_be_of("orders-0", "orders-1")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.ENAMETOOLONG])
@pytest.mark.parametrize("operation", ["mkdir", "create"])
def test_a_commit_that_gets_no_file_waits_and_comes_again(code: int, operation: str) -> None:
    disk, store, log = new_log(segment_bytes=100)
    other = store.create_log(GroupKey(bytes(20)), "u-0.x")
    for each in (log, log, log, other):
        add(each)
    flush(store)
    disk.fail_next(operation, where=lambda path: "/t-0.x" in path, code=code)
    assert log.commit_to(RaftIndex(3)) == []
    assert log.refused is not None
    assert (log.commit_index, log.high_watermark) == (0, 0)
    assert other.commit_to(RaftIndex(1))  # the others are served
    checkpoint(store)
    assert [entry.index for entry in log.commit_to(RaftIndex(3))] == [1, 2, 3]
    assert log.refused is None
    store.close()
    again = open_store(disk).logs[KEY]
    assert (again.damage.lost, again.commit_index) == (None, 3)


def test_a_commit_goes_as_far_as_there_are_files() -> None:
    disk, store, log = new_log(segment_bytes=150)
    for _ in range(4):
        add(log)
    flush(store)
    for _ in range(2):  # also when others have given up theirs
        disk.fail_next("create", where=lambda path: path.endswith("1.log"), code=errno.EMFILE)
    assert [entry.index for entry in log.commit_to(RaftIndex(4))] == [1]
    assert (log.commit_index, log.high_watermark) == (1, 1)
    assert [entry.index for entry in log.commit_to(RaftIndex(4))] == [2, 3, 4]
    store.close()
    again = open_store(disk).logs[KEY]
    assert (again.damage.lost, again.commit_index) == (None, 4)


def test_a_checkpoint_that_gets_no_file_can_be_run_again() -> None:
    disk, store, log = new_log()
    add(log)
    commit_all(store, log)
    job = store.begin_checkpoint()
    disk.fail_next("create", where=lambda path: path.endswith("snapshot.tmp"), code=errno.EMFILE)
    with pytest.raises(FileRefused):
        job.run()
    job.run()
    store.finish_checkpoint(job)
    store.close()
    assert open_store(disk).logs[KEY].commit_index == 1


def test_a_write_ahead_log_that_gets_no_file_has_lost_nothing() -> None:
    disk, store, log = new_log()
    for _ in range(2):  # also when the segments have given up theirs
        disk.fail_next("create", where=lambda path: path.endswith(".wal"), code=errno.EMFILE)
    for _ in range(3):
        add(log, size=30_000)
    with pytest.raises(FileRefused):
        store.write()
    flush(store)
    assert log.entries.synced_index == 3
    store.close()


def test_a_read_that_gets_no_file_is_no_damage() -> None:
    disk, store, log = new_log()
    add(log)
    commit_all(store, log)
    store.close()
    log = open_store(disk).logs[KEY]
    disk.fail_next("read", where=lambda path: path.endswith(".log"), code=errno.EMFILE)
    with pytest.raises(FileRefused):
        log.reader.read(Offset(0), 1000)
    assert log.damage.lost is None
    assert log.reader.read(Offset(0), 1000) is not None


def test_a_failed_sync_stays_final_whatever_it_says() -> None:
    disk, store, log = new_log()
    add(log)
    ticket = store.write()
    disk.fail_next("sync", code=errno.ENOSPC)
    with pytest.raises(DiskFailed):
        ticket.sync()
    with pytest.raises(DiskFailed):
        ticket.sync()


class LockedDisk(VirtualDisk):
    """A disk on which one kind of file belongs to somebody else."""

    locked = "nothing"

    def open(self, path: str, *, create: bool = False) -> VirtualFile:
        if path.endswith(self.locked):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return super().open(path, create=create)


@pytest.mark.parametrize("ending", ["snapshot", "00.log", "01.wal"])
def test_a_file_of_somebody_else_is_named_at_start_and_nothing_is_damaged(ending: str) -> None:
    disk = LockedDisk(random.Random(1))
    store = open_store(disk)
    log = store.create_log(KEY, "t-0.x")
    add(log)
    commit_all(store, log)
    store.close()
    disk.locked = ending
    with pytest.raises(FileRefused, match=f"{ending} cannot be opened: Permission denied"):
        open_store(disk)
    disk.locked = "nothing"
    again = open_store(disk).logs[KEY]
    assert (again.damage.lost, again.commit_index) == (None, 1)
