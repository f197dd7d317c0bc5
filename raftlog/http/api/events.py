"""What happens, as it happens: server-sent events.

`hello` is what a page begins with, `rates` comes once a second, `raft` within a tenth of one, `bye` when the
broker stops. What happened is told of all brokers (`news`), and an event's id says how much of each: a
browser that comes back with it, to whichever broker, is given what it missed. A client that reads slowly
gets the newest figures and costs no memory: nothing is kept for it.
"""

from __future__ import annotations

import json
import time
from typing import Any

import trio

from raftlog.http.api.cluster import summary
from raftlog.http.api.context import Api
from raftlog.http.api.news import News, Place, parse_place, text_of
from raftlog.http.guard import Need
from raftlog.http.messages import Request, Response, Send
from raftlog.http.routes import Route

POLL_S = 0.1
RATES_S = 1.0
COMMENT_S = 15.0
AT_ONCE_MAX = 100
"""Events in one message; the next has the others."""


class Events:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._news = News(api)

    async def stream(self, request: Request) -> Response:
        seen = parse_place(request.headers.get("last-event-id", ""))
        return Response(
            content_type="text/event-stream",
            headers=(("X-Accel-Buffering", "no"),),
            stream=self._api.counted(lambda send: self._follow(send, seen)),
        )

    async def _follow(self, send: Send, seen: Place) -> None:
        api = self._api
        await send(b"retry: 1000\n\n" + _message("hello", None, await summary(api)))
        rates_due = comment_due = trio.current_time()
        async with trio.open_nursery() as nursery:
            while not api.view.stopping.is_set():
                now = trio.current_time()
                self._news.ask(nursery)
                if rows := self._fresh(seen):
                    await send(_message("raft", text_of(seen), rows))
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
            nursery.cancel_scope.cancel()
        await send(_message("bye", None, {"broker": api.view.inside.me.id}))

    def _fresh(self, seen: Place) -> list[dict[str, Any]]:
        """What was not told yet, so much at once, and noted as told."""
        found: list[dict[str, Any]] = []
        for told in self._news.told.values():
            rows = told.since(seen)[: AT_ONCE_MAX - len(found)]
            if rows:
                seen[told.incarnation] = rows[-1]["version"]
                found += rows
        return found

    def _rates(self) -> dict[str, Any]:
        metadata = self._api.view.inside.metadata
        return {
            "at": str(time.time_ns() // 1_000_000),
            "leader": metadata.leader,
            "term": metadata.group.term,
            "commit_index": str(metadata.group.commit_index),
            **{name: None if f is None else round(f, 1) for name, f in self._api.history.last.items()},
        }

    async def listed(self, request: Request) -> Response:
        """What all brokers told, the newest first."""
        limit = request.int("limit", 100, 1, 1000)
        async with trio.open_nursery() as nursery:
            self._news.ask(nursery)
        rows = [row for told in self._news.told.values() for row in told.rows.values()]
        rows.sort(key=lambda row: int(row["last_at"]), reverse=True)
        return Response.of(rows[:limit])


def _message(kind: str, place: str | None, value: object) -> bytes:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    head = f"event: {kind}\n" + (f"id: {place}\n" if place is not None else "")
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
            doc="What happened to the Raft groups last, and why, said by their brokers.",
        ),
    ]
