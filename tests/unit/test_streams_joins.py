"""Joins of streams: records wait as their own serdes write them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import pytest

from raftlog import streams as rs
from raftlog.streams.joins import waiting

PLAIN = rs.Serde("plain", lambda value: repr(value).encode(), lambda data: ast.literal_eval(data.decode()))
"""Whatever Python writes so that it can be read: tuples, and keys that are numbers."""


@dataclass(frozen=True)
class Point:
    x: int


def joined(left: rs.Serde, right: rs.Serde, how: Any = "inner") -> rs.App:
    app = rs.App("joined")
    one, two = app.stream("left", value=left), app.stream("right", value=right)
    one.join(two, lambda a, b: repr((a, b)), name="pairs", within_s=10, how=how).to("out", value=rs.TEXT)
    return app


VALUES = [
    (rs.BYTES, b"\xff\x00"),
    (rs.BYTES, b""),
    (rs.TEXT, "ä"),
    (rs.INT, 5),
    (rs.FLOAT, 0.5),
    (rs.JSON, {"a": [1, None]}),
    (rs.dataclass(Point), Point(1)),
    (PLAIN, (1, {2: "two"})),
]


@pytest.mark.parametrize("lose_state", [False, True])
@pytest.mark.parametrize(("serde", "value"), VALUES)
def test_what_waits_comes_back_as_its_serde_gives_it(serde: rs.Serde, value: Any, lose_state: bool) -> None:
    """From the disk, and from the changelog; each side has a serde of its own."""
    with rs.driver(joined(serde, PLAIN)) as d:
        d.feed("left", value, key="k", at=1_000)
        d.feed("left", value, key="k", at=1_000)
        d.feed("right", (3,), key="k", at=2_000)
        assert [got.value for got in d.read("out")] == [repr((value, (3,)))] * 2
        d.crash()
        d.restart(lose_state=lose_state)
        d.feed("right", {4: 5}, key="k", at=3_000)
        d.feed("left", value, key="k", at=4_000)
        others = [(value, {4: 5}), (value, {4: 5}), (value, (3,)), (value, {4: 5})]
        assert [got.value for got in d.read("out")] == [repr(pair) for pair in others]


@pytest.mark.parametrize("lose_state", [False, True])
def test_who_has_found_a_partner_is_remembered(lose_state: bool) -> None:
    with rs.driver(joined(rs.BYTES, rs.dataclass(Point), how="outer")) as d:
        d.feed("left", b"with", key="k", at=1_000)
        d.feed("right", Point(1), key="k", at=2_000)
        d.feed("left", b"without", key="other", at=3_000)
        assert len(d.read("out")) == 1
        d.crash()
        d.restart(lose_state=lose_state)
        d.advance(100)
        assert [got.value for got in d.read("out")] == [repr((b"without", None))]


def test_a_record_that_failed_leaves_nothing_that_waits() -> None:
    app = rs.App("joined", dlq="dead")
    left, right = app.stream("left"), app.stream("right")
    pairs = left.join(right, lambda a, b: [len(a), 1 // len(b)], name="pairs", within_s=10, how="outer")
    pairs.to("out", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("left", b"a", key="k", at=1_000)
        d.feed("right", b"", key="k", at=2_000)
        assert len(d.read("dead")) == 1
        assert d.store("pairs-left").items() == {("k", 1_000): [[False, b"a"]]}
        assert d.store("pairs-right").items() == {}
        d.feed("right", b"b", key="k", at=3_000)
        assert [got.value for got in d.read("out")] == [[1, 1]]


@pytest.mark.parametrize("lose_state", [False, True])
def test_what_waits_in_the_form_of_before_is_read(lose_state: bool) -> None:
    """A list of JSON, whatever the serde: it began with no version."""
    with rs.driver(joined(rs.TEXT, rs.TEXT)) as d:
        d.feed("left", "new", key="k", at=1_000)
        d.crash()
        old = b'[[true,"one"],[false,"two"]]'
        log = d.topics["joined-pairs-left-changelog"]
        log.logs[0] = [each._replace(value=old) for each in log.logs[0]]
        database = d._databases[0, 0]
        ((place, _),) = database.scan("pairs-left")
        database.write({"pairs-left": {place: old}}, {}, database.position())
        d.restart(lose_state=lose_state)
        d.feed("right", "r", key="k", at=2_000)
        assert [got.value for got in d.read("out")] == [repr(("one", "r")), repr(("two", "r"))]
        d.feed("left", "three", key="k", at=1_000)
        assert d.store("pairs-left").items() == {
            ("k", 1_000): [[True, "one"], [False, "two"], [True, "three"]]
        }


def test_a_form_of_a_newer_raftlog_is_refused_and_so_is_what_is_cut_off() -> None:
    serde = waiting(rs.TEXT)
    whole = serde.encode([[True, "one"], [False, "two"]])
    assert serde.decode(whole) == [[True, "one"], [False, "two"]]
    assert serde.name == "waiting text"
    with pytest.raises(ValueError, match="format 2, and this raftlog knows 1: start a newer one"):
        serde.decode(b"\x02" + whole[1:])
    first = len(serde.encode([[True, "one"]]))
    for size in set(range(len(whole))) - {1, first}:
        with pytest.raises(ValueError, match="format 0" if size == 0 else f"ends at byte {size}, in the mid"):
            serde.decode(whole[:size])


def test_a_value_that_its_serde_does_not_take_is_a_record_that_failed() -> None:
    app = rs.App("joined")
    left, right = app.stream("left", value=rs.TEXT).map(lambda text: {text}), app.stream("right")
    left.join(right, max, name="pairs", within_s=10).to("out", value=rs.JSON)
    with (
        rs.driver(app) as d,
        pytest.raises(rs.RecordFailed, match=r"waiting json does not take .* key \(1000, 'k'\)"),
    ):
        d.feed("left", "a", key="k", at=1_000)
