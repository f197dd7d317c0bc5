"""A disk that loses its power: what was synced stays, what was not goes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from raftlog.testing.power import PowerDisk, lose_power


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> PowerDisk:
    return PowerDisk(tmp_path / "journal")


def lose(data: Path, rng: random.Random | None = None) -> list[str]:
    return lose_power(data.parent / "journal", data, rng)


def test_what_is_synced_stays(disk: PowerDisk, data: Path) -> None:
    file = disk.open(str(data / "a"), create=True)
    file.pwritev([b"one", b"two"], 0)
    file.fdatasync()
    disk.sync_dir(str(data))
    assert lose(data) == []
    assert (data / "a").read_bytes() == b"onetwo"


def test_bytes_and_sizes_that_are_not_synced_go(disk: PowerDisk, data: Path) -> None:
    file = disk.open(str(data / "a"), create=True)
    file.pwritev([b"before"], 0)
    file.fdatasync()
    disk.sync_dir(str(data))
    file.pwritev([b"after, and longer"], 2)
    file.allocate(4096)
    file.truncate(3)
    assert len(lose(data)) == 3
    assert (data / "a").read_bytes() == b"before"


def test_a_sync_covers_only_its_own_file(disk: PowerDisk, data: Path) -> None:
    files = [disk.open(str(data / name), create=True) for name in "ab"]
    disk.sync_dir(str(data))
    for file in files:
        file.pwritev([b"x"], 0)
    files[0].fdatasync()
    lose(data)
    assert [(data / name).read_bytes() for name in "ab"] == [b"x", b""]


def test_names_go_without_a_sync_of_their_folder(disk: PowerDisk, data: Path) -> None:
    for name in ("kept", "removed", "moved", "replaced"):
        file = disk.open(str(data / name), create=True)
        file.pwritev([name.encode()], 0)
        file.fdatasync()
    disk.mkdir(str(data / "tree"))
    disk.open(str(data / "tree" / "leaf"), create=True)
    disk.sync_dir(str(data / "tree"))
    disk.sync_dir(str(data))
    disk.open(str(data / "new"), create=True).fdatasync()
    disk.mkdir(str(data / "new folder"))
    disk.unlink(str(data / "removed"))
    disk.rename(str(data / "moved"), str(data / "replaced"))
    disk.rmtree(str(data / "tree"))
    lose(data)
    names = sorted(str(path.relative_to(data)) for path in data.rglob("*"))
    assert names == ["kept", "moved", "removed", "replaced", "tree", "tree/leaf"]
    assert all(
        (data / name).read_bytes() == name.encode() for name in ("kept", "removed", "moved", "replaced")
    )


def test_a_write_to_a_file_that_moved_is_found(disk: PowerDisk, data: Path) -> None:
    file = disk.open(str(data / "a"), create=True)
    disk.sync_dir(str(data))
    file.pwritev([b"lost"], 0)
    disk.rename(str(data / "a"), str(data / "b"))
    disk.sync_dir(str(data))
    lose(data)
    assert (data / "b").read_bytes() == b"" and not (data / "a").exists()


def test_a_disk_at_work_has_some_sectors(disk: PowerDisk, data: Path) -> None:
    file = disk.open(str(data / "a"), create=True)
    file.pwritev([bytes(64 * 512)], 0)
    file.fdatasync()
    disk.sync_dir(str(data))
    file.pwritev([b"x" * 64 * 512], 0)
    assert lose(data, random.Random(1))
    content = (data / "a").read_bytes()
    sectors = {content[at : at + 512] for at in range(0, len(content), 512)}
    assert sectors == {bytes(512), b"x" * 512}


def test_a_journal_in_which_all_is_durable_is_empty(disk: PowerDisk, data: Path) -> None:
    file = disk.open(str(data / "a"), create=True)
    disk.sync_dir(str(data))
    for _ in range(100):
        file.pwritev([bytes(1000)], 0)
        file.fdatasync()
    assert (data.parent / "journal" / "journal").stat().st_size == 0


def test_a_line_that_was_not_finished_is_no_change(disk: PowerDisk, data: Path) -> None:
    disk.open(str(data / "a"), create=True)
    with (data.parent / "journal" / "journal").open("ab") as journal:
        journal.write(b'{"n":2,"did":"wro')
    lose(data)
    assert not (data / "a").exists()
