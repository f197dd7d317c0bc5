"""What a worker answers about its stores: what is committed, and no more than it was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from raftlog import streams as rs
from raftlog.streams.queries import TIME_MAX, BadKey, Elsewhere, NotYet, Queries, Unknown
from raftlog.streams.task import Task


class Seats:
    """A worker that has some of a driver's tasks."""

    def __init__(self, d: rs.Driver) -> None:
        self.plan = d.plan
        self.tasks: list[Task] = d.tasks
        self.restored_later: list[int] = []
        self.counts = {part.number: len(d.tasks) for part in d.plan.parts}

    def restoring(self, part: int) -> list[int]:
        return self.restored_later

    def count(self, part: int) -> int | None:
        return self.counts.get(part)


def ask(answer: Callable[..., str], *arguments: Any) -> Any:
    return json.loads(answer(*arguments))


def counting(value: rs.Serde = rs.JSON, key: rs.Serde = rs.TEXT) -> rs.App:
    app = rs.App("asked")
    app.stream("in", key=key, value=value).count("counts")
    return app


def windowed() -> rs.App:
    app = rs.App("asked")
    stream = app.stream("in", value=rs.JSON)
    stream.window(rs.hopping(size_s=20, every_s=10)).aggregate(
        "means", rs.fields(n=rs.count(), mean=rs.mean("x"))
    )
    stream.window(rs.session(gap_s=10)).count("bursts")
    return app


@pytest.mark.parametrize("flush", [True, False])
def test_what_is_not_committed_is_not_told(flush: bool):
    with rs.driver(counting(), autocommit=False, flush=flush) as d:
        queries = Queries(Seats(d))
        for _ in range(2):
            d.feed("in", 1, key="a")
        with pytest.raises(Unknown, match="does not have the key"):
            queries.row("counts", "a", 10)
        d.commit()
        d.feed("in", 1, key="a")
        d.feed("in", 1, key="b")
        assert ask(queries.row, "counts", "a", 10) == {"key": "a", "value": 2, "partition": 0}
        assert ask(queries.rows, "counts", 10) == {
            "rows": [{"key": "a", "value": 2, "partition": 0}],
            "complete": True,
            "restoring": [],
        }


def test_an_aggregate_is_told_as_its_result_and_not_as_it_is_kept():
    with rs.driver(windowed()) as d:
        queries = Queries(Seats(d))
        for x, at in ((1, 10_000), (2, 19_000)):
            d.feed("in", {"x": x}, key="s", at=at)
        assert ask(queries.row, "means", "s", 10) == {
            "key": "s",
            "windows": [
                {"start": 0, "end": 20_000, "n": 2, "mean": 1.5},
                {"start": 10_000, "end": 30_000, "n": 2, "mean": 1.5},
            ],
            "partition": 0,
        }
        assert ask(queries.row, "bursts", "s", 10)["windows"] == [
            {"start": 10_000, "end": 19_000, "count": 2}
        ]
        assert len(ask(queries.row, "means", "s", 1)["windows"]) == 1
        assert [row["start"] for row in ask(queries.rows, "means", 10, 5_000, 15_000)["rows"]] == [10_000]


@pytest.mark.parametrize("flush", [True, False])
def test_a_window_that_closed_is_told_until_its_commit_and_not_after(flush: bool):
    with rs.driver(windowed(), autocommit=False, flush=flush) as d:
        queries = Queries(Seats(d))
        d.feed("in", {"x": 1}, key="s", at=10_000)
        d.commit()
        d.feed("in", {"x": 1}, key="s", at=25_000)
        for name in ("means", "bursts"):
            before = ask(queries.row, name, "s", 10)["windows"]
            assert len(before) == {"means": 2, "bursts": 1}[name]
            assert [{**w, "key": "s", "partition": 0} for w in before] == ask(queries.rows, name, 10)["rows"]
        d.commit()
        for name, starts in (("means", [10_000, 20_000]), ("bursts", [25_000])):
            assert [w["start"] for w in ask(queries.row, name, "s", 10)["windows"]] == starts
            assert [w["start"] for w in ask(queries.rows, name, 10)["rows"]] == starts


