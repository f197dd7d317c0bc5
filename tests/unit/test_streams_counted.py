"""Of which topics an app needs keys and times alone: their values are never read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftlog import streams as rs
from raftlog.streams.plan import plan
from raftlog.streams.topology import Stream, Windowed
from raftlog.streams.ways import only_counted


def late_ones(windowed: Windowed) -> None:
    windowed.count("n").late().to("late")


COUNTED: dict[str, Callable[[Stream], object]] = {
    "a count": lambda stream: stream.count("n").changes().to("out", value=rs.INT),
    "two counts": lambda stream: (stream.count("n"), stream.count("m")),
    "windows": lambda stream: stream.window(rs.tumbling(size_s=1)).count("n").final().to("out"),
    "sliding windows": lambda stream: stream.window(rs.sliding(size_s=1)).count("n").final().to("out"),
    "sessions": lambda stream: stream.window(rs.session(gap_s=1)).count("n").final().to("out"),
}
NEEDED: dict[str, Callable[[Stream], object]] = {
    "another aggregate": lambda stream: stream.reduce("n", lambda a, b: b),
    "fields": lambda stream: stream.aggregate("n", rs.fields(sum=rs.sum(len))),
    "a count beside a sink": lambda stream: (stream.count("n"), stream.to("out")),
    "a function before the count": lambda stream: stream.filter(bool).count("n"),
    "another key": lambda stream: stream.key_by(lambda value: value).count("n"),
    "late records": lambda stream: late_ones(stream.window(rs.tumbling(size_s=1))),
}


@pytest.mark.parametrize("build", COUNTED.values(), ids=COUNTED.keys())
def test_who_counts_needs_no_values(build: Callable[[Stream], object]) -> None:
    app = rs.App("counts")
    build(app.stream("in"))
    assert only_counted(plan(app)) == {"in"}


@pytest.mark.parametrize("build", NEEDED.values(), ids=NEEDED.keys())
def test_who_looks_at_a_value_needs_it(build: Callable[[Stream], object]) -> None:
    app = rs.App("looks")
    build(app.stream("in"))
    assert only_counted(plan(app)) == frozenset()


def test_a_value_that_is_decoded_may_fail_and_is_needed() -> None:
    app = rs.App("decodes")
    app.stream("in", value=rs.JSON).count("n")
    assert only_counted(plan(app)) == frozenset()


def test_a_time_that_is_in_the_value_needs_it() -> None:
    app = rs.App("times")
    app.stream("in", timestamp=len).count("n")
    assert only_counted(plan(app)) == frozenset()


def test_a_dead_letter_has_the_value() -> None:
    app = rs.App("letters", dlq="dead")
    app.stream("in").count("n")
    assert only_counted(plan(app)) == frozenset()


def test_of_two_topics_the_one_that_is_counted() -> None:
    app = rs.App("two")
    app.stream("counted").count("n")
    app.stream("copied").to("out")
    assert only_counted(plan(app)) == {"counted"}
