"""Timers, by the driver: what is called as time passes."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import streams as rs


def reminding(clock: Any = "event", **settings: Any) -> rs.App:
    """Tells of each order that was not paid for a minute, every ten seconds."""
    app = rs.App("remind", **settings)
    open_orders = app.store("open")

    @app.stream("orders", value=rs.TEXT).process(open_orders)
    def note(record, state):
        if record.value == "paid":
            state.delete(record.key)
        else:
            state.set(record.key, record.timestamp)

    @app.every(10, open_orders, clock=clock)
    def remind(now_ms, state):
        for key, since in state.range("", "~"):
            if now_ms - since >= 60_000:
                state.delete(key)
                yield key, {"unpaid_since": since, "told": now_ms}

    note.to("noted", value=rs.JSON)
    remind.to("reminders", value=rs.JSON)
    return app


def told(d: rs.Driver) -> list[tuple[str, int, int]]:
    return [(got.key, got.value["told"], got.timestamp) for got in d.read("reminders")]


def test_by_event_time_a_timer_is_due_when_the_watermark_reaches_it():
    with rs.driver(reminding()) as d:
        d.feed("orders", "new", key="a", at=1_000)
        d.feed("orders", "new", key="b", at=2_000)
        d.feed("orders", "paid", key="b", at=30_000)
        d.feed("orders", "new", key="c", at=69_999)
        assert told(d) == []
        d.feed("orders", "new", key="c", at=70_000)
        assert told(d) == [("a", 70_000, 70_000)]
        d.feed("orders", "new", key="c", at=70_001)
        assert told(d) == []


def test_a_leap_of_time_calls_it_once_with_the_last_that_was_due():
    with rs.driver(reminding()) as d:
        d.feed("orders", "new", key="a", at=1_000)
        d.feed("orders", "new", key="b", at=1_234_567)
        assert told(d) == [("a", 1_230_000, 1_230_000)]


def test_the_first_time_of_all_is_a_beginning():
    calls = []
    app = rs.App("first")
    kept = app.store("kept")
    app.stream("in", value=rs.TEXT).process(kept)(lambda record, state: None).to("out")

    @app.every(10, kept)
    def tick(now_ms, state):
        calls.append(now_ms)

    tick.to("ticks", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("in", "x", key="a", at=1_700_000_000_123)
        assert calls == []
        d.feed("in", "x", key="a", at=1_700_000_010_000)
        assert calls == [1_700_000_010_000]


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("lose_state", [False, True])
def test_a_restart_neither_repeats_nor_forgets_what_is_due(guarantee: str, lose_state: bool):
    with rs.driver(reminding(guarantee=guarantee)) as d:
        d.feed("orders", "new", key="a", at=1_000)
        d.feed("orders", "new", key="b", at=65_000)
        d.crash()
        d.restart(lose_state=lose_state)
        d.feed("orders", "new", key="c", at=75_000)
        assert told(d) == [("a", 70_000, 70_000)]
        d.crash()
        d.restart(lose_state=lose_state)
        d.feed("orders", "new", key="c", at=76_000)
        assert told(d) == []
        d.feed("orders", "new", key="c", at=130_000)
        assert told(d) == [("b", 130_000, 130_000)]


@pytest.mark.parametrize("lose_state", [False, True])
def test_a_crash_before_the_commit_takes_back_what_a_timer_did(lose_state: bool):
    with rs.driver(reminding(guarantee="exactly_once"), autocommit=False) as d:
        d.feed("orders", "new", key="a", at=1_000)
        d.commit()
        d.feed("orders", "new", key="b", at=70_000)
        assert told(d) == []
        d.crash()
        d.restart(lose_state=lose_state)
        d.commit()
        assert told(d) == [("a", 70_000, 70_000)]


def test_by_the_clock_a_timer_is_due_without_any_record():
    with rs.driver(reminding("wall", idle_ms=None)) as d:
        d.feed("orders", "new", key="a", at=1_000)
        d.advance(68.9)
        assert told(d) == []
        d.advance(0.2)
        assert told(d) == [("a", 70_000, 70_000)]
        d.advance(1000)
        assert told(d) == []


def test_a_silent_input_does_not_hold_timers_up():
    with rs.driver(reminding()) as d:
        d.feed("orders", "new", key="a", at=1_000)
        d.advance(69 + 30)
        assert told(d) == [("a", 70_000, 70_000)]


def test_windows_that_are_over_close_before_a_timer_and_later_ones_after_it():
    app = rs.App("order")
    sums = app.store("sums")
    minutes = app.stream("in", value=rs.JSON).window(rs.tumbling(size_s=10)).count("tens").final()

    @minutes.process(sums)
    def add(record, state):
        state.set("all", state.get("all", 0) + record.value["count"])

    @app.every(20, sums)
    def report(now_ms, state):
        yield "all", state.get("all", 0)

    add.to("added", value=rs.JSON)
    report.to("reports", value=rs.JSON)
    with rs.driver(app) as d:
        for at in (5_000, 15_000, 25_000, 47_000):
            d.feed("in", 1, key="a", at=at)
        assert [(got.timestamp, got.value) for got in d.read("reports")] == [(20_000, 2), (40_000, 3)]


def test_what_a_timer_gives_is_not_late_for_a_window():
    app = rs.App("then")
    kept = app.store("kept")
    app.stream("in", value=rs.TEXT).process(kept)(lambda record, state: state.set("a", 1)).to("out")

    @app.every(10, kept)
    def tick(now_ms, state):
        yield "a", now_ms

    tick.window(rs.tumbling(size_s=10)).count("ticks").final().to("counted", value=rs.JSON)
    with rs.driver(app) as d:
        for at in (1_000, 12_000, 45_000, 46_000, 71_000):
            d.feed("in", "x", key="a", at=at)
        assert [(got.value["start"], got.value["count"]) for got in d.read("counted")] == [
            (10_000, 1),
            (40_000, 1),
        ]
        assert d.dropped["late for its window"] == 0


def failing(broken: list[bool], **settings: Any) -> rs.App:
    app = rs.App("fails", **settings)
    kept = app.store("kept")

    @app.stream("in", value=rs.TEXT).process(kept)
    def keep(record, state):
        state.set(record.key, record.value)

    @app.every(10, kept)
    def tick(now_ms, state):
        state.set("tick", now_ms)
        yield "tick", now_ms
        if broken:
            raise ValueError("once")

    keep.to("out", value=rs.JSON)
    tick.to("ticks", value=rs.JSON)
    return app


@pytest.mark.parametrize("rule", [{"dlq": "dlq"}, {"on_error": "skip"}])
def test_a_timer_that_fails_fails_alone_and_leaves_nothing_half_done(rule: dict[str, Any]):
    broken = [True]
    with rs.driver(failing(broken, **rule)) as d:
        d.feed("in", "x", key="a", at=1_000)
        d.feed("in", "y", key="a", at=11_000)
        assert d.read("ticks") == [] and d.store("kept").items() == {"a": "y"}
        assert d.dropped == {"sent to the DLQ" if "dlq" in rule else "failed": 1}
        if "dlq" in rule:
            (dead,) = d.read("dlq")
            assert (dead.key, dead.value) == (None, b"10000")
        broken.clear()
        d.feed("in", "z", key="a", at=21_000)
        assert [got.value for got in d.read("ticks")] == [20_000]
        assert d.store("kept").items() == {"a": "z", "tick": 20_000}


def test_a_timer_that_ends_the_app_leaves_nothing_half_done():
    broken = [True]
    with rs.driver(failing(broken)) as d:
        d.feed("in", "x", key="a", at=1_000)
        with pytest.raises(rs.StreamsError, match=r"a timer.*ValueError: once"):
            d.feed("in", "y", key="a", at=11_000)
        with pytest.raises(rs.StreamsError, match=r"a timer.*ValueError: once"):
            d.advance(100)
        assert d.read("ticks") == [] and d.store("kept").items() == {"a": "x"}
        broken.clear()
        d.feed("in", "z", key="a", at=112_000)
        assert d.store("kept").items()["a"] == "z" and [got.value for got in d.read("ticks")][-1] == 110_000


def test_each_partition_has_its_own_timers():
    with rs.driver(reminding(), partitions=2) as d:
        for partition in range(2):
            d.feed("orders", "new", key=f"k{partition}", at=1_000, partition=partition)
        d.feed("orders", "new", key="x", at=80_000, partition=1)
        assert [key for key, _, _ in told(d)] == ["k1"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda app: app.every(0, app.store("s")), "period"),
        (lambda app: app.every(1), "store"),
        (lambda app: app.every(1, app.store("s"), clock="sun"), "clock='sun'"),
    ],
)
def test_mistakes_are_told_where_they_are_made(wrong: Any, said: str):
    with pytest.raises(rs.TopologyError, match=said):
        wrong(rs.App("app"))


def test_a_timer_of_a_store_that_no_stream_uses_is_refused():
    app = rs.App("alone")
    app.stream("in").to("out")
    app.every(1, app.store("s"))(lambda now_ms, state: None)
    with pytest.raises(rs.TopologyError, match="a timer uses s"):
        rs.plan(app)


def test_a_timer_is_described():
    assert "timer open: every 10000 ms by event time" in rs.plan(reminding()).describe()
