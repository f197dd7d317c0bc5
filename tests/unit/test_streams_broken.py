"""What was found broken by reading: each has been lost, doubled or wrong."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio

from raftlog import streams as rs
from raftlog.client.consumer import Consumer
from raftlog.client.producer import Producer
from raftlog.streams.committing import Commits
from raftlog.streams.database import MEMORY, Database
from raftlog.streams.outputs import Output, Prepared
from raftlog.streams.task import Task
from raftlog.streams.ways import changes_last


def refuse_bad(value: Any) -> Any:
    if value == "bad":
        raise ValueError("bad")
    return value


def test_a_session_outlives_a_record_that_would_have_extended_it_and_fails():
    app = rs.App("sessions", on_error="skip")
    stream = app.stream("in", value=rs.JSON)
    stream.window(rs.session(gap_s=10)).count("s").final().to("final", value=rs.JSON)
    stream.map(refuse_bad).to("out", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("in", "good", key="a", at=1_000)
        d.feed("in", "bad", key="a", at=5_000)
        d.feed("in", "good", key="b", at=60_000)
        assert [(got.key, got.value["count"]) for got in d.read("final")] == [("a", 1)]


def test_a_window_that_closed_in_a_record_is_closed_again_when_a_later_one_ends_the_app():
    """The first node's windows are dropped, then the second node's result cannot be processed."""
    app = rs.App("twice")
    stream = app.stream("in", value=rs.TEXT)
    stream.window(rs.tumbling(size_s=10)).count("one").final().to("final", value=rs.JSON)
    broken = [True]

    def fail_once(value: Any) -> Any:
        if broken:
            broken.clear()
            raise ValueError("once")
        return value

    stream.window(rs.tumbling(size_s=10)).count("two").final().map(fail_once).to("other", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("in", "x", key="a", at=1_000)
        with pytest.raises(rs.StreamsError, match=r"task 0-0: a window that closes.*ValueError: once"):
            d.feed("in", "x", key="b", at=11_000)
        d.commit()
        assert d.read("final") == [] and d.tasks[0].inputs["in"].position == 1
        d.feed("in", "x", key="c", at=12_000)
        for topic in ("final", "other"):
            assert [(got.key, got.value["count"]) for got in d.read(topic)] == [("a", 1)]
        assert d.store("one").items() == {("b", 10_000): 1, ("c", 10_000): 1}


def refuse_two(value: Any) -> Any:
    if value["count"] == 2:
        raise ValueError("two")
    return value


@pytest.mark.parametrize("by_the_clock", [False, True])
@pytest.mark.parametrize("rule", [{"dlq": "dlq"}, {"on_error": "skip"}])
def test_a_window_that_fails_fails_alone(rule: dict[str, Any], by_the_clock: bool):
    """Neither the record that moves the time is a dead letter, nor do other windows stay open."""
    app = rs.App("alone", **rule)
    counts = app.stream("in", value=rs.TEXT).window(rs.tumbling(size_s=1)).count("counts")
    counts.final().map(refuse_two).to("out", value=rs.JSON)
    with rs.driver(app) as d:
        for key in ("poison", "good", "poison"):
            d.feed("in", "x", key=key, at=100)
        if by_the_clock:
            d.advance(60)
        else:
            d.feed("in", "x", key="next", at=2_000)
        assert [got.key for got in d.read("out")] == ["good"]
        assert d.store("counts").items() == ({} if by_the_clock else {("next", 2_000): 1})
        if "dlq" in rule:
            (dead,) = d.read("dlq")
            assert (dead.key, dead.value, dead.timestamp) == (b"poison", b"2", 0)
            told = dict(dead.headers)
            assert told["__streams.errors.topic"] == b"alone-counts-changelog"
            assert told["__streams.errors.message"] == b"two"
        assert d.dropped == {"sent to the DLQ" if "dlq" in rule else "failed": 1}
        d.crash()
        d.restart(lose_state=True)
        assert d.read("out") == []


def test_what_a_window_that_fails_has_changed_is_taken_back_and_what_others_have_is_not():
    app = rs.App("partly", on_error="skip")
    kept = app.store("kept")

    @app.stream("in", value=rs.TEXT).window(rs.tumbling(size_s=1)).count("counts").final().process(kept)
    def keep(record, state):
        assert record.offset == -1 and record.topic == ""
        state.set(record.key, record.value["count"])
        yield record.value
        refuse_two(record.value)

    keep.to("out", value=rs.JSON)
    with rs.driver(app) as d:
        for key in ("a", "b", "b", "c"):
            d.feed("in", "x", key=key, at=100)
        d.feed("in", "x", key="next", at=2_000)
        assert d.store("kept").items() == {"a": 1, "c": 1}
        assert [got.key for got in d.read("out")] == ["a", "c"]


def test_a_look_up_for_a_window_that_fails_blames_no_record():
    app = rs.App("asked", dlq="dlq")

    async def look_up(value: Any) -> Any:
        return refuse_two(value)

    results = app.stream("in", value=rs.TEXT).window(rs.tumbling(size_s=1)).count("counts").final()
    results.async_map(look_up).to("out", value=rs.JSON)
    with rs.driver(app) as d:
        for key in ("good", "poison", "poison"):
            d.feed("in", "x", key=key, at=100)
        d.feed("in", "x", key="next", at=2_000)
        assert [got.key for got in d.read("out")] == ["good"]
        assert [(got.key, got.value) for got in d.read("dlq")] == [(b"poison", b"2")]


def test_a_window_that_fails_by_the_clock_leaves_nothing_half_done():
    app = rs.App("clock")
    results = app.stream("in", value=rs.TEXT).window(rs.tumbling(size_s=10)).count("one").final()
    results.to("first", value=rs.JSON)
    results.map(lambda value: 1 / 0).to("second", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("in", "x", key="a", at=1_000)
        with pytest.raises(rs.StreamsError, match=r"window that closes.*ZeroDivisionError"):
            d.advance(100)
        d.commit()
        assert d.read("first") == []


def test_changes_tell_of_a_window_that_closes_before_the_commit():
    app = rs.App("backlog")
    counts = app.stream("in", value=rs.TEXT).window(rs.tumbling(size_s=10)).count("one")
    counts.changes().to("changes", value=rs.JSON)
    with rs.driver(app, autocommit=False) as d:
        d.feed("in", "x", key="a", at=1_000)
        d.feed("in", "x", key="a", at=2_000)
        d.feed("in", "x", key="a", at=11_000)
        d.commit()
        assert [(got.value["start"], got.value["count"]) for got in d.read("changes")] == [
            (0, 2),
            (10_000, 1),
        ]


def test_a_table_whose_restore_is_cut_off_is_read_from_where_its_rows_are():
    """The other store is restored first, and its rows are flushed with the positions of all inputs."""
    app = rs.App("cut")
    stream = app.stream("in", value=rs.TEXT)
    kept = app.store("kept")
    table = app.table("rows", name="rows", value=rs.TEXT)

    @stream.process(kept)
    def keep(record, state):
        state.set(record.key, 1)
        yield record.value

    keep.join(table, lambda value, row: [value, row]).to("out", value=rs.JSON)
    plan = rs.plan(app)
    database = Database(MEMORY, ["kept", "rows"])
    committed = {"in": (0, ""), "rows": (7, "")}

    def begin() -> Task:
        return Task(plan, plan.parts[0], 0, database, writers={}, now_ms=0)

    cut = begin()
    assert {each.store: each.position for each in cut.restores(committed)} == {"kept": 0, "rows": 0}
    cut.restored("kept", "id", 5, 0)
    assert {each.store: each.position for each in begin().restores(committed)} == {"kept": 5, "rows": 0}
    cut.restored("rows", "", 3, 0)
    assert {each.store: each.position for each in begin().restores(committed)} == {"kept": 5, "rows": 3}
    database.close()


def test_windows_of_a_table_that_is_read_alone_follow_its_records():
    app = rs.App("table")
    changes = app.table("rows", name="rows", value=rs.TEXT).changes()
    changes.window(rs.tumbling(size_s=10)).count("one").final().to("final", value=rs.JSON)
    with rs.driver(app) as d:
        d.now_ms = 10_000_000
        d.feed("rows", "x", key="a", at=1_000)
        d.feed("rows", "x", key="a", at=2_000)
        d.feed("rows", "x", key="a", at=11_000)
        assert [(got.value["start"], got.value["count"]) for got in d.read("final")] == [(0, 2)]


def test_a_record_without_a_value_has_its_own_timestamp():
    app = rs.App("tombstone")
    app.stream("in", value=rs.JSON, timestamp=lambda value: value["ts"]).to("out", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("in", None, key="a", at=5)
        assert [(got.value, got.timestamp) for got in d.read("out")] == [(None, 5)]


def test_records_at_the_watermark_still_find_their_partners():
    app = rs.App("joined")
    left, right = app.stream("left", value=rs.TEXT), app.stream("right", value=rs.TEXT)
    left.join(right, lambda one, two: one + two, name="both", within_s=1).to("out", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("left", "a", key="k", at=1_000)
        d.feed("left", "b", key="other", at=2_000)
        d.feed("right", "1", key="k", at=2_000)
        d.feed("right", "2", key="k", at=2_000)
        assert [got.value for got in d.read("out")] == ["a1", "a2"]


def test_outputs_of_a_task_that_was_lost_do_not_go_out_with_another_commit():
    """A lost partition's records are another worker's: what waits of them would be there twice."""

    class Transaction:
        async def __aenter__(self) -> Transaction:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def send_offsets(self, *_: object) -> None:
            pass

    class Log:
        def __init__(self) -> None:
            self.sent: list[bytes | None] = []

        def transaction(self) -> Transaction:
            return Transaction()

        def group_metadata(self) -> None:
            pass

        async def send_soon(self, topic: str, value: bytes | None, **_: object) -> None:
            self.sent.append(value)

    app = rs.App("lost", guarantee="exactly_once")
    app.stream("in").to("out")
    plan = rs.plan(app)
    lost, kept = (
        Task(plan, plan.parts[0], at, Database(MEMORY, []), writers={}, now_ms=0) for at in range(2)
    )
    log = Log()
    commits = Commits(app, cast(Producer, log), cast(Consumer, log), {})

    async def play() -> None:
        await commits.send(lost, [Output("out", None, b"lost", 0)])
        await commits.send(kept, [Output("out", None, b"kept", 0)])
        commits.forget(lost)
        assert commits.waiting == 1
        await commits.write({kept: Prepared({}, {})})

    trio.run(play)
    assert log.sent == [b"kept"] and commits.waiting == 0
    lost.close()
    kept.close()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (lambda s: s.count("n"), True),
        (lambda s: s.filter(refuse_bad).map(refuse_bad).count("n").changes().to("out"), True),
        (lambda s: s.flat_map(str.split).count("n"), False),  # the second word fails, the first is counted
        (lambda s: (s.count("n"), s.map(refuse_bad).to("out")), False),
        (lambda s: s.window(rs.tumbling(size_s=1)).count("n"), False),
        (lambda s: s.count("n").changes().to_table("last"), False),
        (lambda s: s.to_table("last"), False),
        (lambda s: s.to("out"), False),
    ],
)
def test_where_nothing_has_to_be_undone(shape: Any, expected: bool):
    """Such a task notes nothing for a record that fails: it must be sure that there is nothing."""
    app = rs.App("shapes")
    shape(app.stream("in", value=rs.TEXT))
    (part,) = rs.plan(app).parts
    assert changes_last(part) == expected


def test_a_record_that_fails_before_its_count_changes_nothing():
    app = rs.App("last", on_error="skip")
    app.stream("in", value=rs.JSON).map(refuse_bad).count("n").changes().to("out", value=rs.INT)
    with rs.driver(app) as d:
        for value in ("good", "bad", "good"):
            d.feed("in", value, key="a", at=1_000)
        assert d.store("n")["a"] == 2


def tell_counts(app: rs.App) -> None:
    stream = app.stream("in", value=rs.TEXT)
    stream.count("counts").changes().map(lambda count: refuse_two({"count": count})).to("out", value=rs.JSON)


def tell_windows(app: rs.App) -> None:
    counts = app.stream("in", value=rs.TEXT).window(rs.tumbling(size_s=10)).count("counts")
    counts.changes().map(refuse_two).to("out", value=rs.JSON)


def tell_sliding(app: rs.App) -> None:
    counts = app.stream("in", value=rs.TEXT).window(rs.sliding(size_s=10)).count("counts")
    counts.changes().map(refuse_two).to("out", value=rs.JSON)


def tell_sessions(app: rs.App) -> None:
    counts = app.stream("in", value=rs.TEXT).window(rs.session(gap_s=10)).count("counts")
    counts.changes().map(refuse_two).to("out", value=rs.JSON)


@pytest.mark.parametrize("shape", [tell_counts, tell_windows, tell_sliding, tell_sessions])
@pytest.mark.parametrize("rule", [{"dlq": "dlq"}, {"on_error": "skip"}, {}])
def test_a_change_that_fails_when_it_is_told_fails_alone(shape: Any, rule: dict[str, Any]):
    app = rs.App("told", **rule)
    shape(app)
    with rs.driver(app, autocommit=False) as d:
        for key in ("a", "poison", "poison", "z"):
            d.feed("in", "x", key=key, at=100)
        if not rule:
            with pytest.raises(rs.StreamsError, match=r"task 0-0: .* what a commit tells.*ValueError: two"):
                d.commit()
            return
        d.commit()
        assert [got.key for got in d.read("out")] == ["a", "z"]
        assert len(d.store("counts")) == 3
        assert d.dropped == {"sent to the DLQ" if "dlq" in rule else "failed": 1}
        if "dlq" in rule:
            (dead,) = d.read("dlq")
            assert dead.key == b"poison" and b"2" in dead.value
            assert dict(dead.headers)["__streams.errors.topic"] == b"told-counts-changelog"
