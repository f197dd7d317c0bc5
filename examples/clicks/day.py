"""A day of clicks, and what must come of it, worked out in another way than the app does it: from all clicks
at once, sorted."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from examples.clicks.app import GAP_MS, HOUR_MS, QUARTER_MS

Click = dict[str, Any]

PAGES = ("/", "/search", "/shoes", "/hats", "/coats", "/basket", "/pay", "/help")
VISITORS = 40
LATE = 10
DELAY_MS = 60_000
"""Clicks take up to so long, and overtake each other."""


@dataclass
class Day:
    """Clicks in the order in which they come."""

    prompt: list[Click]
    goodbyes: list[Click]
    """Two hours after the last one, of each visitor: windows close when time has passed."""
    late: list[Click]
    """Of somebody who was in a tunnel for hours."""


def day(seed: int = 7) -> Day:
    """The clicks of yesterday."""
    rng = random.Random(seed)
    begin = (int(time.time()) // 86_400 - 1) * 86_400_000
    clicks = []
    for number in range(VISITORS):
        at, end = begin + rng.randrange(6 * HOUR_MS), begin + 18 * HOUR_MS
        while at < end:
            for _ in range(rng.randint(1, 12)):
                page = rng.choices(PAGES, range(len(PAGES), 0, -1))[0]
                clicks.append({"visitor": f"v{number:02}", "page": page, "at_ms": at})
                at += rng.randrange(1_000, 4 * 60_000)
            at += rng.randrange(GAP_MS + 1, 8 * HOUR_MS)
    last = max(click["at_ms"] for click in clicks)
    return Day(
        prompt=sorted(clicks, key=lambda click: click["at_ms"] + rng.randrange(DELAY_MS)),
        goodbyes=[
            {"visitor": f"v{number:02}", "page": "/", "at_ms": last + 2 * HOUR_MS}
            for number in range(VISITORS)
        ],
        late=[
            {
                "visitor": f"v{number:02}",
                "page": PAGES[number % len(PAGES)],
                "at_ms": last - 6 * HOUR_MS + number,
            }
            for number in range(LATE)
        ],
    )


def expected_visits(clicks: Iterable[Click]) -> Counter[tuple[str, int, int, int]]:
    """Visitor, start, end and number of clicks of each visit."""
    found: Counter[tuple[str, int, int, int]] = Counter()
    by_visitor: dict[str, list[int]] = {}
    for click in clicks:
        by_visitor.setdefault(click["visitor"], []).append(click["at_ms"])
    for visitor, times in by_visitor.items():
        times.sort()
        begin = 0
        for place in range(1, len(times) + 1):
            if place == len(times) or times[place] - times[place - 1] > GAP_MS:
                found[visitor, times[begin], times[place - 1], place - begin] += 1
                begin = place
    return found


def expected_pages(clicks: Sequence[Click]) -> Counter[tuple[str, int, int]]:
    """Page, start and count of each hour that has a click, one hour each quarter."""
    counts: Counter[tuple[str, int]] = Counter()
    for click in clicks:
        quarter = click["at_ms"] // QUARTER_MS * QUARTER_MS
        counts.update((click["page"], quarter - back) for back in range(0, HOUR_MS, QUARTER_MS))
    return Counter((page, start, count) for (page, start), count in counts.items())


@dataclass
class Results:
    """What the app has written so far."""

    visits: list[dict[str, Any]] = field(default_factory=list)
    pages: list[dict[str, Any]] = field(default_factory=list)
    late: list[Click] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, beside what must be there."""

    visits: int
    pages: int
    late: int
    missing: int
    wrong: int
    """What should not be there, or is there twice."""

    @property
    def is_right(self) -> bool:
        return not (self.missing or self.wrong)

    def __str__(self) -> str:
        return (
            f"{self.visits} visits, {self.pages} hours of pages and {self.late} late clicks, "
            f"{self.missing} missing, {self.wrong} wrong"
        )


def judge(given: Day, found: Results, *, with_late: bool = True) -> Verdict:
    """Hold what was written against the clicks that were given. What holds a goodbye is closed by the clock,
    half a minute later, and is not looked at."""
    last = given.goodbyes[0]["at_ms"]
    visits = Counter(
        (each["visitor"], each["start"], each["end"], each["clicks"])
        for each in found.visits
        if each["end"] < last
    )
    pages = Counter(
        (each["page"], each["start"], each["count"])
        for each in found.pages
        if each["start"] + HOUR_MS <= last
    )
    late = Counter((each["visitor"], each["at_ms"]) for each in found.late)
    wanted_late = Counter((each["visitor"], each["at_ms"]) for each in given.late if with_late)
    pairs = (
        (expected_visits(given.prompt), visits),
        (expected_pages(given.prompt), pages),
        (wanted_late, late),
    )
    return Verdict(
        visits=visits.total(),
        pages=pages.total(),
        late=late.total(),
        missing=sum((wanted - there).total() for wanted, there in pairs),
        wrong=sum((there - wanted).total() for wanted, there in pairs),
    )
