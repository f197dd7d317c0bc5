"""examples/clicks: by the driver; the page in docs/examples runs it on a broker."""

from __future__ import annotations

from typing import Any

from examples.clicks.app import GRACE_MS, app
from examples.clicks.day import Results, day, judge
from raftlog import streams as rs


def click(page: str, at_ms: int) -> dict[str, Any]:
    return {"visitor": "ann", "page": page, "at_ms": at_ms}


def test_the_app_finds_what_a_look_at_all_clicks_gives() -> None:
    given, found = day(), Results()
    with rs.driver(app, partitions=4) as d:
        for each in (*given.prompt, *given.goodbyes, *given.late):
            d.feed("clicks", each, key=each["visitor"], at=each["at_ms"])
        found.visits = [got.value for got in d.read("visits")]
        found.pages = [{"page": got.key, **got.value} for got in d.read("page-counts")]
        found.late = [got.value for got in d.read("clicks-late")]
    verdict = judge(given, found)
    assert verdict.is_right, verdict
    assert verdict.late == len(given.late) > 0
    found.visits[0] = {**found.visits[0], "clicks": 99}
    found.pages.append(found.pages[0])
    found.late.pop()
    wrong = judge(given, found)
    assert (wrong.missing, wrong.wrong) == (2, 2)


def test_a_click_that_overtakes_another_is_in_the_same_visit() -> None:
    with rs.driver(app) as d:
        for page, at_ms in (("/hats", 60_000), ("/", 0), ("/pay", 120_000), ("/", 10**8)):
            d.feed("clicks", click(page, at_ms), key="ann", at=at_ms)
        (visit,) = (got.value for got in d.read("visits"))
    assert visit == {
        "visitor": "ann",
        "start": 0,
        "end": 120_000,
        "clicks": 3,
        "entry": "/",
        "exit": "/pay",
    }


def test_a_click_within_the_grace_counts_and_a_later_one_is_told() -> None:
    hour = 3_600_000
    with rs.driver(app) as d:
        d.feed("clicks", click("/", hour + GRACE_MS - 1), key="ann", at=hour + GRACE_MS - 1)
        d.feed("clicks", click("/", hour - 1), key="ben")
        assert d.read("clicks-late") == []
        d.feed("clicks", click("/", hour + GRACE_MS), key="ann", at=hour + GRACE_MS)
        assert [got.value for got in d.read("page-counts") if got.value["start"] == 0] == [
            {"start": 0, "end": hour, "count": 1}
        ]
        d.feed("clicks", click("/", hour - 2), key="ben")
        assert [got.value["at_ms"] for got in d.read("clicks-late")] == [hour - 2]
