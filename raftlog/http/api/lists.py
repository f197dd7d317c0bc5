"""Lists as the API gives them: searched, sorted, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from raftlog.http.messages import Head, bad_request

PARAMETERS: Final = ("search", "sort", "desc", "limit", "after")
LIMIT: Final = 100
LIMIT_MAX: Final = 1000

Row = dict[str, Any]


def matching(request: Head, names: Iterable[str]) -> list[str]:
    """Those that hold what is searched for, whatever the case."""
    wanted = request.text("search").lower()
    return [name for name in names if wanted in name.lower()]


def page_of(request: Head, names: list[str]) -> tuple[list[str], str | None]:
    """The page of names that is asked for, in order, and after which the next one begins."""
    limit = request.int("limit", LIMIT, 1, LIMIT_MAX)
    after = request.query.get("after")
    is_desc = request.flag("desc")
    ordered = sorted(names, reverse=is_desc)
    if after is not None:
        ordered = [name for name in ordered if (name < after if is_desc else name > after)]
    page = ordered[:limit]
    return page, page[-1] if len(ordered) > limit else None


def sorted_page(
    request: Head, rows: list[Row], keys: dict[str, Callable[[Row], Any]], name: str = "name"
) -> Row:
    """The page of rows that is asked for. `after` is a place in the order, since figures move meanwhile."""
    key = request.text("sort", name)
    if key not in keys:
        raise bad_request(f"sort is one of {', '.join(keys)}")
    rows.sort(key=lambda row: (keys[key](row), row[name]), reverse=request.flag("desc"))
    limit = request.int("limit", LIMIT, 1, LIMIT_MAX)
    first = request.int("after", 0, 0, 10_000_000)
    following = first + limit
    return {
        "items": rows[first:following],
        "total": len(rows),
        "next": str(following) if following < len(rows) else None,
    }
