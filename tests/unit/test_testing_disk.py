"""The disk that tests make slow or take away."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from raftlog.testing.disk import FaultyDisk


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


def test_it_is_a_disk_until_it_is_taken_away(disk: FaultyDisk, tmp_path: Path) -> None:
    file = disk.open(f"{tmp_path}/a", create=True)
    file.pwritev([b"one ", b"apple"], 0)
    file.fdatasync()
    disk.take_away("gone")
    for refused in (
        lambda: file.pwritev([b"x"], 0),
        lambda: file.truncate(0),
        file.fdatasync,
        lambda: disk.open(f"{tmp_path}/b", create=True),
        lambda: disk.rename(f"{tmp_path}/a", f"{tmp_path}/b"),
        lambda: disk.unlink(f"{tmp_path}/a"),
        lambda: disk.rmtree(str(tmp_path)),
        lambda: disk.sync_dir(str(tmp_path)),
    ):
        with pytest.raises(OSError, match="gone"):
            refused()
    assert file.pread(9, 0) == b"one apple"
    assert (tmp_path / "a").read_bytes() == b"one apple"


@pytest.mark.parametrize("end", [lambda disk: disk.slow_down(0), lambda disk: disk.take_away()])
def test_who_waits_for_a_slow_sync_is_let_go(disk: FaultyDisk, tmp_path: Path, end: object) -> None:
    file = disk.open(f"{tmp_path}/a", create=True)
    disk.slow_down(60)
    outcome: list[str] = []

    def sync() -> None:
        try:
            file.fdatasync()
            outcome.append("synced")
        except OSError:
            outcome.append("failed")

    thread = threading.Thread(target=sync)
    thread.start()
    thread.join(0.01)
    assert thread.is_alive()
    started = time.monotonic()
    assert callable(end)
    end(disk)
    thread.join(10)
    assert outcome in (["synced"], ["failed"])
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("seconds", [-1, float("nan"), 1e9])
def test_a_delay_has_bounds(disk: FaultyDisk, seconds: float) -> None:
    with pytest.raises(ValueError, match="longer"):
        disk.slow_down(seconds)
