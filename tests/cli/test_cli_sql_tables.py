"""The tables of `raftlog sql`: what a query names, what columns there are, and what it cannot do."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftlog.cli.sql import _PRINTERS, _place, _until
from raftlog.cli.sql_tables import SqlError, Tables
from raftlog.cli.times import Place, parse_time
from raftlog.client.record import Record

ENDS_MAX_S = 20.0
"""After Ctrl-C, on a slow machine. The queries take many times as long."""


def tables(raw: bool = False) -> Tables:
    return Tables(bytes_max=64 << 20, raw=raw)


def records(*values: bytes | None, key: bytes | None = b"k") -> list[Record[bytes, bytes]]:
    return [Record("t", 0, at, 1_700_000_000_000 + at, key, value, ()) for at, value in enumerate(values)]


def answer(of: Tables, query: str) -> list[tuple[Any, ...]]:
    return [row for rows in of.ask(query)[1] for row in rows]


@pytest.fixture
def clicks() -> Iterator[Tables]:
    found = tables()
    found.add_topic("clicks")
    yield found
    found.close()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("select 1", []),
        ("from orders", ["orders"]),
        ('select * from "page.views" join b using (x)', ["b", "page.views"]),
        ("with q as (select * from a) select * from q where x in (select y from b)", ["a", "b"]),
        ("with Q as (select * from a) select * from q", ["a"]),
        ("with clicks as (select 1 as n) select * from clicks", []),
        ("with clicks as (select * from Clicks) select * from clicks", ["Clicks"]),
        ("with a as (select 1), b as (select * from a) select * from (with c as (from b) from c), c", ["c"]),
        ("with a as (from b), b as (select 1) select * from a, b", ["b"]),
        ("with recursive a as (select 1 as n union all select n + 1 from a where n < 3) from a", []),
        ("with a as (select 1) select * from main.a", ["a"]),
        ('summarize "a-b"', ["a-b"]),
        ("select * from a union all select (select max(x) from c) from b", ["a", "b", "c"]),
    ],
)
def test_what_a_query_reads(clicks: Tables, query: str, names: list[str]) -> None:
    assert clicks.named(query) == names


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("selec 1", "syntax error"),
        ("select 1; select 2", "one SELECT"),
        ("", "one SELECT"),
        ("select * from my-topic where x = 1", r'near "-"\. If my-topic is a topic, .*: from "my-topic"'),
        ("select * from a Join b-2.c on true", r'If b-2\.c is a topic, .*: from "b-2\.c"'),
        ("select * from 2024.orders", r'If 2024\.orders is a topic, .*: from "2024\.orders"'),
        ("select * from order", r'near "order"\. If order is a topic, .*: from "order"'),
        ("select * from page.views", r'name has a dot stands in double quotes: "page\.views"'),
        ("select * from eu.page.views", r'double quotes: "eu\.page\.views"'),
        ("select - from clicks", r'near "from"$'),
        ("copy clicks to 'x.csv'", "Only SELECT"),
        ("drop table clicks", "Only SELECT"),
        ("set memory_limit = '1TB'", "Only SELECT"),
    ],
)
def test_what_is_no_query(clicks: Tables, query: str, said: str) -> None:
    with pytest.raises(SqlError, match=said):
        clicks.named(query)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("with clicks as (select 7 as n) select n from clicks", [(7,)]),
        ("with clicks as (select value from clicks) select * from clicks", [("a",), ("b",)]),
        (
            "with Clicks as (select 7 as n) select n from clicks union all select count(*) from main.clicks",
            [(7,), (2,)],
        ),
    ],
)
def test_what_a_query_makes_itself_comes_before_a_topic(
    clicks: Tables, query: str, rows: list[object]
) -> None:
    clicks.add_records("clicks", records(b"a", b"b"))
    assert set(clicks.named(query)) <= {"clicks"}
    assert answer(clicks, query) == rows


def test_columns_of_a_topic(clicks: Tables) -> None:
    clicks.add_records("clicks", records(b"a", None))
    headers = (("trace", b"1"), ("trace", None))
    clicks.add_records("clicks", [Record("clicks", 3, 7, -1, None, b"\xff\x00", headers)])
    rows = answer(clicks, 'select * from clicks order by partition, "offset"')
    assert [row[:2] for row in rows] == [(0, 0), (0, 1), (3, 7)]
    assert [row[3:5] for row in rows] == [("k", "a"), ("k", None), (None, "\\xff\x00")]
    assert rows[0][2].isoformat() == "2023-11-14T22:13:20" and rows[2][2] is None
    assert rows[0][5] == [] and rows[2][5] == [
        {"key": "trace", "value": "1"},
        {"key": "trace", "value": None},
    ]


def test_bytes_as_they_are() -> None:
    found = tables(raw=True)
    found.add_topic("t")
    found.add_records("t", [Record("t", 0, 0, 0, b"\xff", None, (("h", b"\x00"),))])
    assert answer(found, "select key, value, headers[1].value from t") == [(b"\xff", None, b"\x00")]


def test_columns_from_json(clicks: Tables) -> None:
    values = (
        b'{"user": {"id": 7}, "ms": 1.5, "partition": "eu"}',
        b'{"ms": 2, "tags": ["a", "b"]}',
        b"none",
        None,
    )
    clicks.add_records("clicks", records(*values))
    assert clicks.spread("clicks") == 1
    rows = answer(
        clicks, 'select user.id, ms, tags, partition, value.partition from clicks order by "offset"'
    )
    assert rows[:2] == [(7, 1.5, None, 0, "eu"), (None, 2.0, ["a", "b"], 0, None)]
    assert rows[2:] == [(None, None, None, 0, None)] * 2


def test_members_that_differ_in_case_only(clicks: Tables) -> None:
    clicks.add_records("clicks", records(b'{"user": {"Id": 7, "id": 8}, "User": 1, "ms": 1}'))
    assert clicks.spread("clicks") == 0
    query = "select ms, user->>'Id', user->>'id', value->>'User' from clicks"
    assert answer(clicks, query) == [(1, "7", "8", "1")]


def test_json_that_is_no_object_gives_value_its_type(clicks: Tables) -> None:
    clicks.add_records("clicks", records(b"1", b"2"))
    assert clicks.spread("clicks") == 0
    assert answer(clicks, "select sum(value) from clicks") == [(3,)]


def test_json_of_nothing_and_of_everything(clicks: Tables) -> None:
    assert clicks.spread("clicks") == 0
    clicks.add_records("clicks", records(b"1", b'{"a": 1}', b"[2]", b'"it\'s"'))
    assert clicks.spread("clicks") == 0
    rows = answer(clicks, "select value->>'$.a', value::varchar from clicks order by \"offset\"")
    assert [row[0] for row in rows] == [None, "1", None, None] and rows[3][1] == '"it\'s"'


def test_a_member_without_a_name_is_no_column(clicks: Tables) -> None:
    clicks.add_records("clicks", records(b'{"": 1, "ms": 2, "user": {"": 3}}'))
    assert clicks.spread("clicks") == 0
    assert answer(clicks, "select ms, user::varchar, value->>'ms' from clicks") == [(2, '{"":3}', "2")]


def test_json_that_is_nested_too_deeply_stays_json(clicks: Tables) -> None:
    clicks.add_records("clicks", records(b"[" * 900 + b"]" * 900, b'{"ms": 1}'))
    assert clicks.spread("clicks") == 0
    assert answer(clicks, "select value->>'ms' from clicks order by \"offset\"") == [(None,), ("1",)]


def test_a_time_that_is_none_holds_up_nothing(clicks: Tables) -> None:
    """Nanoseconds that a producer took for milliseconds, for instance."""
    for at in (1_700_000_000_000_000_000, (1 << 63) - 1):
        clicks.add_records("clicks", [Record("clicks", 0, 0, at, None, None, ())])
    assert answer(clicks, "select timestamp from clicks") == [(None,), (None,)]


@pytest.mark.parametrize("output", sorted(_PRINTERS))
def test_whatever_an_answer_has_is_printed(
    clicks: Tables, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks.add_records("clicks", records(b"1"))
    query = "select histogram(timestamp) as h, map(['k'::blob], [1.5]) as m, 'nan'::double as x from clicks"
    _PRINTERS[output](*clicks.ask(query))
    assert "2023-11-14T22:13:20.000Z" in (shown := capsys.readouterr().out)
    if output == "json":
        expected = {"h": {"2023-11-14T22:13:20.000Z": 1}, "m": {"k": 1.5}, "x": "nan"}
        assert json.loads(shown, parse_constant=lambda name: pytest.fail(name)) == expected


def test_columns_of_one_name_are_told_apart(clicks: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    clicks.add_records("clicks", records(b"a", b"b"))
    query = 'select l.value, r.value, 1 as value_1 from clicks l join clicks r on l."offset" < r."offset"'
    _PRINTERS["json"](*clicks.ask(query))
    assert json.loads(capsys.readouterr().out) == {"value": "a", "value_1": "b", "value_1_1": 1}


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('{path}')",
        "select * from '{path}'",
        "select * from glob('{folder}/*')",
        "select * from read_text('{path}')",
        "select * from sqlite_scan('{path}', 't')",
        "select * from parquet_scan('https://127.0.0.1:1/x')",
        "copy (select 1) to '{folder}/out.csv'",
        "attach '{folder}/out.db'",
        "export database '{folder}/out'",
        "install httpfs",
        "load '{path}'",
        "set enable_external_access = true",
        "set memory_limit = '1TB'",
        "set temp_directory = '{folder}/spill'",
        "select * from batch",
        "select * from os",
    ],
)
def test_a_query_reaches_no_file_and_changes_no_setting(clicks: Tables, query: str, tmp_path: Path) -> None:
    path = tmp_path / "secret.csv"
    path.write_text("a,b\n1,2\n")
    clicks.add_records("clicks", records(b"1"))
    with pytest.raises(SqlError):
        answer(clicks, query.format(path=path, folder=tmp_path))
    assert os.listdir(tmp_path) == ["secret.csv"]


def test_a_query_that_needs_more_memory_fails_and_says_so() -> None:
    found = Tables(bytes_max=1 << 20, raw=False)
    with pytest.raises(SqlError, match="more than DuckDB's 516 MiB here"):
        answer(found, "select list(i::varchar || repeat('x', 100)) from range(30_000_000) t(i)")


SCAN = "select max(sin(range)) from range(10_000_000_000_000)"
JOIN = "select count(*) from range(100_000_000) a, range(1000) b where hash(a.range, b.range) = 1"
RECURSION = (
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1e9) select max(i) from n"
)


@pytest.mark.parametrize(
    ("query", "after_s"),
    [*((SCAN, after_s) for after_s in (0.1, 0.15, 0.2, 0.25, 0.3)), (JOIN, 0.5), (RECURSION, 0.5)],
)
def test_ctrl_c_ends_a_query(query: str, after_s: float) -> None:
    """Whichever thread of DuckDB has the query. DuckDB needs minutes to join one chunk of these tables.
    Ctrl-C does not wait until a chunk is joined."""
    found, pressed = tables(), [0.0]

    def press() -> None:
        pressed[0] = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after_s, press)
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        answer(found, query)
    assert time.monotonic() - pressed[0] < ENDS_MAX_S
    timer.join()
    assert found.named("select 1") == []


def test_places() -> None:
    assert _place("beginning") == Place("beginning")
    assert _place("-10") == Place("last", 10)
    assert _place("10") == Place("offset", 10)
    day = Place("time", parse_time("2026-11-21"))
    assert _place("2026-11-21") == _place("s@2026-11-21") == _until("2026-11-21") == day
    assert _until("end") == Place("end")
    for text in ("stored", "e@1", "2026-13-01", "middle"):
        with pytest.raises(ValueError, match="is no"):
            _place(text)
    for text in ("beginning", "-5"):
        with pytest.raises(ValueError, match="is no place to end"):
            _until(text)
