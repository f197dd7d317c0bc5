"""The app: a visitor's clicks become visits, a page's are counted by the hour, each quarter of one.

raftlog streams run examples/clicks/app.py:app
"""

from __future__ import annotations

from typing import Any

from raftlog import streams as rs

GAP_MS = 30 * 60_000
"""Who does nothing for longer begins a new visit."""
HOUR_MS = 60 * 60_000
QUARTER_MS = 15 * 60_000
GRACE_MS = 5 * 60_000
"""So much later than others a click may come."""


def visit(key: str, value: dict[str, Any]) -> dict[str, Any]:
    """A visit, as others get it."""
    return {
        "visitor": key,
        "start": value["start"],
        "end": value["end"],
        "clicks": value["clicks"],
        "entry": value["first"][1],
        "exit": value["last"][1],
    }


def at_page(click: dict[str, Any]) -> list[Any]:
    return [click["at_ms"], click["page"]]


app = rs.App("clicks", guarantee="exactly_once")

clicks = app.stream("clicks", value=rs.JSON, timestamp=lambda click: int(click["at_ms"]))

visits = clicks.window(rs.session(gap_s=GAP_MS / 1000, grace_s=GRACE_MS / 1000)).aggregate(
    "visits", rs.fields(clicks=rs.count(), first=rs.min(at_page), last=rs.max(at_page))
)
visits.final().map(visit).to("visits", value=rs.JSON)

pages = (
    clicks.key_by(lambda click: click["page"])
    .window(rs.hopping(size_s=HOUR_MS / 1000, every_s=QUARTER_MS / 1000, grace_s=GRACE_MS / 1000))
    .count("pages")
)
pages.final().to("page-counts", value=rs.JSON)
pages.late().to("clicks-late", value=rs.JSON)
