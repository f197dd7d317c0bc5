"""Files that grow, are rotated, copied and cut short. The numbers are those of the scenarios."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from raftlog.connect.contract import Unit
from raftlog.connect.errors import ConnectError, PositionLost
from raftlog.connect.file_source import FileSource, FileSourceConfig
from raftlog.connect.tailing import CHUNK_BYTES, Tail
from tests.clocks import thread_clock

WAIT_S = 2.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """Files are read in threads."""
    return thread_clock(monkeypatch)


class Log:
    """A file, its tail, and what was read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "app.log"
        self.old = folder / "app.log.1"
        self.now = 0.0
        self.lines: list[str] = []
        self.position: Any = None
        self.tail: Tail | None = None
        self.number = 0

    def write(self, count: int = 10, *, text: str = "") -> None:
        """So many lines, each of which is new."""
        with self.path.open("a") as file:
            for _ in range(count):
                file.write(f"line {self.number} {text}\n")
                self.number += 1

    def read(self, batches: int = 100, **settings: Any) -> None:
        """What there is, and then time passes."""
        if self.tail is None:
            self.tail = Tail(str(self.path), self.position, rotate_wait_s=WAIT_S, **settings)
        for _ in range(batches):
            found = self.tail.read(self.now)
            if found is not None:
                self.lines += [line.decode() for line in found.lines]
                self.position = found.position
            self.now += WAIT_S / 2

    def restart(self) -> None:
        assert self.tail is not None
        self.tail.close()
        self.tail = None

    @property
    def numbers(self) -> list[int]:
        return [int(line.split()[1]) for line in self.lines]


@pytest.fixture(params=["short", "long"])
def log(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Log]:
    """Of a file below a kilobyte, and of one beyond."""
    made = Log(tmp_path)
    made.write(3, text="x" * (400 if request.param == "long" else 1))
    yield made
    if made.tail is not None:
        made.tail.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_scenario_51_a_file_is_renamed_while_lines_are_unread(log: Log, restarted: bool):
    """51, 53: all of them once, then the new file; also when the tail was not there meanwhile."""
    log.read(4)
    log.write()
    if restarted:
        log.restart()
    log.path.rename(log.old)
    log.write()
    log.read()
    assert log.numbers == list(range(23))
    log.restart()
    log.write()
    log.read()
    assert log.numbers == list(range(33))


def test_scenario_51_a_renamed_file_still_grows(log: Log):
    log.read(4)
    with log.path.open("a") as writer:
        log.path.rename(log.old)
        log.write()  # the new one
        log.read(1)
        writer.write("line 99 from who has it open\n")
        writer.flush()
        log.read()
    assert log.numbers == [0, 1, 2, 99, *range(3, 13)]


@pytest.mark.parametrize("copied", [False, True])
def test_scenario_52_a_file_is_cut_short_in_its_place(log: Log, copied: bool):
    """52: from its start, what was read is not read again. What was not is lost, and that is counted, unless
    a copy has it."""
    log.read(4)
    log.write()
    if copied:
        shutil.copy(log.path, log.old)
    os.truncate(log.path, 0)
    log.write()
    log.read()
    assert log.tail is not None
    if copied:
        assert log.numbers == list(range(23))
        assert log.tail.truncated == 0
    else:
        assert log.numbers == [0, 1, 2, *range(13, 23)]
        assert log.tail.truncated == 1


def test_scenario_52_a_file_is_cut_short_and_grows_beyond_where_it_was(log: Log):
    log.read(4)
    os.truncate(log.path, 0)
    log.write(40, text="y" * 80)
    log.read()
    assert log.numbers == list(range(43))


def test_scenario_53_only_a_compressed_copy_is_left(log: Log):
    """53: no line twice; that the old file is gone is counted."""
    log.read(4)
    log.restart()
    log.old.with_suffix(".gz").write_bytes(b"\x1f\x8b...")
    new = log.path.with_name("new")
    log.path.rename(new)  # the inode lives until the next file has one of its own
    log.write()
    new.unlink()
    log.read()
    assert log.numbers == list(range(13))
    assert log.tail is not None and log.tail.gone == 1


