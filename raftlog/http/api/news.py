"""What happened to the Raft groups of all brokers: each tells its own. Asked for while somebody looks, once
for all who do, and kept for as long as the broker lives, so many of each broker."""

from __future__ import annotations

import time
from itertools import zip_longest
from typing import Any, Final

import trio

from raftlog.http.api.context import Api
from raftlog.types import BrokerId

KEPT_MAX: Final = 300
"""Rows of each broker."""
PLACES_MAX: Final = 100
"""Of what a browser says that it was told."""
ASK_S: Final = 0.5
"""How often the other brokers are asked; this one's are at hand."""

Row = dict[str, Any]


Place = dict[str, int]
"""How much somebody was told: a version of the ring of each start of a broker."""


def text_of(place: Place) -> str:
    return ",".join(f"{incarnation}.{version}" for incarnation, version in place.items())


def parse_place(text: str) -> Place:
    """What `text_of` made; nothing of what is no such text."""
    found: Place = {}
    for part in text.split(",")[:PLACES_MAX]:
        incarnation, _, version = part.partition(".")
        if len(incarnation) == 8 and version.isascii() and version.isdigit() and len(version) < 19:
            found[incarnation] = int(version)
    return found


class Told:
    """What one broker told: rows by the number of their event, those that changed last at the end."""

    def __init__(self) -> None:
        self.incarnation = ""
        self.version = 0
        self.rows: dict[int, Row] = {}
        self.asked_at = -ASK_S
        self.is_asked = False

    def since(self, place: Place) -> list[Row]:
        """What somebody who was told up to a place was not told yet."""
        seen = place.get(self.incarnation, 0)
        return [row for row in self.rows.values() if row["version"] > seen]


class News:
    """Shared by all streams."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.told: dict[BrokerId, Told] = {}

    def ask(self, nursery: trio.Nursery) -> None:
        """Ask who was not asked lately. It goes on in the nursery of whoever looks: an answer may take
        long."""
        me, now = self._api.view.inside.me.id, trio.current_time()
        for broker in list(self._api.catalog.brokers) or [me]:
            told = self.told.setdefault(broker, Told())
            due = told.asked_at + (0.0 if broker == me else ASK_S)
            if not told.is_asked and now >= due:
                told.is_asked, told.asked_at = True, now
                nursery.start_soon(self._ask, broker, told)

    async def _ask(self, broker: BrokerId, told: Told) -> None:
        try:
            answer = await self._api.view.inside.reports.events_of(broker, told.version)
        finally:
            told.is_asked = False
        if answer is None:
            return
        if answer["incarnation"] != told.incarnation:
            told.incarnation, told.rows = answer["incarnation"], {}
        wall_ms = time.time_ns() // 1_000_000
        for event in answer["events"]:
            told.rows.pop(event["number"], None)
            told.rows[event["number"]] = self._row(broker, told.incarnation, event, wall_ms)
        told.version = answer["version"]
        while len(told.rows) > KEPT_MAX:
            del told.rows[next(iter(told.rows))]

    def _row(self, broker: BrokerId, incarnation: str, event: Row, wall_ms: int) -> Row:
        return {
            "id": f"{incarnation}.{event['number']}",
            "version": event["version"],
            "at": str(wall_ms - round(1000 * event["ago_s"])),
            "last_at": str(wall_ms - round(1000 * event["last_ago_s"])),
            "broker": broker,
            **{name: event[name] for name in ("kind", "term", "why", "cause", "other", "count")},
            "groups": [
                self._api.name_of(group, topic)
                for group, topic in zip_longest(event["groups"], event.get("topics", ()))
            ],
        }
