"""raftlog's own connectors keep the contract that `raftlog.testing.connect` has for everybody's."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect.contract import Sink, Source, SourceRecord
from raftlog.connect.errors import Refused
from raftlog.connect.file_sink import FileSink, FileSinkConfig
from raftlog.connect.file_source import FileSource, FileSourceConfig
from raftlog.connect.generator import Generator, GeneratorConfig
from raftlog.connect.progress import Progress
from raftlog.connect.sqlite_sink import SqliteConfig, SqliteSink
from raftlog.connect.stdout import Stdout, StdoutConfig
from raftlog.errors import ConfigError
from raftlog.testing.connect import P0, SinkContract, SourceContract, record


class TestSqliteSink(SinkContract):
    """60, 61, 62."""

    exactly_once = True

    def make(self, folder: Path) -> Sink:
        return SqliteSink(SqliteConfig(path=str(folder / "w.db"), place=False), "w")

    def contents(self, folder: Path) -> Sequence[bytes]:
        with sqlite3.connect(folder / "w.db") as sql:
            rows = sql.execute("select n from things order by rowid").fetchall()
        sql.close()
        return [json.dumps({"n": n}).encode() for (n,) in rows]

    def refused(self, key: TopicPartition, offset: int) -> Record:
        return record(key, offset)._replace(value=b"[1]")


class TestFileSink(SinkContract):
    exactly_once = True

    def make(self, folder: Path) -> Sink:
        return FileSink(FileSinkConfig(path=str(folder), roll_bytes=100, roll_s=0.0), "f")

    def contents(self, folder: Path) -> Sequence[bytes]:
        return [
            line for path in sorted(folder.glob("things/*/*.jsonl")) for line in path.read_bytes().split()
        ]

    def refused(self, key: TopicPartition, offset: int) -> Record:
        return record(key, offset)._replace(value=b"two\nlines")

    # A line has a space after its colon.
    def _there(self, folder: Path, *, of: int) -> list[int]:
        lines = [
            line
            for path in sorted(folder.glob(f"things/{of}/*.jsonl"))
            for line in path.read_text().splitlines()
        ]
        return [int(json.loads(line)["n"].split("/")[1]) for line in lines]


class TestStdout(SinkContract):
    @pytest.fixture(autouse=True)
    def _captured(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.printed, self.capsys = "", capsys

    def make(self, folder: Path) -> Sink:
        return Stdout(StdoutConfig(), "s")

    def contents(self, folder: Path) -> Sequence[bytes]:
        self.printed += self.capsys.readouterr().out
        return [line.encode() for line in self.printed.splitlines()]


class Forgetful(Sink):
    """A sink that breaks the contract on purpose, in one way."""

    Config = StdoutConfig

    def __init__(self, path: Path, wrong: str) -> None:
        super().__init__(None, "w")
        self._path, self._wrong = path, wrong
        self._buffer: list[Record] = []
        self._progress = Progress()

    async def open(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        return {}

    async def write(self, records: Sequence[Record]) -> None:
        self._buffer += records
        if self._wrong == "flush tells of what is in memory only":
            self._progress.took(records)
        if self._wrong == "a closed partition is written":
            return
        if self._wrong == "it writes twice":
            self._buffer += records[-1:]

    async def flush(self) -> dict[TopicPartition, int]:
        if self._wrong != "flush tells of what is in memory only" or len(self._buffer) > 10:
            with self._path.open("ab") as file:
                for each in self._buffer:
                    file.write((each.value or b"") + b"\n")
            self._progress.took(self._buffer)
            self._buffer.clear()
        return self._progress.offsets

    async def skip(self, record: Record) -> None:
        if self._wrong != "skip is ignored":
            self._progress.took([record])

    async def close(self, partitions: frozenset[TopicPartition]) -> None:
        if self._wrong == "a closed partition is written":
            return
        self._buffer = [e for e in self._buffer if TopicPartition(e.topic, e.partition) not in partitions]
        self._progress.forget(partitions)


@pytest.mark.parametrize(
    ("wrong", "test"),
    [
        ("flush tells of what is in memory only", "a_crash_before_the_offsets_are_committed_loses_nothing"),
        ("a closed partition is written", "a_partition_that_is_closed_is_forgotten"),
        ("it writes twice", "what_is_written_and_flushed_is_there_in_order"),
        ("skip is ignored", "a_record_that_is_left_out_counts_as_written"),
    ],
)
async def test_the_contract_finds_what_breaks_it(
    wrong: str, test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftlog.testing.connect.PATIENCE_S", 0.3)

    class Judge(SinkContract):
        exactly_once = True

        def make(self, folder: Path) -> Sink:
            return Forgetful(folder / "lines", wrong)

        def contents(self, folder: Path) -> Sequence[bytes]:
            return (folder / "lines").read_bytes().splitlines() if (folder / "lines").exists() else []

    with pytest.raises((AssertionError, BaseException)) as failed:
        await getattr(Judge(), f"test_{test}")(tmp_path)
    assert failed.type.__name__ in ("AssertionError", "TooSlowError"), failed.value


async def test_the_contract_takes_what_keeps_it(tmp_path: Path) -> None:
    class Judge(SinkContract):
        def make(self, folder: Path) -> Sink:
            return Forgetful(folder / "lines", "nothing")

        def contents(self, folder: Path) -> Sequence[bytes]:
            return (folder / "lines").read_bytes().splitlines()

    for number, test in enumerate(name for name in dir(Judge) if name.startswith("test_")):
        folder = tmp_path / str(number)
        folder.mkdir()
        await getattr(Judge(), test)(folder)


class TestFileSource(SourceContract):
    def make(self, folder: Path) -> Source:
        return FileSource(FileSourceConfig(paths=(str(folder / "*.log"),), topic="t"), "f")

    def feed(self, folder: Path, values: Sequence[str]) -> None:
        with (folder / "a.log").open("a") as file:
            file.writelines(f"{value}\n" for value in values)


class TestGenerator(SourceContract):
    """It has its own values: what is fed is what it gives."""

    def make(self, folder: Path) -> Source:
        return Generator(GeneratorConfig(topic="t", per_second=0, batch=5), "g")

    def feed(self, folder: Path, values: Sequence[str]) -> None:
        pass

    def value(self, made: SourceRecord) -> str:
        number = json.loads(made.value or b"")["number"]
        return f"word-{number}" if number < 10 else f"more-{number - 10}"

    async def test_what_is_fed_is_read_once_in_order(self, tmp_path: Path) -> None:
        source = Generator(GeneratorConfig(topic="t", per_second=0, batch=7, count=20), "g")
        values, positions = await self._read(source, {}, 20)
        assert [int(value.split("-")[1]) for value in values] == [*range(10), *range(10)]
        assert [after for after, *_ in positions] == [7, 14, 20]


async def test_folders_of_a_file_sink_are_synced_before_its_files_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut would take a folder that was only made, with all that is in it."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    sink = FileSink(FileSinkConfig(path=str(tmp_path / "a" / "b"), roll_s=0.0), "f")
    await sink.open(frozenset([P0]))
    assert {str(tmp_path / each) for each in ("", "a", "a/b", "a/b/things")} <= set(synced)
    await sink.aclose()


@pytest.mark.parametrize(
    ("values", "said", "there"),
    [
        (['{"é": 1}', '{"É": 2}'], None, [(1, None), (None, 2)]),
        (['{"a": 1}', '{"A": 2, "a": 3}'], "differ in capitals only", [(1,)]),
    ],
)
async def test_columns_are_told_apart_as_sqlite_does(
    values: list[str], said: str | None, there: list[Any], tmp_path: Path
) -> None:
    """By letters of ASCII alone: what is not one column must not end the sink, nor hide a field."""
    sink = SqliteSink(SqliteConfig(path=str(tmp_path / "w.db"), place=False), "w")
    await sink.open(frozenset([P0]))
    first, second = (record(P0, n)._replace(value=value.encode()) for n, value in enumerate(values))
    await sink.write([first])
    with nullcontext() if said is None else pytest.raises(Refused, match=said):
        await sink.write([second])
    await sink.aclose()
    with closing(sqlite3.connect(tmp_path / "w.db")) as sql:
        assert sql.execute("select * from things order by rowid").fetchall() == there


@pytest.mark.parametrize(
    ("columns", "ids", "key", "left"),
    [
        (None, "[1, 2]", "1", [2]),
        (None, '[1, "1", "a", "1.0"]', "1", ["1.0", "a"]),
        (None, "[1.5, 100.0, -3]", "1.5", [-3, 100.0]),
        (None, "[1.5, 100.0, -3]", "1e2", [-3, 1.5]),
        (None, "[1, 1.5, 10]", "-1", [1, 1.5, 10]),
        (None, '[0, 1, "01", "x"]', "01", [0, 1, "x"]),
        (None, '[0, 1, "true"]', "true", [0, 1]),
        (None, "[123456789012345678901, 5]", "123456789012345678901", [5]),
        pytest.param(None, "[1]", "1" * 5000, [1], id="more digits than Python reads"),
        ("id integer primary key", '[1, "2", 3]', "2", [1, 3]),
        ("id text primary key", '["1.5", "1.50", 2]', "1.50", ["1.5", "2"]),
        ("id text primary key", '["1.5", "1.50", 2]', "2", ["1.5", "1.50"]),
    ],
)
async def test_a_row_is_deleted_by_its_key_whether_it_is_a_number_or_a_text(
    columns: str | None, ids: str, key: str, left: list[Any], tmp_path: Path
) -> None:
    """A table that the sink made has numbers as numbers. Others' rows stay."""
    path = tmp_path / "w.db"
    if columns is not None:
        with closing(sqlite3.connect(path)) as sql:
            sql.execute(f"create table things ({columns})")
    sink = SqliteSink(SqliteConfig(path=str(path), place=False, upsert_by=("id",)), "w")
    await sink.open(frozenset([P0]))
    values = [json.dumps({"id": one}).encode() for one in json.loads(ids)]
    await sink.write([record(P0, n)._replace(value=value) for n, value in enumerate(values)])
    await sink.write([record(P0, len(values))._replace(value=None, key=key.encode())])
    await sink.aclose()
    with closing(sqlite3.connect(path)) as sql:
        assert [one for (one,) in sql.execute("select id from things order by id")] == left


