"""examples/logs: by the driver; the page in docs/examples runs it on a broker."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from examples.logs import lines
from examples.logs.app import app, is_alarming
from raftlog import streams as rs


def fields(line: lines.Line) -> dict[str, str]:
    at, service, level, text = str(line).split(" ", 3)
    return {"at": at, "service": service, "level": level, "text": text}


def test_the_app_tells_the_rates_that_a_look_at_all_lines_gives() -> None:
    given = lines.hour()
    wanted = lines.expected(given)
    with rs.driver(app, partitions=4, autocommit=False) as d:
        for each in given:
            d.feed("logs", fields(each), key=each.service, at=each.at_ms)
        d.commit()
        told = [got.value for got in d.read("error-rates")]
        alerts = [got.value for got in d.read("log-alerts")]
    assert {(row["service"], row["minute"]): (row["lines"], row["errors"]) for row in told} == wanted
    assert len(told) == len(wanted)
    assert {(row["service"], row["minute"]) for row in alerts} == lines.alarming(wanted) != set()
    assert all(is_alarming(row) for row in alerts)


def test_a_line_that_comes_too_late_is_kept_apart() -> None:
    def line(second: int) -> dict[str, str]:
        return {"at": f"2026-11-29T12:{second // 60:02}:{second % 60:02}.000Z", "level": "INFO", "text": ""}

    with rs.driver(app) as d:
        d.now_ms = 2_000_000_000_000
        for second in (30, 75, 20):
            d.feed("logs", line(second), key="search")
        assert [got.value["lines"] for got in d.read("error-rates")] == [1]
        assert [got.value for got in d.read("logs-late")] == [line(20)]


def test_the_verdict_finds_what_is_missing_doubled_and_wrong(tmp_path: Path) -> None:
    given = lines.hour()
    wanted = lines.expected(given)
    path = tmp_path / "logs.db"
    assert lines.judge(path, given).missing == len(given) + len(wanted) + len(lines.alarming(wanted))
    with sqlite3.connect(path) as sql:
        sql.execute("create table logs (text)")
        sql.execute('create table "error-rates" (service, minute, lines, errors)')
        sql.execute('create table "log-alerts" (service, minute)')
        sql.executemany("insert into logs values (?)", [(each.text,) for each in given])
        sql.executemany(
            'insert into "error-rates" values (?, ?, ?, ?)',
            [(*key, *counts) for key, counts in wanted.items()],
        )
        sql.executemany('insert into "log-alerts" values (?, ?)', lines.alarming(wanted))
    assert lines.judge(path, given).is_right
    with sql:
        sql.execute("insert into logs values ('once more')")
        sql.execute('update "error-rates" set errors = errors + 1 where rowid = 1')
        sql.execute('delete from "log-alerts" where rowid = 1')
    sql.close()
    found = lines.judge(path, given)
    assert (found.missing, found.doubled, found.wrong) == (1, 1, 1)
