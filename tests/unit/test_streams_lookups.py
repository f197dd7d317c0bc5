"""Asynchronous functions, by the driver: order, bounds, time-outs, and the rule on errors."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from raftlog import streams as rs

TIMES: dict[str, float] = {"a": 3.0, "b": 1.0, "c": 2.0, "hang": float("inf")}


async def look_up(value: str) -> str:
    if value == "bad":
        raise ValueError("nobody knows")
    await trio.sleep(TIMES.get(value, 0.0))
    return value.upper()


def looking_up(**settings: Any) -> rs.App:
    app = rs.App("app", **settings)
    app.stream("in", value=rs.TEXT).async_map(look_up, timeout_s=10).to("out", value=rs.TEXT)
    return app


def out(d: rs.Driver) -> list[str]:
    return [got.value for got in d.read("out")]


def test_answers_keep_the_order_of_their_records() -> None:
    with rs.driver(looking_up()) as d:
        d.crash()
        for value in ("a", "b", "c", "d"):
            d.feed("in", value)
        d.restart()
        assert out(d) == ["A", "B", "C", "D"]


def test_so_many_are_under_way_at_a_time_and_all_begin_before_the_first_has_ended() -> None:
    now, most = [0], [0]

    async def count(value: str) -> str:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await trio.sleep(1)
        now[0] -= 1
        return value

    app = rs.App("app")
    stream = app.stream("in", value=rs.TEXT).flat_map(str.split)
    stream.async_map(count, concurrency=3).async_map(count, concurrency=2).to("out", value=rs.TEXT)
    with rs.driver(app) as d:
        d.feed("in", "a b c d e f g h")
        assert "".join(out(d)) == "abcdefgh"
    assert most[0] == 5, "three of the first, and two of the second"


@pytest.mark.parametrize("wrong", ["hang", "bad"])
def test_scenario_9_what_has_no_answer_fails_and_no_offset_passes_it(wrong: str) -> None:
    told = {"hang": "no answer within 10 s", "bad": "nobody knows"}[wrong]
    with rs.driver(looking_up()) as d:
        d.feed("in", "a")
        with pytest.raises(rs.RecordFailed, match=told) as failed:
            d.feed("in", wrong)
        assert failed.value.offset == 1 and d.committed["in", 0][0] == 1
        d.crash()
        with pytest.raises(rs.RecordFailed) as failed:
            d.restart()
        assert failed.value.offset == 1 and d.committed["in", 0][0] == 1
        assert out(d) == ["A"]


@pytest.mark.parametrize("wrong", ["hang", "bad"])
def test_scenario_9_by_the_rule_it_is_counted_or_goes_to_the_dlq(wrong: str) -> None:
    with rs.driver(looking_up(on_error="skip")) as d:
        for value in ("a", wrong, "b"):
            d.feed("in", value)
        assert out(d) == ["A", "B"] and d.dropped == {"failed": 1} and d.committed["in", 0][0] == 3
    with rs.driver(looking_up(dlq="dead")) as d:
        for value in ("a", wrong, "b"):
            d.feed("in", value)
        assert out(d) == ["A", "B"] and [got.value for got in d.read("dead")] == [wrong.encode()]


def test_a_record_that_fails_after_its_answer_leaves_nothing_of_it() -> None:
    app = rs.App("app", on_error="skip")
    seen = app.store("seen")

    @app.stream("in", value=rs.TEXT).async_map(look_up).process(seen)
    def see(record: rs.Record, seen: rs.State) -> Any:
        seen.set(record.key, record.value)
        yield record.value
        if record.value == "C":
            raise ValueError("not this one")

    see.async_map(look_up).to("out", value=rs.TEXT)
    with rs.driver(app) as d:
        for value in ("a", "c"):
            d.feed("in", value, key="k")
        assert d.store("seen")["k"] == "A" and out(d) == ["A"] and d.dropped == {"failed": 1}


def test_a_record_that_fails_takes_its_questions_back() -> None:
    asked = []

    async def ask(value: str) -> str:
        asked.append(value)
        return value

    app = rs.App("app", on_error="skip")
    stream = app.stream("in", value=rs.TEXT)
    stream.async_map(ask).to("out", value=rs.TEXT)
    stream.map(lambda value: 1 / int(value)).to("other")
    with rs.driver(app) as d:
        for value in ("1", "0", "2"):
            d.feed("in", value)
        assert out(d) == ["1", "2"] and asked == ["1", "2"]


@pytest.mark.parametrize("lose_state", [False, True])
def test_no_window_closes_before_a_record_that_waits(lose_state: bool) -> None:
    app = rs.App("app", guarantee="exactly_once", idle_ms=None)
    windows = app.stream("in", value=rs.TEXT).async_map(look_up).window(rs.tumbling(size_s=1))
    windows.count("counts").final().to("out", value=rs.JSON)
    with rs.driver(app) as d:
        d.crash()  # so that all of them are there when it starts
        for at, value in ((100, "a"), (900, "b"), (1_100, "c"), (2_500, "d")):
            d.feed("in", value, key="k", at=at)
        d.restart()
        d.crash()
        d.restart(lose_state=lose_state)
        d.feed("in", "a", key="k", at=3_000)
        assert [(got.value["start"], got.value["count"]) for got in d.read("out")] == [
            (0, 2),
            (1000, 1),
            (2000, 1),
        ]


def test_what_tables_tell_is_looked_up_before_the_commit_and_counted_in_it() -> None:
    app = rs.App("app")
    counts = app.stream("in", value=rs.TEXT).count("counts").changes()
    known = counts.async_map(lambda_of_both)
    known.count("told").changes().to("out", value=rs.JSON)
    with rs.driver(app, autocommit=False) as d:
        for _ in range(3):
            d.feed("in", "x", key="k")
        d.commit()
        d.feed("in", "x", key="k")
        d.commit()
        assert [got.value for got in d.read("out")] == [1, 2]
        assert d.store("counts")["k"] == 4


async def lambda_of_both(key: str, value: int) -> str:
    await trio.sleep(1)
    return f"{key}{value}"


def test_mistakes_are_told_where_they_are_made() -> None:
    stream = rs.App("app").stream("in")
    with pytest.raises(rs.TopologyError, match="there is map"):
        stream.async_map(lambda value: value)
    with pytest.raises(rs.TopologyError, match="above 0"):
        stream.async_map(look_up, concurrency=0)


async def test_a_test_that_is_async_itself_is_told() -> None:
    with rs.driver(looking_up()) as d, pytest.raises(rs.TopologyError, match="not async itself"):
        d.feed("in", "a")
