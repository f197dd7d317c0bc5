"""What happened, told by each broker itself and by what was done here, in one stream for the page."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final

import trio

from raftlog.dev.fleet import Broker, Fleet, wall_ms
from raftlog.dev.forward import Answer, Unanswered, asked
from raftlog.http.messages import Send

KEPT_MAX: Final = 2000
"""Rows that are kept for a page that comes back."""
AT_ONCE_MAX: Final = 100
POLL_S: Final = 0.1
RATES_S: Final = 1.0
RETRY_S: Final = 0.3
SILENT_S: Final = 5.0
"""A broker says something every second; one that does not is asked anew."""

Row = dict[str, Any]


class News:
    def __init__(self) -> None:
        self._rows: deque[tuple[int, Row]] = deque(maxlen=KEPT_MAX)
        self._last = 0

    def say(self, why: str, short: str) -> None:
        """Something that was done here."""
        at = str(wall_ms())
        self._add(
            {
                "id": f"dev.{self._last + 1}",
                "at": at,
                "last_at": at,
                "broker": 0,
                "kind": "fault",
                "term": 0,
                "why": why,
                "short": short,
                "cause": "fault",
                "other": None,
                "count": 0,
                "groups": [],
            }
        )

    def _add(self, row: Row) -> None:
        self._last += 1
        self._rows.append((self._last, row))

    async def listen(self, fleet: Fleet) -> None:
        """To every broker, each for what it says of itself. Until cancelled."""
        async with trio.open_nursery() as nursery:
            for broker in fleet.brokers.values():
                nursery.start_soon(self._listen, broker)

    async def _listen(self, broker: Broker) -> None:
        place = ""
        while True:
            if broker.process.is_running and not broker.is_paused:
                headers = {"Last-Event-ID": place} if place else {}
                try:
                    async with asked(broker.address, "/api/v1/events", headers=headers) as answer:
                        if answer.status == 200:
                            place = await self._take(broker, answer, place)
                except Unanswered:
                    pass
            await trio.sleep(RETRY_S)

    async def _take(self, broker: Broker, answer: Answer, place: str) -> str:
        """Until the stream ends, or is silent; how much it had told by then."""
        kept, pieces = b"", aiter(answer.pieces)
        while True:
            with trio.move_on_after(SILENT_S) as waiting:
                try:
                    kept += await anext(pieces)
                except StopAsyncIteration:
                    return place
            if waiting.cancelled_caught:
                return place
            *blocks, kept = kept.split(b"\n\n")
            for block in blocks:
                fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
                if fields.get(b"event") == b"raft":
                    place = fields.get(b"id", b"").decode()
                    for row in json.loads(fields[b"data"]):
                        if row["broker"] == broker.id:
                            self._add(row)

    async def follow(self, send: Send, seen: int) -> None:
        """Until cancelled."""
        if seen > self._last:
            seen = 0
        rates_due = 0.0
        while True:
            fresh = [(number, row) for number, row in self._rows if number > seen][:AT_ONCE_MAX]
            if fresh:
                seen = fresh[-1][0]
                await send(message("raft", [row for _, row in fresh], seen))
            if trio.current_time() >= rates_due:
                rates_due = trio.current_time() + RATES_S
                await send(message("rates", {"at": str(wall_ms())}))
            await trio.sleep(POLL_S)


def message(kind: str, value: object, number: int | None = None) -> bytes:
    head = f"event: {kind}\n" + (f"id: {number}\n" if number is not None else "")
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"{head}data: {data}\n\n".encode("utf-8", "replace")
