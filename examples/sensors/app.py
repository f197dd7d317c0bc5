"""The app: the mean temperature of each room over five seconds, each second; a warm room is an alarm.

raftlog streams run examples/sensors/app.py:app --listen 127.0.0.1:8088
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raftlog import streams as rs

WINDOW_MS = 5_000
EVERY_MS = 1_000
GRACE_MS = 1_000
HOT_CELSIUS = 30
POINTS_MAX = 120
"""Averages of a room that are kept for the page: two minutes."""

app = rs.App("sensors", commit_ms=250)

# A clock that runs ahead by more than five minutes closes no windows: its readings are left out, and counted.
readings = app.stream(
    "readings", value=rs.JSON, timestamp=lambda reading: int(reading["at_ms"]), max_ahead_s=300
)
averages = readings.window(
    rs.hopping(size_s=WINDOW_MS / 1000, every_s=EVERY_MS / 1000, grace_s=GRACE_MS / 1000)
).aggregate(
    "averages",
    rs.fields(n=rs.count(), mean=rs.mean("celsius"), low=rs.min("celsius"), high=rs.max("celsius")),
)
history = app.store("history")

averages.final().filter(lambda average: average["mean"] > HOT_CELSIUS).to("alarms", value=rs.JSON)


@averages.final().process(history)
def remembered(record: rs.Record, history: rs.State) -> Iterator[dict[str, Any]]:
    """Keep the last averages of a room together, for who asks over HTTP."""
    point = {name: record.value[name] for name in ("end", "n", "mean", "low", "high")}
    history.set(record.key, [*history.get(record.key, []), point][-POINTS_MAX:])
    yield record.value


remembered.to("averages", value=rs.JSON)
