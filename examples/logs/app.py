"""The app: the errors of each service by the minute. A minute with many of them is an alert.

raftlog streams run examples/logs/app.py:app
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from raftlog import streams as rs

MINUTE_MS = 60_000
ERRORS_MIN = 5
RATE_MIN = 0.1
"""So many errors in a minute, which are so large a part of its lines, are an alert."""


def time_of(line: dict[str, str]) -> int:
    """When a line was written, in milliseconds."""
    return round(datetime.fromisoformat(line["at"]).timestamp() * 1000)


def told(key: str, value: dict[str, Any]) -> dict[str, Any]:
    """A minute of a service, as a row."""
    return {
        "service": key,
        "minute": datetime.fromtimestamp(value["start"] / 1000, UTC).strftime("%Y-%m-%d %H:%M"),
        "lines": value["lines"],
        "errors": value["errors"],
        "rate": round(value["errors"] / value["lines"], 3),
    }


def is_alarming(row: dict[str, Any]) -> bool:
    return bool(row["errors"] >= ERRORS_MIN and row["rate"] >= RATE_MIN)


app = rs.App("logs", guarantee="exactly_once")

lines = app.stream("logs", value=rs.JSON, timestamp=time_of)
minutes = lines.window(rs.tumbling(size_s=MINUTE_MS / 1000, grace_s=10)).aggregate(
    "minutes",
    rs.fields(lines=rs.count(), errors=rs.sum(lambda line: int(line["level"] in ("ERROR", "FATAL")))),
)
rates = minutes.final().map(told)

rates.to("error-rates", value=rs.JSON)
rates.filter(is_alarming).to("log-alerts", value=rs.JSON)
minutes.late().to("logs-late", value=rs.JSON)