def test_a_session_that_grew_is_told_as_it_was_until_the_commit():
    with rs.driver(windowed(), autocommit=False) as d:
        queries = Queries(Seats(d))

        def told() -> list[tuple[int, int]]:
            one = [(w["end"], w["count"]) for w in ask(queries.row, "bursts", "s", 10)["windows"]]
            every = [(w["end"], w["count"]) for w in ask(queries.rows, "bursts", 10)["rows"]]
            assert one == every
            return one

        d.feed("in", {"x": 1}, key="s", at=10_000)
        d.commit()
        d.feed("in", {"x": 1}, key="s", at=12_000)
        assert told() == [(10_000, 1)]
        d.commit()
        assert told() == [(12_000, 2)]


@pytest.mark.parametrize("flush", [True, False])
def test_an_answer_is_bounded_and_says_whether_it_is_all(flush: bool):
    with rs.driver(counting(), partitions=2, flush=flush) as d:
        queries = Queries(Seats(d))
        for number in range(50):
            d.feed("in", 1, key=f"k{number:02}")
        some = ask(queries.rows, "counts", 30)
        assert (len(some["rows"]), some["complete"]) == (30, False)
        every = ask(queries.rows, "counts", 50)
        assert ({row["key"] for row in every["rows"]}, every["complete"]) == (
            {f"k{n:02}" for n in range(50)},
            True,
        )
        d.feed("in", 1, key="k00")
        assert sum(row["value"] for row in ask(queries.rows, "counts", 1000)["rows"]) == 51


def test_large_values_end_an_answer_early(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raftlog.streams.queries.ANSWER_BYTES_MAX", 1000)
    app = rs.App("large")
    app.stream("in", value=rs.TEXT).to_table("kept")
    with rs.driver(app) as d:
        for number in range(5):
            d.feed("in", "x" * 300, key=str(number))
        found = ask(Queries(Seats(d)).rows, "kept", 100)
        assert (len(found["rows"]), found["complete"]) == (2, False)


def test_a_row_that_is_gone_is_not_told_flushed_or_not():
    app = rs.App("gone")
    app.table("rows", name="rows", value=rs.TEXT)
    with rs.driver(app, flush=False) as d:
        queries = Queries(Seats(d))
        for key in ("a", "b"):
            d.feed("rows", "x", key=key)
        d.flush()
        d.feed("rows", None, key="a")
        assert [row["key"] for row in ask(queries.rows, "rows", 10)["rows"]] == ["b"]
        with pytest.raises(Unknown):
            queries.row("rows", "a", 10)


def test_who_has_a_key_elsewhere_or_not_yet_is_told_apart():
    with rs.driver(counting(), partitions=4) as d:
        seats = Seats(d)
        queries = Queries(seats)
        d.feed("in", 1, key="a")
        owner = next(task.partition for task in d.tasks if task.store("counts").get("a"))
        seats.tasks = [task for task in d.tasks if task.partition != owner]
        with pytest.raises(Elsewhere, match="has 4 partitions"):
            queries.row("counts", "a", 10)
        seats.restored_later = [owner]
        with pytest.raises(NotYet, match="restored"):
            queries.row("counts", "a", 10)
        assert ask(queries.rows, "counts", 10)["restoring"] == [owner]
        seats.restored_later, seats.counts = [], {}
        with pytest.raises(NotYet):
            queries.row("counts", "a", 10)
        with pytest.raises(Unknown, match="there is counts"):
            queries.rows("other", 10)


def test_keys_and_values_of_all_serdes_are_told():
    with rs.driver(counting(key=rs.INT)) as d:
        queries = Queries(Seats(d))
        d.feed("in", 1, key=-7)
        assert ask(queries.row, "counts", "-7", 10)["key"] == -7
        with pytest.raises(BadKey, match="int64"):
            queries.row("counts", "seven", 10)
    app = rs.App("bytes")
    app.stream("in", key=rs.BYTES, value=rs.BYTES).to_table("kept")
    with rs.driver(app) as d:
        d.feed("in", b"\xff", key=b"a/b")
        assert ask(Queries(Seats(d)).row, "kept", "a/b", 1)["value"] == {"base64": "/w=="}


def test_stores_and_health_are_told():
    with rs.driver(windowed()) as d:
        queries = Queries(Seats(d))
        assert [(each["name"], each["kind"]) for each in ask(queries.stores)] == [
            ("means", "windows"),
            ("bursts", "windows"),
        ]
        assert ask(queries.health) == {"app": "asked", "running": 1, "restoring": 0}
        assert ask(queries.rows, "means", 1, 0, TIME_MAX)["rows"] == []
