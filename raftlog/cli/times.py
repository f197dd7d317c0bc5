"""Points in time and places in a log, as they are typed. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

PLACES: Final = "beginning, end, stored, an offset, -N for the last N, s@TIME, or e@TIME to end there"
TIMES: Final = "milliseconds since 1970, or a date such as 2026-11-21 or 2026-11-21T10:30:00Z"


def parse_time(text: str) -> int:
    """A time in milliseconds since the epoch. Raises ValueError; a date without a zone is local."""
    if re.fullmatch(r"\d+", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time: {TIMES}") from None
    return round(moment.timestamp() * 1000)


def format_time(timestamp_ms: int) -> str:
    """The same the other way round, in UTC."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading starts, or for "until" where it ends: `value` is an offset, how many from the end, or a
    time in milliseconds."""

    kind: Literal["beginning", "end", "stored", "offset", "last", "time", "until"]
    value: int = 0


_NAMED: Final = {
    "beginning": Place("beginning"),
    "earliest": Place("beginning"),
    "end": Place("end"),
    "latest": Place("end"),
    "stored": Place("stored"),
}


def parse_place(text: str) -> Place:
    """kcat's `-o`. Raises ValueError, saying what there is."""
    if text in _NAMED:
        return _NAMED[text]
    if text.startswith("s@"):
        return Place("time", parse_time(text[2:]))
    if text.startswith("e@"):
        return Place("until", parse_time(text[2:]))
    if re.fullmatch(r"-\d+", text):
        return Place("last", -int(text))
    if re.fullmatch(r"\d+", text):
        return Place("offset", int(text))
    raise ValueError(f"{text!r} is no place to start: {PLACES}")
