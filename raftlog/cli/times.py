"""Points in time and places in a log, as they are typed. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

PLACES: Final = "beginning, end, stored, an offset, -N for the last N, s@TIME, or e@TIME to end there"
TIMES: Final = "milliseconds since 1970, or a date such as 2026-11-21 or 2026-11-21T10:30:00Z"

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DATES_MS: Final = (-62_135_596_800_000, 253_402_300_799_999)
"""The years 1 to 9999: what a date of Python's can say. A record may carry any time."""


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
    """The same the other way round, in UTC; the number where no calendar has a date for it (after 9999)."""
    if not DATES_MS[0] <= timestamp_ms <= DATES_MS[1]:
        return f"{timestamp_ms}ms"
    moment = EPOCH + timedelta(milliseconds=timestamp_ms)  # whole numbers: a float loses the last digits
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