def test_scenario_54_an_inode_is_used_again(log: Log):
    """54: another file in the same inode is read from its start."""
    log.read(4)
    log.restart()
    inode = log.path.stat().st_ino
    log.path.write_text("line 77 of another file\n" * 100)
    assert log.path.stat().st_ino == inode
    log.read()
    assert log.numbers == [0, 1, 2] + [77] * 100


@pytest.mark.parametrize("restarted", [False, True])
def test_scenario_55_half_a_line_comes_once_and_whole(log: Log, restarted: bool):
    with log.path.open("a") as file:
        file.write("line 3 ha")
        file.flush()
        log.read(4)
        if restarted:
            log.restart()
        file.write("lf\n")
    log.read(4)
    assert log.numbers == [0, 1, 2, 3]
    assert log.lines[-1] == "line 3 half"


def test_the_last_line_of_a_rotated_file_needs_no_end(log: Log):
    with log.path.open("a") as file:
        file.write("line 3")
    log.read(4)
    log.number = 4
    log.path.rename(log.old)
    log.write()
    log.read()
    assert log.numbers == list(range(14))


@pytest.mark.parametrize("restarted", [False, True])
def test_start_at_the_end_skips_what_is_there_and_nothing_else(log: Log, restarted: bool):
    log.read(1, at_end=True)
    if restarted:
        log.write()  # while nobody reads
        log.restart()
        log.read()
    else:
        log.write()
        log.read()
    assert log.numbers == list(range(3, 13))


def test_scenario_68_a_position_of_kafka_connect(log: Log):
    """68: a bare offset counts for the file that is there, and ours has it under the same name."""
    offset = len(log.path.read_bytes().splitlines()[0]) + 1
    log.position = {"position": offset}
    log.read()
    assert log.numbers == [1, 2]
    assert log.position["position"] == log.path.stat().st_size


@pytest.mark.parametrize(
    ("position", "said"),
    [
        ({"position": 10_000}, "not the file that was read"),
        ({"position": -1}, "is another's"),
        ({"lsn": 7}, "is another's"),
        ({"position": 1, "fingerprint": "abc"}, "no fingerprint"),
    ],
)
def test_scenario_56_a_position_that_is_none(log: Log, position: Any, said: str):
    log.position = position
    with pytest.raises(PositionLost, match=said):
        log.read()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_file_that_is_deleted_is_let_go_of(log: Log, restarted: bool):
    """Its room on the disk is free again, its last line needs no end, and the next file is a new one, also
    with the same beginning and the same inode."""
    with log.path.open("a") as file:
        file.write("line 3 without its end")
    log.read(4)
    text = log.path.read_bytes()
    before = log.tail.fingerprint if log.tail else None
    log.path.unlink()
    log.read()
    assert log.tail is not None and before is not None
    assert log.numbers == [0, 1, 2, 3]
    assert log.tail.is_deleted
    assert log.tail._file is None
    assert not any(each.is_of(text, before.inode) for each in log.tail.before)
    if restarted:
        log.restart()
    log.number = 0
    log.write(3)
    log.read()
    assert log.numbers == [0, 1, 2, 3, 0, 1, 2]
    assert log.tail is not None and not log.tail.gone


async def test_a_pattern_lets_deleted_files_go_and_a_path_by_name_waits(clock: MockClock, tmp_path: Path):
    path = tmp_path / "app.log"
    for pattern, ends in (("app.*", True), ("app.log", False)):
        path.write_text("line 0\n")
        config = FileSourceConfig(paths=(str(tmp_path / pattern),), topic="t", rotate_wait_s=0.0)
        source = FileSource(config, "f")
        (unit,) = await source.units({})
        ended = False
        with trio.move_on_after(20 if ends else 1):
            async with aclosing(source.read(unit, None)) as batches:
                async for batch in batches:
                    if batch.records:
                        path.unlink()
            ended = True
        assert ended is ends
        assert await source.units({unit: {"position": 0}}) == ([] if ends else [unit])


