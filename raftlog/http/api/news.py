"""What happened to the Raft groups of all brokers: each tells its own. Asked for while somebody looks, once
for all who do, and kept for as long as the broker lives, so many of each broker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from typing import Any, Final

import trio

from raftlog.http.api.context import Api
from raftlog.http.messages import json_of
from raftlog.types import BrokerId

KEPT_MAX: Final = 300
"""Rows of each broker."""
PLACES_MAX: Final = 100
"""Of what a browser says that it was told."""
POLL_S: Final = 0.1
"""How often this broker's are looked at."""
ASK_S: Final = 0.5
"""How often the other brokers are asked."""

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


@dataclass(frozen=True, slots=True)
class Line:
    """A row as it is told, encoded once for all who are told."""

    version: int
    row: Row
    text: str


class Told:
    """What one broker told: lines by the number of their event, those that changed last at the end."""

    def __init__(self) -> None:
        self.incarnation = ""
        self.version = 0
        self.lines: dict[int, Line] = {}
        self.asked_at = -ASK_S
        self.is_asked = False

    def since(self, place: Place) -> list[Line]:
        """What somebody who was told up to a place was not told yet, the oldest first."""
        seen = place.get(self.incarnation, 0)
        fresh = list(takewhile(lambda line: line.version > seen, reversed(self.lines.values())))
        return fresh[::-1]


class News:
    """Shared by all streams."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.told: dict[BrokerId, Told] = {}
        self.changed = trio.Event()
        """Set, and another in its place, when there is something that was not told yet."""
        self._asking = trio.Lock()

    async def keep(self) -> None:
        """Ask again and again, until cancelled or the broker stops. Everybody who looks runs this: one of
        them asks, and when that one leaves, the next does."""
        async with self._asking, trio.open_nursery() as nursery:
            while not self._api.view.stopping.is_set():
                self.ask(nursery)
                with trio.move_on_after(POLL_S):
                    await self._api.view.stopping.wait()
            nursery.cancel_scope.cancel()
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

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
            told.incarnation, told.lines = answer["incarnation"], {}
        wall_ms = time.time_ns() // 1_000_000
        for event in answer["events"]:
            told.lines.pop(event["number"], None)
            row = self._row(broker, told.incarnation, event, wall_ms)
            told.lines[event["number"]] = Line(event["version"], row, json_of(row))
        told.version = answer["version"]
        while len(told.lines) > KEPT_MAX:
            del told.lines[next(iter(told.lines))]
        if answer["events"]:
            self._tell()

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