async def test_a_row_is_deleted_by_the_index(tmp_path: Path) -> None:
    """To look at each row for each delete would take a large table hours."""
    sink = SqliteSink(SqliteConfig(path=str(tmp_path / "w.db"), place=False, upsert_by=("id",)), "w")
    await sink.open(frozenset([P0]))
    await sink.write([record(P0, 0)._replace(value=b'{"id": 1}')])
    asked: list[str] = []
    sink._connected().set_trace_callback(asked.append)
    await sink.write([record(P0, 1)._replace(value=None, key=b"1")])
    deletes = [text for text in asked if text.startswith("delete")]
    assert deletes
    for text in deletes:
        plan = [step[3] for step in sink._connected().execute(f"explain query plan {text}")]
        assert plan == ["SEARCH things USING INDEX things_by (id=?)"]
    await sink.aclose()


@pytest.mark.parametrize("name", ["raftlog_offsets", "Raftlog_Offsets", "sqlite_x"])
async def test_a_table_that_is_anothers_is_refused_before_anything_is_written(
    name: str, tmp_path: Path
) -> None:
    """Records could change the offsets themselves."""
    with pytest.raises(ConfigError, match="another name"):
        SqliteConfig(path="w.db", table=name)
    sink = SqliteSink(SqliteConfig(path=str(tmp_path / "w.db")), "w")
    with pytest.raises(ConfigError, match="another name"):
        await sink.open(frozenset([TopicPartition(name, 0)]))
    await sink.aclose()


async def test_files_tell_also_of_records_that_were_left_out(tmp_path: Path) -> None:
    """Else each start would send their dead letters again, and miss them once they are gone."""
    for first in (0, 3):
        sink = FileSink(FileSinkConfig(path=str(tmp_path), roll_s=0.0), "f")
        assert (await sink.open(frozenset([P0]))).get(P0, 0) == first
        for offset in range(first, first + 3):
            await sink.skip(record(P0, offset))
        assert await sink.flush() == {P0: first + 3}
        await sink.aclose()
