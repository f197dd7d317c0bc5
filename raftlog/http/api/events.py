"""What happens, as it happens: server-sent events.

`hello` is what a page begins with, `rates` comes once a second, `raft` within a tenth of one, `bye` when the
broker stops. An event's id is the version of the ring of what happened (`raftlog.raft.events`): a browser
that comes back with it is given what it missed. A client that reads slowly gets the newest figures and costs
no memory: nothing is kept for it.
"""

from __future__ import annotations

import json
import time
from typing import Any

import trio

from raftlog.http.access import Need
from raftlog.http.api.cluster import summary
from raftlog.http.api.context import Api
from raftlog.http.messages import Request, Response, Send
from raftlog.http.routes import Route
from raftlog.raft.events import Event

POLL_S = 0.1
RATES_S = 1.0
COMMENT_S = 15.0
AT_ONCE_MAX = 100
"""Events in one message; the next has the others."""


class Events:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def stream(self, request: Request) -> Response:
        given = request.headers.get("last-event-id", "")
        seen = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else 0
        return Response(
            content_type="text/event-stream",
            headers=(("X-Accel-Buffering", "no"),),
            stream=self._api.counted(lambda send: self._follow(send, seen)),
        )

    async def _follow(self, send: Send, seen: int) -> None:
        api, ring = self._api, self._api.view.inside.driver.events
        if seen > ring.last_version:  # of another start of the broker
            seen = 0
        await send(_message("hello", ring.last_version, await summary(api)))
        rates_due = comment_due = trio.current_time()
        while not api.view.stopping.is_set():
            now = trio.current_time()
            if events := ring.since(seen)[:AT_ONCE_MAX]:
                seen = events[-1].version
                await send(_message("raft", seen, [self._row(event, now) for event in events]))
                comment_due = now + COMMENT_S
            if now >= rates_due:
                rates_due = now + RATES_S
                comment_due = now + COMMENT_S
                await send(_message("rates", None, self._rates()))
            if now >= comment_due:
                comment_due = now + COMMENT_S
                await send(b":\n\n")
            with trio.move_on_after(POLL_S):
                await api.view.stopping.wait()
        await send(_message("bye", None, {"broker": api.view.inside.me.id}))

    def _rates(self) -> dict[str, Any]:
        metadata = self._api.view.inside.metadata
        return {
            "at": str(time.time_ns() // 1_000_000),
            "leader": metadata.leader,
            "term": metadata.group.term,
            "commit_index": str(metadata.group.commit_index),
            **{name: round(figure, 1) for name, figure in self._api.history.last.items()},
        }

    def _row(self, event: Event, now: float) -> dict[str, Any]:
        wall_ms = time.time_ns() // 1_000_000
        return {
            "number": event.number,
            "at": str(wall_ms - round(1000 * (now - event.at))),
            "last_at": str(wall_ms - round(1000 * (now - event.last_at))),
            "broker": self._api.view.inside.me.id,
            "kind": event.kind.value,
            "term": event.term,
            "why": event.why,
            "cause": event.cause.name.lower(),
            "other": event.other,
            "count": event.count,
            "groups": [self._api.name_of(group) for group in event.groups],
        }

    async def listed(self, request: Request) -> Response:
        """The ring, the newest first."""
        now, limit = trio.current_time(), request.int("limit", 100, 1, 1000)
        events = list(self._api.view.inside.driver.events)
        return Response.of([self._row(event, now) for event in events[::-1][:limit]])


def _message(kind: str, number: int | None, value: object) -> bytes:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    head = f"event: {kind}\n" + (f"id: {number}\n" if number is not None else "")
    return f"{head}data: {data}\n\n".encode("utf-8", "replace")


def routes(api: Api) -> list[Route]:
    events = Events(api)
    return [
        Route(
            method="GET",
            path="/api/v1/events",
            need=Need.READ,
            handle=events.stream,
            doc="What happens, as server-sent events: `hello`, `rates`, `raft`, `bye`.",
        ),
        Route(
            method="GET",
            path="/api/v1/events/recent",
            need=Need.READ,
            handle=events.listed,
            parameters=("limit",),
            doc="What happened to the Raft groups of this broker last, and why.",
        ),
    ]
