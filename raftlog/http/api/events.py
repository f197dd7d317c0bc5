"""What happens, as it happens: server-sent events.

`hello` is what a page begins with, `rates` comes once a second, `raft` within a tenth of one, `bye` when the
broker stops. A stream sleeps in between, and what all are told is written once for all of them. What happened
is told of all brokers (`news`), and an event's id says how much of each: a browser that comes back with it,
to whichever broker, is given what it missed. A client that reads slowly gets the newest figures and costs no
memory: nothing is kept for it.
"""

from __future__ import annotations

import time
from typing import Final

import trio

from raftlog.http.api.cluster import summary
from raftlog.http.api.context import Api
from raftlog.http.api.news import Line, News, Place, parse_place, text_of
from raftlog.http.guard import Need
from raftlog.http.messages import Request, Response, Send, json_of
from raftlog.http.routes import Route

RATES_S: Final = 1.0
AT_ONCE_MAX: Final = 100
"""Events in one message; the next has the others."""


class Events:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._news = News(api)
        self._rates = b""
        self._rates_due = float("-inf")

    async def stream(self, request: Request) -> Response:
        seen = parse_place(request.headers.get("last-event-id", ""))
        return Response(
            content_type="text/event-stream",
            headers=(("X-Accel-Buffering", "no"),),
            stream=self._api.counted(lambda send: self._follow(send, seen)),
        )

    async def _follow(self, send: Send, seen: Place) -> None:
        api, news = self._api, self._news
        await send(b"retry: 1000\n\n" + _message("hello", json_of(await summary(api))))
        rates_due = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(news.keep)
            while not api.view.stopping.is_set():
                changed = news.changed
                if lines := self._fresh(seen):
                    text = ",".join([line.text for line in lines])
                    await send(_message("raft", f"[{text}]", text_of(seen)))
                    continue
                if trio.current_time() >= rates_due:
                    rates_due = trio.current_time() + RATES_S
                    await send(self._rates_now())
                with trio.move_on_at(rates_due):
                    await changed.wait()
            nursery.cancel_scope.cancel()
        await send(_message("bye", json_of({"broker": api.view.inside.me.id})))

    def _fresh(self, seen: Place) -> list[Line]:
        """What was not told yet, so much at once, and noted as told."""
        found: list[Line] = []
        for told in self._news.told.values():
            lines = told.since(seen)[: AT_ONCE_MAX - len(found)]
            if lines:
                seen[told.incarnation] = lines[-1].version
                found += lines
        return found

    def _rates_now(self) -> bytes:
        """A message of half a second ago at most, which all streams send."""
        now = trio.current_time()
        if now >= self._rates_due:
            self._rates_due = now + RATES_S / 2
            metadata = self._api.view.inside.metadata
            rates = {
                "at": str(time.time_ns() // 1_000_000),
                "leader": metadata.leader,
                "term": metadata.group.term,
                "commit_index": str(metadata.group.commit_index),
                **{name: None if f is None else round(f, 1) for name, f in self._api.history.last.items()},
            }
            self._rates = _message("rates", json_of(rates))
        return self._rates

    async def listed(self, request: Request) -> Response:
        """What all brokers told, the newest first."""
        limit = request.int("limit", 100, 1, 1000)
        async with trio.open_nursery() as nursery:
            self._news.ask(nursery)
        rows = [line.row for told in self._news.told.values() for line in told.lines.values()]
        rows.sort(key=lambda row: int(row["last_at"]), reverse=True)
        return Response.of(rows[:limit])


def _message(kind: str, data: str, place: str | None = None) -> bytes:
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
