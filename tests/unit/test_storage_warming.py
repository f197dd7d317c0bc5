"""What is not in the page cache is known to be so, and brought there off the event loop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raftlog.storage.disk import NO_WAIT, PROBE_STEP, RealDisk
from raftlog.storage.group_log import GroupLog
from raftlog.types import GroupKey, Offset
from tests.unit.test_storage_descriptors import real_store
from tests.unit.test_storage_group_log import add, checkpoint, commit_all

KEY = GroupKey(bytes(20))


def _drop_from_the_cache(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def _can_tell(folder: Path) -> bool:
    """Whether the file system here says what is cached, and lets it be dropped."""
    path = folder / "probe"
    path.write_bytes(bytes(PROBE_STEP))
    _drop_from_the_cache(path)
    return bool(NO_WAIT) and not RealDisk().open(str(path)).is_cached(PROBE_STEP, 0)


def _log_with_records(folder: Path) -> GroupLog:
    store = real_store(folder, 64, segment_bytes=4 << 20)
    log = store.create_log(KEY, "t-0.x")
    for _ in range(10):
        add(log, size=100_000)
    commit_all(store, log)
    checkpoint(store)
    return log


def test_what_was_just_written_is_not_cold(tmp_path: Path) -> None:
    log = _log_with_records(tmp_path)
    for offset in range(10):
        assert log.reader.cold(Offset(offset), 1 << 20) is None
    assert log.reader.cold(log.high_watermark, 1 << 20) is None


def test_what_was_dropped_is_cold_until_it_is_warmed(tmp_path: Path) -> None:
    if not _can_tell(tmp_path):
        pytest.skip("this file system does not tell what is in the page cache")
    log = _log_with_records(tmp_path)
    (path,) = (tmp_path / "t-0.x").glob("*.log")
    _drop_from_the_cache(path)
    warming = log.reader.cold(Offset(3), 200_000)
    assert warming is not None
    warming.run()
    assert log.reader.cold(Offset(3), 200_000) is None
    found = log.reader.read(Offset(3), 200_000)
    assert found is not None and found.next_offset > 3


def test_a_segment_that_is_not_open_is_cold_and_its_index_is_read_too(tmp_path: Path) -> None:
    store = real_store(tmp_path, 8)
    log = store.create_log(KEY, "t-0.x")
    for _ in range(30):
        add(log, size=2000)
    commit_all(store, log)
    checkpoint(store)
    warming = log.reader.cold(Offset(0), 1000)
    assert warming is not None and warming.position is None
    warming.run()
    assert log.reader.read(Offset(0), 1000) is not None
    assert log.reader.cold(Offset(0), 1000) is None


def test_warming_what_is_gone_leaves_it_to_the_reader(tmp_path: Path) -> None:
    store = real_store(tmp_path, 8)
    log = store.create_log(KEY, "t-0.x")
    for _ in range(30):
        add(log, size=2000)
    commit_all(store, log)
    checkpoint(store)
    warming = log.reader.cold(Offset(0), 1000)
    for path in (tmp_path / "t-0.x").glob("*"):
        path.unlink()
    assert warming is not None
    warming.run()
