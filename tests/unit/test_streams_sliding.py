"""Sliding windows, by the driver: each record ends one, with what came in the time before it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from raftlog import streams as rs


def sliding(aggregate: rs.Aggregate | None = None, grace_s: float = 5, **settings: Any) -> rs.App:
    app = rs.App("slide", **settings)
    found = (
        app.stream("in", value=rs.JSON)
        .window(rs.sliding(size_s=10, grace_s=grace_s))
        .aggregate("last", aggregate or rs.fields(n=rs.count(), total=rs.sum("x")))
    )
    found.final().to("final", value=rs.JSON)
    found.changes().to("changes", value=rs.JSON)
    found.late().to("late", value=rs.JSON)
    return app


def feed(d: rs.Driver, at: int, x: int = 1, key: str | None = "k") -> None:
    d.feed("in", {"x": x}, key=key, at=at)


def test_a_window_has_its_end_and_not_its_start():
    with rs.driver(sliding()) as d:
        for at in (10_000, 19_999, 20_000, 20_000):
            feed(d, at)
        told = {got.value["end"]: (got.value["start"], got.value["n"]) for got in d.read("changes")}
        assert told == {10_000: (0, 1), 19_999: (9_999, 2), 20_000: (10_000, 3)}
        assert d.store("last")["k", 20_000] == [3, 3]


def test_a_record_out_of_order_is_in_the_windows_that_end_after_it():
    with rs.driver(sliding()) as d:
        for at in (10_000, 14_000, 12_000):
            feed(d, at)
        assert [(got.value["end"], got.value["n"]) for got in d.read("changes")] == [
            (10_000, 1),
            (14_000, 2),
            (12_000, 2),
            (14_000, 3),
        ]


def test_a_window_is_final_when_nothing_can_come_for_it_and_late_after_that():
    with rs.driver(sliding()) as d:
        feed(d, 10_000)
        feed(d, 15_000, key="other")
        feed(d, 10_000)  # at the very end of its window, and of the grace
        assert d.read("final") == []
        feed(d, 15_001, key="other")
        assert [(got.key, got.value["end"], got.value["n"]) for got in d.read("final")] == [("k", 10_000, 2)]
        feed(d, 10_000)
        assert len(d.read("late")) == 1 and d.dropped["late for its window"] == 1
        assert d.read("final") == []
        feed(d, 19_000)  # what is over counts in the windows that have it
        feed(d, 30_000)
        assert [(got.key, got.value["end"], got.value["n"]) for got in d.read("final")] == [
            ("other", 15_000, 1),
            ("other", 15_001, 2),
            ("k", 19_000, 3),
        ]


@pytest.mark.parametrize("lose_state", [False, True, None])
@pytest.mark.parametrize("seed", range(6))
def test_every_window_is_what_a_look_at_all_records_gives(seed: int, lose_state: bool | None):
    rng = random.Random(seed)
    times = [max(0, 700 * n - rng.randrange(5_000)) for n in range(120)]
    fed = [(at, rng.randrange(100), rng.choice("ab")) for at in times]
    with rs.driver(sliding(guarantee="exactly_once"), flush=seed % 2 == 0) as d:
        for number, (at, x, key) in enumerate(fed):
            feed(d, at, x, key)
            if lose_state is not None and number % 17 == 16:
                d.crash()
                d.restart(lose_state=lose_state)
        feed(d, 10**6, key="end")
        final = [(got.key, got.value["end"], got.value["n"], got.value["total"]) for got in d.read("final")]
        assert d.dropped["late for its window"] == 0
    wanted = set()
    for at, _, key in fed:
        inside = [x for other, x, k in fed if k == key and at - 10_000 < other <= at]
        wanted.add((key, at, len(inside), sum(inside)))
    assert sorted(final) == sorted(wanted)
    assert [row[1] for row in final] == sorted(row[1] for row in final)


def test_what_is_over_is_forgotten():
    with rs.driver(sliding()) as d:
        for second in range(100):
            feed(d, 1000 * second)
        assert len(d.store("last")) == 6
        assert len(d.store("last-parts")) == 15


def test_the_last_of_a_window_is_that_of_the_latest_time():
    with rs.driver(sliding(rs.last("x"))) as d:
        for at, x in ((10_000, 1), (14_000, 2), (12_000, 3)):
            feed(d, at, x)
        assert d.store("last").items() == {("k", 10_000): 1, ("k", 12_000): 3, ("k", 14_000): 2}


def test_a_record_without_a_key_and_an_aggregate_without_a_merge():
    with rs.driver(sliding()) as d:
        feed(d, 1, key=None)
        assert d.dropped["an aggregate's record has no key"] == 1
    with pytest.raises(rs.TopologyError, match=r"sliding 10000 ms.*merge"):
        sliding(rs.Aggregate(0, lambda a, b: a))
    with pytest.raises(rs.TopologyError, match="size_s=0"):
        rs.sliding(size_s=0)


def test_a_record_that_fails_leaves_no_window():
    app = rs.App("slide", on_error="skip")
    stream = app.stream("in", value=rs.JSON)
    stream.window(rs.sliding(size_s=10)).count("last").changes().to("changes", value=rs.JSON)
    stream.map(lambda value: 1 / value["x"]).to("out", value=rs.JSON)
    with rs.driver(app) as d:
        feed(d, 1_000, 1)
        feed(d, 2_000, 0)
        assert d.store("last").items() == {("k", 1_000): 1}
        feed(d, 3_000, 1)
        assert d.store("last")["k", 3_000] == 2


def test_windows_of_sliding_windows_are_not_late():
    app = rs.App("nested")
    last = app.stream("in", value=rs.JSON).window(rs.sliding(size_s=10, grace_s=5)).count("last").final()
    last.window(rs.tumbling(size_s=60)).aggregate("most", rs.max("count")).final().to("final", value=rs.JSON)
    with rs.driver(app) as d:
        for second in range(130):
            feed(d, 1000 * second)
        assert [(got.value["start"], got.value["value"]) for got in d.read("final")] == [
            (0, 10),
            (60_000, 10),
        ]
        assert d.dropped["late for its window"] == 0
