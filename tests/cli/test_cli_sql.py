"""`raftlog sql` against a real broker, and on the folder of an app."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from raftlog import streams as rs
from raftlog.cli.streams import load
from raftlog.streams.database import Database
from raftlog.streams.plan import plan
from raftlog.streams.task import Task
from tests.cli.conftest import Run

APP = """
from raftlog import streams as rs

app = rs.App("visits")
seen = app.stream("clicks", value=rs.JSON)
seen.count("visits")
seen.window(rs.tumbling(size_s=10)).count("windows")
"""


def lines(raftlog: Run, *arguments: str) -> list[dict[str, object]]:
    found = raftlog("sql", "--format", "json", *arguments).stdout
    return [json.loads(line) for line in found.splitlines()]


def test_a_topic(raftlog: Run, name: str) -> None:
    raftlog("topic", "create", name, "-p", "3")
    text = b"".join(b'u%d:{"user":"u%d","ms":%d}\n' % (n % 7, n % 7, n) for n in range(3000))
    raftlog("produce", name, "-k", input=text)
    query = f'select user, count(*) as n, sum(ms) as ms from "{name}" group by all order by user limit 2'
    expected = [
        {"user": f"u{u}", "n": len(range(u, 3000, 7)), "ms": sum(range(u, 3000, 7))} for u in range(2)
    ]
    assert lines(raftlog, "--json", query) == expected
    shown = raftlog("sql", f'select count(*) as n, count(distinct partition) as p from "{name}"')
    assert shown.stdout == b"   n  p\n3000  3\n" and shown.stderr == b""
    found = raftlog("sql", "--format", "csv", f'select key, value from "{name}"').stdout.decode()
    rows = list(csv.reader(io.StringIO(found)))
    assert rows[0] == ["key", "value"] and len(rows) == 3001 and json.loads(rows[1][1])["user"] == rows[1][0]
    both = f'select count(*) as n from "{name}" a join "{name}" b using (partition, "offset")'
    assert lines(raftlog, both) == [{"n": 3000}]


def test_a_part_of_a_topic(raftlog: Run, name: str) -> None:
    raftlog("topic", "create", name, "-p", "1")
    raftlog("produce", name, input=b"a\nb\n")
    time.sleep(0.05)  # records before and after a moment
    moment = str(int(time.time() * 1000))
    raftlog("produce", name, input=b"c\nd\n")
    query = f'select string_agg(value, \'\' order by "offset") as v from "{name}"'
    for options, expected in {
        ("--from", "2"): "cd",
        ("--from", "-1"): "d",
        ("--from", f"s@{moment}"): "cd",
        ("--to", f"s@{moment}"): "ab",
        ("--from", "1", "--to", "3"): "bc",
        ("--from", "end"): None,
        ("-n", "3"): "abc",
        ("--from", "2100-01-01"): None,
    }.items():
        assert lines(raftlog, *options, query) == [{"v": expected}], options


def test_what_is_not_committed_is_left_out(raftlog: Run, name: str) -> None:
    raftlog("produce", name, input=b"a\n")
    producer = Producer({"bootstrap.servers": os.environ["RAFTLOG_BOOTSTRAP"], "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"aborted")
    producer.flush(30)
    producer.abort_transaction(30)
    raftlog("produce", name, input=b"b\n")
    producer.begin_transaction()
    producer.produce(name, b"open")
    producer.flush(30)
    query = f'select string_agg(value, \' \' order by "offset") as v from "{name}"'
    assert lines(raftlog, query) == [{"v": "a b"}]
    assert lines(raftlog, "--isolation", "read_uncommitted", query) == [{"v": "a aborted b open"}]
    producer.abort_transaction(30)
    assert lines(raftlog, query) == [{"v": "a b"}]


def test_what_goes_wrong(raftlog: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raftlog("topic", "create", name, "-p", "1")
    missing = raftlog("sql", f'select * from "{name[:-1]}"', code=1).stderr
    assert f"there is no topic '{name[:-1]}'; did you mean '{name}'?".encode() in missing
    assert b"syntax error" in raftlog("sql", "selec 1", code=1).stderr
    assert b'"nope" not found' in raftlog("sql", f'select nope from "{name}"', code=1).stderr
    raftlog("produce", name, input=b"x" * 700_000 + b"\n" + b"y" * 700_000 + b"\n")
    large = raftlog("sql", "--max-mib", "1", f'select count(*) from "{name}"', code=1).stderr
    assert b"has more than 1 MiB to read: take a part of it, with --from, --to or -n" in large
    assert lines(raftlog, "--max-mib", "1", "-n", "1", f'select count(*) as n from "{name}"') == [{"n": 1}]
    assert b"give one of them" in raftlog("sql", "--json", "--bytes", "select 1", code=2).stderr
    monkeypatch.setitem(sys.modules, "raftlog.cli.sql_tables", None)
    monkeypatch.delitem(sys.modules, "raftlog.cli.sql_tables")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert b"pip install 'raftlog[sql]' brings it" in raftlog("sql", "select 1", code=2).stderr


def test_no_broker_is_asked_for_what_needs_none(raftlog: Run) -> None:
    assert lines(raftlog, "--bootstrap", "127.0.0.1:1", "select 1 as one, [1, 2] as two") == [
        {"one": 1, "two": [1, 2]}
    ]


def test_many_rows(raftlog: Run) -> None:
    result = raftlog("sql", "select i from range(2500) t(i)")
    assert len(result.stdout.splitlines()) == 1001 and b"the first 1,000 rows" in result.stderr
    assert len(lines(raftlog, "select i from range(2500) t(i)")) == 2500


def worked(app: rs.App, path: Path, partition: int, count: int) -> Task:
    """A task that has read so many clicks, and written its rows."""
    found = plan(app)
    path.mkdir(parents=True)
    database = Database(str(path / "store.db"), [spec.name for spec in found.parts[0].stores])
    task = Task(found, found.parts[0], partition, database, writers={}, now_ms=100_000)
    task.restores({})
    task.start({})
    rows = [(n, n * 1000, b"p%d-u%d" % (partition, n % 3), b"{}", ()) for n in range(count)]
    task.add("clicks", rows)
    task.run()
    task.prepare()
    task.committed({})
    task.flush()
    return task


def test_the_stores_of_an_app(raftlog: Run, tmp_path: Path) -> None:
    file, state = tmp_path / "visits.py", tmp_path / "state"
    file.write_text(APP)
    sys.modules.pop("visits", None)
    app = load(f"{file}:app")
    running = worked(app, state / "visits" / "one" / "0-0", 0, 30)
    worked(app, state / "visits" / "two" / "0-0", 0, 12).close()  # of before partition 0 went to `one`
    worked(app, state / "visits" / "two" / "0-1", 1, 12).close()
    there = sorted(each for each in state.rglob("*") if each.is_file())
    given = ("--app", f"{file}:app", "--state", str(state), "--bootstrap", "127.0.0.1:1", "--json")
    result = raftlog("sql", *given, "select worker, key, value from visits order by key")
    assert result.stdout.splitlines()[1].split() == [b"one", b"p0-u0", b"10"]
    assert result.stdout.splitlines()[4].split() == [b"two", b"p1-u0", b"4"]
    assert result.stderr == b"1 older copies of tasks were left out\n"
    windows = lines(raftlog, *given, 'select key, time, "end", count from windows where partition = 0')
    assert len(windows) == 3 and windows[0] == {
        "key": "p0-u0", "time": "1970-01-01T00:00:20.000Z", "end": 30_000, "count": 3
    }  # fmt: skip
    assert lines(raftlog, *given, "-n", "1", "select count(*) as n from visits") == [{"n": 2}]
    assert sorted(each for each in state.rglob("*") if each.is_file()) == there
    running.close()
    nothing = raftlog("sql", *given[:2], "--state", str(tmp_path / "none"), "select * from visits")
    assert b"has nothing of store 'visits'" in nothing.stderr
