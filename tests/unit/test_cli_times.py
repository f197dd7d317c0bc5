"""Places in a log and points in time, as they are typed."""

from __future__ import annotations

from datetime import datetime

import pytest

from raftlog.cli.times import Place, format_time, parse_place, parse_time


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("beginning", Place("beginning")),
        ("end", Place("end")),
        ("stored", Place("stored")),
        ("0", Place("offset", 0)),
        ("1200", Place("offset", 1200)),
        ("-10", Place("last", 10)),
        ("s@1700000000123", Place("time", 1_700_000_000_123)),
        ("s@2023-11-14T22:13:20Z", Place("time", 1_700_000_000_000)),
        ("e@5", Place("until", 5)),
    ],
)
def test_places(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", "begin", "1.5", "--3", "s@", "s@tomorrow", "e@", "0x10"])
def test_what_is_no_place_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"beginning|milliseconds"):
        parse_place(text)


def test_a_date_without_a_zone_is_local() -> None:
    assert parse_time("2026-11-21T10:30") == datetime(2026, 11, 21, 10, 30).timestamp() * 1000
    assert parse_time("2026-11-21T10:30+01:00") == parse_time("2026-11-21T09:30Z")


def test_times_are_shown_in_utc() -> None:
    assert format_time(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert parse_time(format_time(1_700_000_000_123)) == 1_700_000_000_123


@pytest.mark.parametrize("timestamp", [253_402_300_800_000, 2**63 - 1, -62_135_596_800_001, -(2**63)])
def test_a_time_that_no_calendar_has_is_shown_as_its_number(timestamp: int) -> None:
    assert format_time(timestamp) == f"{timestamp}ms"


def test_the_last_moment_that_has_a_date() -> None:
    assert format_time(253_402_300_799_999) == "9999-12-31T23:59:59.999Z"
    assert format_time(-62_135_596_800_000) == "0001-01-01T00:00:00.000Z"
