"""The demo's checker on outcomes that are wrong, and how it keys lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.comparison import compare
from demo.source import Line, NoInput, find_input, keyed, read_lines

GIVEN = [Line(b"mon", b"one"), Line(b"tue", b"two"), Line(b"mon", b"three"), Line(b"mon", b"one")]


def test_the_right_outcome_is_perfect() -> None:
    other_order = [GIVEN[1], GIVEN[0], GIVEN[2], GIVEN[3]]  # across keys, no order is promised
    outcome = compare(GIVEN, GIVEN, other_order)
    assert outcome.is_perfect
    assert str(outcome) == "produced 4 of 4, consumed 4, lost 0, duplicated 0"


@pytest.mark.parametrize(
    ("consumed", "lost", "duplicated"),
    [
        (GIVEN[:3], 1, 0),
        (GIVEN[1:], 1, 0),
        ([*GIVEN, GIVEN[0]], 0, 1),
        ([*GIVEN[:3], GIVEN[2]], 1, 1),
        ([], 4, 0),
        ([Line(b"wed", b"one"), *GIVEN[1:]], 1, 1),
        ([*GIVEN, Line(b"mon", b"never sent")], 0, 1),
    ],
)
def test_what_is_lost_or_too_many_is_counted(consumed: list[Line], lost: int, duplicated: int) -> None:
    outcome = compare(GIVEN, GIVEN, consumed)
    assert (outcome.lost, outcome.duplicated) == (lost, duplicated)
    assert not outcome.is_perfect


def test_another_order_within_a_key_is_not_perfect() -> None:
    outcome = compare(GIVEN, GIVEN, [GIVEN[2], GIVEN[1], GIVEN[0], GIVEN[3]])
    assert (outcome.lost, outcome.duplicated, outcome.reordered) == (0, 0, (b"mon",))
    assert not outcome.is_perfect


def test_a_line_that_was_not_acknowledged_is_not_perfect() -> None:
    assert not compare(GIVEN, GIVEN[:3], GIVEN[:3]).is_perfect


def test_two_outcomes_are_perfect_when_both_are() -> None:
    good, bad = compare(GIVEN, GIVEN, GIVEN), compare(GIVEN, GIVEN, GIVEN[:3])
    assert (good + good).is_perfect
    assert not (good + bad).is_perfect and not (bad + good).is_perfect
    assert str(good + bad) == "produced 8 of 8, consumed 7, lost 1, duplicated 0"


def test_lines_are_keyed_by_their_date_or_the_last_one_before() -> None:
    texts = [
        b"no date yet",
        b"2026-11-21 10:00:01 install",
        b"  more",
        b"Nov 22 10:00 host: x",
        b"Nov  3 y",
        b"",
    ]
    keys = [line.key for line in keyed(texts)]
    assert keys == [b"undated", b"2026-11-21", b"2026-11-21", b"Nov 22", b"Nov  3", b"Nov  3"]


def test_every_line_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\r\n\nb\tc\n\xff\x00\nno end")
    lines, whole = read_lines(path)
    assert [line.text for line in lines] == [b"a\r", b"", b"b\tc", b"\xff\x00", b"no end"]
    assert whole


@pytest.mark.parametrize("name", ["missing", "folder", "empty"])
def test_an_input_that_cannot_be_used_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    monkeypatch.setenv("DEMO_INPUT", str(tmp_path / name))
    with pytest.raises(NoInput, match=name):
        find_input()
