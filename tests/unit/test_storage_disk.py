"""The real disk and the virtual one keep the same contract; the virtual one also breaks as it says."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from raftlog.errors import DataDirBusy, DiskFailed, DiskFull
from raftlog.storage.disk import IOV_MAX, Disk, Health, RealDisk
from tests.sim.virtual_disk import PowerLost, VirtualDisk

DISKS: list[Callable[[], Disk]] = [RealDisk, lambda: VirtualDisk(random.Random(1))]


@pytest.fixture(params=DISKS, ids=["real", "virtual"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str]:
    disk: Disk = request.param()
    disk.mkdir(str(tmp_path / "a" / "b"))
    return disk, str(tmp_path / "a" / "b")


def test_files_are_read_as_they_were_written(place: tuple[Disk, str]) -> None:
    disk, folder = place
    file = disk.open(f"{folder}/f", create=True)
    file.pwritev([b"hello ", bytearray(b"wide "), memoryview(b"world")], 3)
    assert file.size() == 19
    assert file.pread(100, 0) == b"\0\0\0hello wide world"
    assert file.pread(4, 9) == b"wide"
    assert file.pread(4, 19) == b""
    file.fdatasync()
    file.truncate(8)
    assert disk.open(f"{folder}/f").pread(100, 0) == b"\0\0\0hello"
    file.allocate(4000)
    assert file.size() == 4000
    file.allocate(10)
    assert file.size() == 4000


def test_more_buffers_than_one_call_takes(place: tuple[Disk, str]) -> None:
    disk, folder = place
    buffers = [b"%d," % number for number in range(2 * IOV_MAX + 7)]
    file = disk.open(f"{folder}/f", create=True)
    file.pwritev(buffers, 0)
    assert file.pread(1 << 20, 0) == b"".join(buffers)


def test_short_writes_are_gone_on_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, buffers, at: real(fd, [memoryview(buffers[0])[:2]], at))
    file = RealDisk().open(str(tmp_path / "f"), create=True)
    file.pwritev([b"abcde", b"f", b"ghi"], 1)
    assert file.pread(20, 1) == b"abcdefghi"


def test_names(place: tuple[Disk, str]) -> None:
    disk, folder = place
    with pytest.raises(FileNotFoundError):
        disk.open(f"{folder}/missing")
    with pytest.raises(FileNotFoundError):
        disk.open(f"{folder}/no/folder", create=True)
    disk.open(f"{folder}/x", create=True).pwritev([b"1"], 0)
    disk.open(f"{folder}/y", create=True)
    disk.rename(f"{folder}/x", f"{folder}/y")
    assert disk.listdir(folder) == ["y"]
    assert disk.open(f"{folder}/y").pread(9, 0) == b"1"
    disk.mkdir(f"{folder}/sub/deep")
    disk.mkdir(f"{folder}/sub/deep")
    disk.open(f"{folder}/sub/deep/z", create=True)
    disk.sync_dir(f"{folder}/sub")
    assert disk.exists(f"{folder}/sub/deep/z")
    disk.rmtree(f"{folder}/sub")
    disk.rmtree(f"{folder}/sub")
    assert disk.listdir(folder) == ["y"]
    disk.unlink(f"{folder}/y")
    with pytest.raises(FileNotFoundError):
        disk.unlink(f"{folder}/y")


def test_an_open_file_outlives_its_name(place: tuple[Disk, str]) -> None:
    disk, folder = place
    file = disk.open(f"{folder}/f", create=True)
    file.pwritev([b"still here"], 0)
    disk.unlink(f"{folder}/f")
    assert file.pread(10, 0) == b"still here"


def test_a_lock_is_held_once(place: tuple[Disk, str]) -> None:
    disk, folder = place
    lock = disk.lock(f"{folder}/lock")
    with pytest.raises(DataDirBusy, match="another process"):
        disk.lock(f"{folder}/lock")
    lock.close()
    disk.lock(f"{folder}/lock").close()


def test_a_failure_of_the_disk_is_final() -> None:
    health = Health()
    with health:
        pass
    with pytest.raises(DiskFailed, match="Input/output error"), health:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(DiskFailed, match="Input/output error"), health:
        pytest.fail("nothing runs any more")
    with pytest.raises(DiskFailed):
        health.check()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_has_not_failed(number: int) -> None:
    health = Health()
    with pytest.raises(DiskFull, match="the disk is full") as caught, health:
        raise OSError(number, os.strerror(number))
    assert "failed" not in str(caught.value)
    with pytest.raises(DiskFull), health:
        pytest.fail("nothing is written any more")
    with pytest.raises(DiskFull):
        health.check()


def test_what_is_no_failure_of_the_disk_passes_through() -> None:
    health = Health()
    with pytest.raises(ValueError, match="ours"), health:
        raise ValueError("ours")
    health.check()


def virtual(seed: int = 1) -> VirtualDisk:
    disk = VirtualDisk(random.Random(seed))
    disk.mkdir("/d")
    disk.sync_dir("/")
    return disk


def test_power_loss_keeps_what_was_synced_and_tears_the_rest() -> None:
    outcomes = set()
    for seed in range(60):
        disk = virtual(seed)
        file = disk.open("/d/f", create=True)
        file.pwritev([b"a" * 2000], 0)
        file.fdatasync()
        disk.sync_dir("/d")
        file.pwritev([b"b" * 1500], 1000)
        disk.power_loss()
        content = disk.content("/d/f")
        assert content[:1000] == b"a" * 1000
        assert set(content) <= set(b"ab\0")
        outcomes.add(content)
        with pytest.raises(OSError, match="dead"):
            file.pread(1, 0)
    assert b"a" * 2000 in outcomes
    assert b"a" * 1000 + b"b" * 1500 in outcomes
    assert len(outcomes) > 5, "torn in many ways"


def test_a_name_is_lost_with_the_power_unless_its_folder_was_synced() -> None:
    survived = set()
    for seed in range(20):
        disk = virtual(seed)
        disk.open("/d/f", create=True).fdatasync()
        disk.power_loss()
        survived.add(disk.exists("/d/f"))
    assert survived == {True, False}


def test_a_killed_process_loses_nothing_but_its_handles() -> None:
    disk = virtual()
    lock = disk.lock("/d/lock")
    disk.open("/d/f", create=True).pwritev([b"x"], 0)
    disk.kill()
    assert disk.content("/d/f") == b"x"
    assert not lock.is_open
    disk.lock("/d/lock")


def test_after_a_failed_sync_the_cache_lies() -> None:
    disk = virtual()
    file = disk.open("/d/f", create=True)
    disk.sync_dir("/d")
    file.pwritev([b"x"], 0)
    disk.fail_next("sync", where=lambda path: path == "/d/f")
    with pytest.raises(OSError, match="/d/f"):
        file.fdatasync()
    file.fdatasync()  # succeeds, and means nothing
    assert file.pread(1, 0) == b"x"
    disk.power_loss()
    assert disk.content("/d/f") == b""


def test_a_full_disk_takes_what_fits() -> None:
    disk = virtual()
    disk.capacity = 10
    file = disk.open("/d/f", create=True)
    file.pwritev([b"12345678"], 0)
    with pytest.raises(OSError, match="No space") as caught:
        file.pwritev([b"abcd"], 8)
    assert caught.value.errno == errno.ENOSPC
    assert file.pread(20, 0) == b"12345678ab"
    file.pwritev([b"over"], 0)


def test_the_world_stops_where_it_was_told_to() -> None:
    disk = virtual()
    file = disk.open("/d/f", create=True)
    disk.crash_after = disk.operations + 1
    file.pwritev([b"one"], 0)
    with pytest.raises(PowerLost):
        file.pwritev([b"two"], 3)


def test_operations_can_be_watched() -> None:
    disk = virtual()
    seen: list[tuple[str, str]] = []
    disk.on_operation = lambda operation, path: seen.append((operation, path))
    disk.open("/d/f", create=True).fdatasync()
    assert seen == [("create", "/d/f"), ("sync", "/d/f")]


def test_a_bit_turns_over() -> None:
    disk = virtual()
    disk.open("/d/f", create=True).pwritev([b"\0\0"], 0)
    disk.flip_bit("/d/f", 9)
    assert disk.content("/d/f") == b"\0\2"
    disk.cut("/d/f", 1)
    assert disk.content("/d/f") == b"\0"


def test_nobody_else_reads_what_the_broker_writes(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        disk = RealDisk()
        disk.mkdir(str(tmp_path / "data"))
        disk.open(str(tmp_path / "data" / "segment"), create=True).close()
        disk.lock(str(tmp_path / "data" / "lock")).close()
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"data": 0o700, "segment": 0o600, "lock": 0o600}
