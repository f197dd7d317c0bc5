"""A store keeps its share of the file descriptors, and closes no file whose bytes may still fail to reach the
disk without anybody hearing of it."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from raftlog.errors import DiskFailed
from raftlog.storage.descriptors import RESERVE, files_max, share_out
from raftlog.storage.disk import RealDisk, RealFile
from raftlog.storage.group_log import GroupLog
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, GroupKey, Offset, RaftIndex
from tests.unit.test_storage_group_log import add, checkpoint, commit_all, flush, new_log, open_store


@pytest.mark.parametrize("limit", [128, 256, 1024, 4096, 20_000, 1 << 16])
def test_the_shares_together_are_no_more_than_there_are(limit: int) -> None:
    shares = share_out(limit)
    assert shares.connections + files_max(shares.segments) + min(RESERVE, limit // 8) <= limit
    assert shares.segments >= 8


def real_store(folder: Path, open_files_max: int, segment_bytes: int = 1024) -> Store:
    settings = StoreSettings(
        node_id=BrokerId(1),
        wal_file_bytes=1 << 20,
        open_files_max=open_files_max,
        segment_bytes=segment_bytes,
    )
    return Store.open(RealDisk(), str(folder), settings, rng=random.Random(1))


def test_more_logs_than_descriptors_are_written_read_and_there_again(tmp_path: Path) -> None:
    before, share = RealFile.open_count(), 8
    store = real_store(tmp_path, share)
    own = RealFile.open_count() - before  # its lock and its write-ahead log
    logs = [store.create_log(GroupKey(bytes([number]) * 20), f"t-{number}.x") for number in range(40)]
    most = 0
    for _ in range(2):
        for log in logs:
            add(log)
            commit_all(store, log)
            if store.checkpoint_due:
                checkpoint(store)
            most = max(most, RealFile.open_count() - before - own)
    assert most <= share + 2, "segments in use, and a file of the write-ahead log"
    for log in logs:
        assert log.reader.read(Offset(1), 1000) is not None
    store.close()
    again = real_store(tmp_path, share)
    assert RealFile.open_count() - before - own <= share + 2
    assert {log.high_watermark for log in again.logs.values()} == {2}
    assert [log.damage.lost for log in again.logs.values()] == [None] * 40
    again.close()


def test_many_small_segments_take_no_more_than_the_share(tmp_path: Path) -> None:
    before, share = RealFile.open_count(), 8
    store = real_store(tmp_path, share)
    log = store.create_log(GroupKey(bytes(20)), "t-0.x")
    for _ in range(60):
        add(log, size=1000)
    commit_all(store, log)
    assert len(list((tmp_path / "t-0.x").glob("*.log"))) == 60
    assert store.checkpoint_due
    job = store.begin_checkpoint()
    add(log, size=1000)
    commit_all(store, log)
    assert RealFile.open_count() - before <= files_max(share)
    job.run()
    store.finish_checkpoint(job)
    flush(store)
    held = [log.reader.read(Offset(offset), 1) for offset in range(61)]
    assert [each.may_lend for each in held if each is not None].count(True) <= files_max(share)
    assert not held[-1].may_lend  # type: ignore[union-attr]
    del held
    store.close()
    again = real_store(tmp_path, share)
    assert entries_of(again.logs[log.key]) == list(range(1, 62))
    again.close()


def entries_of(log: GroupLog) -> list[int]:
    found: list[int] = []
    while entries := log.entries.read(RaftIndex(len(found) + 1), 10_000, 100):
        found += [entry.index for entry in entries]
    return found


def test_a_file_is_not_closed_before_its_sync_has_returned() -> None:
    disk, store, log = new_log(segment_bytes=100, open_files_max=4)
    for _ in range(20):
        add(log)
    flush(store)
    disk.fail_next("sync", where=lambda path: path.endswith(".log"))
    with pytest.raises(DiskFailed):
        log.commit_to(RaftIndex(20))


def test_a_checkpoint_is_due_when_half_of_what_may_be_open_waits_for_it() -> None:
    _, store, log = new_log(segment_bytes=100, open_files_max=8)
    for _ in range(4):
        add(log)
    commit_all(store, log)
    assert not store.checkpoint_due
    add(log)
    commit_all(store, log)
    assert store.checkpoint_due
    checkpoint(store)
    assert store.statistics()["unsynced_segments"] == 0
    assert not store.checkpoint_due


def test_segments_give_up_descriptors_that_others_took() -> None:
    disk, store, log = new_log(segment_bytes=100)
    for _ in range(40):
        add(log)
    commit_all(store, log)
    disk.fail_next("create", where=lambda path: path.endswith(".log"), code=errno.EMFILE)
    before = store.statistics()["open_segments"]
    add(log)
    commit_all(store, log)
    assert log.commit_index == 41
    assert store.statistics()["open_segments"] < before
    store.close()
    assert open_store(disk).logs[log.key].commit_index == 41
