"""The streams of events: what they cost, and who asks for all of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from raftlog.http.api import events, news
from raftlog.http.api.context import Api
from raftlog.http.messages import Request
from raftlog.metadata.catalog import Catalog
from raftlog.types import METADATA_GROUP

PAGES = 20
Send = Callable[[bytes], Awaitable[None]]


class Stage:
    """One broker whose ring has so many events."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = list[float]()
        self.happened = 1
        inside = SimpleNamespace(
            me=SimpleNamespace(id=1),
            metadata=SimpleNamespace(
                catalog=Catalog(), leader=1, group=SimpleNamespace(term=1, commit_index=1)
            ),
            reports=SimpleNamespace(events_of=self.events_of),
        )
        self.view = SimpleNamespace(inside=inside, stopping=trio.Event(), streams=0)
        api = Api(
            view=cast(Any, self.view),
            history=cast(Any, SimpleNamespace(last={"records_in": 1.0})),
            **dict.fromkeys(("access", "client"), cast(Any, None)),
        )
        self.events = events.Events(api)

        async def summary(api: Api) -> dict[str, Any]:
            return {}

        monkeypatch.setattr(events, "summary", summary)

    async def events_of(self, broker: int, since: int) -> dict[str, Any]:
        self.asked.append(trio.current_time())
        told = [self._event(number) for number in range(since + 1, self.happened + 1)]
        return {"incarnation": "01234567", "version": self.happened, "events": told}

    def _event(self, number: int) -> dict[str, Any]:
        event = {"number": number, "version": number, "ago_s": 0.0, "last_ago_s": 0.0, "kind": "leader"}
        event |= {"term": 1, "cause": "new", "why": "it is new", "other": None, "count": 1}
        return event | {"groups": [METADATA_GROUP]}

    async def follow(self, send: Send) -> None:
        request = Request(method="GET", path=(), query={}, headers={}, peer="")
        response = await self.events.stream(request)
        assert response.stream is not None
        await response.stream(send)


class Page:
    def __init__(self) -> None:
        self.got = list[tuple[float, str, Any]]()
        self.leave = trio.CancelScope()

    async def take(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        for block in data.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "event" in fields:
                self.got.append((trio.current_time(), fields["event"], json.loads(fields["data"])))

    def told(self, kind: str) -> list[Any]:
        return [data for _, name, data in self.got if name == kind]

    async def look(self, stage: Stage) -> None:
        with self.leave:
            await stage.follow(self.take)


@asynccontextmanager
async def looking(stage: Stage, pages: list[Page]) -> AsyncIterator[trio.Nursery]:
    """All pages look, until they leave, the nursery is cancelled, or the broker stops."""
    async with trio.open_nursery() as nursery:
        for page in pages:
            nursery.start_soon(page.look, stage)
        yield nursery


async def test_twenty_pages_ask_the_brokers_as_often_as_one(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page asked its broker ten times a second for what all of them are told."""
    stage, pages = Stage(monkeypatch), [Page() for _ in range(PAGES)]
    async with looking(stage, pages) as nursery:
        await trio.sleep(10.05)
        assert 90 <= len(stage.asked) <= 10 / news.POLL_S + 2
        for page in pages:
            assert [row["id"] for rows in page.told("raft") for row in rows] == ["01234567.1"]
            assert 10 <= len(page.told("rates")) <= 11
        nursery.cancel_scope.cancel()


async def test_what_happens_is_told_within_a_tenth_of_a_second_and_once(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, pages = Stage(monkeypatch), [Page() for _ in range(3)]
    async with looking(stage, pages) as nursery:
        await trio.sleep(5.03)
        pages[0].leave.cancel()  # whichever of them asked for all
        pages[2].leave.cancel()
        await trio.sleep(1.0)
        stage.happened, happened_at = 250, trio.current_time()
        await trio.sleep(1.0)
        told = [(at, rows) for at, kind, rows in pages[1].got if kind == "raft"]
        assert [row["id"] for _, rows in told for row in rows] == [f"01234567.{n}" for n in range(1, 251)]
        assert [len(rows) for _, rows in told[1:]] == [100, 100, 49]
        assert all(at <= happened_at + news.POLL_S + 0.01 for at, _ in told)
        nursery.cancel_scope.cancel()


async def test_a_broker_that_stops_says_so_to_all_at_once(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, pages = Stage(monkeypatch), [Page() for _ in range(PAGES)]
    async with looking(stage, pages):
        await trio.sleep(3.33)
        stage.view.stopping.set()
        stopped_at = trio.current_time()
    for page in pages:
        assert page.told("bye") == [{"broker": 1}]
        assert page.got[-1][0] < stopped_at + 0.05
    assert stage.view.streams == 0