def test_a_line_that_is_too_long_is_told_with_its_place(log: Log):
    log.read(4)
    with log.path.open("a") as file:
        file.write("x" * 2_000 + "\n")
    with pytest.raises(ConnectError, match="line_bytes_max higher"):
        log.restart()
        log.read(line_bytes_max=1_000)


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_a_line_over_several_chunks_comes_whole(tmp_path: Path, size: int):
    path = tmp_path / "big"
    path.write_bytes(b"x" * size + b"\nend\n")
    tail = Tail(str(path))
    lines: list[bytes] = []
    while (found := tail.read(0.0)) is not None:
        lines += found.lines
    tail.close()
    assert list(map(len, lines)) == [size, 3]


def _units(source: FileSource, stored: dict[Unit, Any], now: float) -> list[str]:
    return [unit.partition["filename"].rpartition("/")[2] for unit in source._units(stored, now)]


@pytest.mark.parametrize("way", ["renamed", "copied"])
@pytest.mark.parametrize("size", [1, 400])
def test_a_rotated_file_that_a_pattern_finds_is_no_new_one(tmp_path: Path, way: str, size: int):
    """51, 52, 53: by its new name it is what was read already, now and after a restart."""
    log = Log(tmp_path)
    log.write(3, text="x" * size)
    config = FileSourceConfig(paths=(str(tmp_path / "app.log*"),), topic="t")
    source = FileSource(config, "f")
    assert _units(source, {}, 0.0) == ["app.log"]
    log.read(4, is_known=source._is_known)
    unit = Unit.of(filename=str(log.path))
    assert log.tail is not None
    source._tails[str(log.path)] = log.tail
    if way == "renamed":
        log.path.rename(log.old)
    else:
        shutil.copy(log.path, log.old)
        os.truncate(log.path, 0)
    # Nothing may be at the path now: it is read on all the same, also by who starts now.
    assert _units(source, {unit: log.position}, 1.0) == ["app.log"]
    assert _units(FileSource(config, "f"), {unit: log.position}, 0.0) == ["app.log"]
    log.write(3, text="y" * size)
    log.read()
    assert log.numbers == list(range(6))
    for now in (10.0, 20.0):
        assert _units(source, {unit: log.position}, now) == ["app.log"]
    again = FileSource(config, "f")
    assert _units(again, {unit: log.position}, 0.0) == ["app.log"]
    log.tail.close()


def test_files_that_begin_alike_are_each_their_own(tmp_path: Path):
    banner = "line 0 " + "=" * 2_000 + "\n"
    (tmp_path / "one.log").write_text(banner)
    config = FileSourceConfig(paths=(str(tmp_path / "*.log"),), topic="t")
    source = FileSource(config, "f")
    assert _units(source, {}, 0.0) == ["one.log"]
    tail = Tail(str(tmp_path / "one.log"), is_known=source._is_known)
    assert tail.read(0.0) is not None
    source._tails[tail.path] = tail
    (tmp_path / "two.log").write_text(banner)
    assert _units(source, {}, 0.0) == ["one.log"]  # it may be on its way to be something else
    assert _units(source, {}, 2.0) == ["one.log", "two.log"]
    tail.close()


def test_a_chain_of_rotated_files_that_are_all_read(tmp_path: Path):
    """Each path gets the file of the one before, which was read there."""
    paths = [tmp_path / name for name in ("app.log", "app.log.1", "app.log.2")]
    for number, path in enumerate(paths[:2]):
        path.write_text(f"line {number} {'z' * 2_000}\n")
    source = FileSource(FileSourceConfig(paths=(str(tmp_path / "app.log*"),), topic="t"), "f")
    assert _units(source, {}, 0.0) == ["app.log", "app.log.1"]
    tails = [Tail(str(path), rotate_wait_s=WAIT_S, is_known=source._is_known) for path in paths[:2]]
    source._tails |= {tail.path: tail for tail in tails}
    read: list[int] = []

    def read_all() -> None:
        for now in range(20):
            for tail in tails:
                found = tail.read(float(now))
                read.extend(int(line.split()[1]) for line in (found.lines if found else ()))

    read_all()
    paths[1].rename(paths[2])
    paths[0].rename(paths[1])
    paths[0].write_text(f"line 2 {'z' * 2_000}\n")
    read_all()
    assert _units(source, {}, 30.0) == ["app.log", "app.log.1"]
    read_all()
    assert sorted(read) == [0, 1, 2]
    for tail in tails:
        tail.close()
