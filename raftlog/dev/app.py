"""HTTP of `raftlog dev`: the console, faults, and all that the brokers answer.

What is about the cluster is asked of a broker that reaches most of the others; what each broker says of
itself, of itself: one that is cut off is heard here as well as any. Only served on loopback, to pages of
its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

import trio

from raftlog.config import BrokerConfig
from raftlog.dev.fleet import Broker, Fleet, parse_links
from raftlog.dev.forward import Answer, Unanswered, ask, asked
from raftlog.dev.load import Load
from raftlog.dev.news import News
from raftlog.dev.trace import traced
from raftlog.http.access import Access, secured
from raftlog.http.api.raft import group_as_told
from raftlog.http.guard import Need, Tokens
from raftlog.http.messages import Head, Refusal, Request, Response, Send, bad_request
from raftlog.http.page import Page
from raftlog.http.page import routes as page_routes
from raftlog.http.routes import Route, Router
from raftlog.version import version

API: Final = "/api/v1"
ANSWER_S: Final = 15.0
HERE_S: Final = 0.8
"""How long a broker has to say how it is itself: the page asks twice a second."""
PASSED_ON: Final = ("content-type", "accept", "last-event-id")
PASSED_BACK: Final = ("content-disposition", "cache-control")
BODY_BYTES_MAX: Final = 2 << 20


class DevApp:
    def __init__(self, fleet: Fleet, news: News, load: Load) -> None:
        self._fleet, self._news, self._load = fleet, news, load
        config = BrokerConfig.of({})
        self._access = Access(config, Tokens(None, None), is_loopback=True)
        self._router = Router([*page_routes(Page()), *self._routes()])

    # As `raftlog.http.connection` asks

    def is_probe(self, head: Head) -> bool:
        return False

    async def admit(self, head: Head) -> int:
        try:
            route, _ = self._router.find(head)
        except Refusal:
            if head.path[:2] != ("api", "v1"):
                raise
            self._access.check(head, Need.READ if head.method in ("GET", "HEAD") else Need.CHANGE)
            return BODY_BYTES_MAX
        self._access.check(head, route.need)
        return route.body_max

    async def handle(self, request: Request) -> Response:
        try:
            route, places = self._router.find(request)
        except Refusal:
            return await self._forward(request)
        return await route.handle(request, *places)

    def refused(self, refusal: Refusal) -> Response:
        return refusal.response

    def finish(self, head: Head | None, response: Response) -> Response:
        return secured(response)

    # Of the cluster, by a broker

    async def _forward(self, request: Request) -> Response:
        if request.path[2:3] == ("dev",):
            raise Refusal(404, "NOT_FOUND", "there is nothing here")
        brokers = self._fleet.best()
        if request.path[-1] == "tail" and brokers:
            return Response(content_type="text/event-stream", stream=self._tail(request, brokers[0]))
        for broker in brokers:
            try:
                with trio.fail_after(ANSWER_S):
                    async with self._asked(request, broker) as answer:
                        return _response(answer, await answer.read())
            except (Unanswered, trio.TooSlowError) as error:
                if request.method != "GET":  # it may have been done
                    raise Refusal(504, "TIMED_OUT", str(error), retriable=True) from error
        raise Refusal(503, "BUSY", "no broker is running that answers", retriable=True)

    def _asked(self, request: Request, broker: Broker) -> Any:
        headers = {name: value for name, value in request.headers.items() if name in PASSED_ON}
        if request.method != "GET":
            headers["X-Raftlog-CSRF"] = "1"  # this one had it
        return asked(
            broker.address, _target(request), method=request.method, headers=headers, body=request.body
        )

    def _tail(self, request: Request, broker: Broker) -> Callable[[Send], Awaitable[None]]:
        async def follow(send: Send) -> None:
            try:
                async with self._asked(request, broker) as answer:
                    async for piece in answer.pieces:
                        await send(piece)
            except Unanswered:
                pass  # the browser asks again

        return follow

    async def _here(self, target: str) -> dict[int, Any]:
        """What each running broker answers, asked at once."""
        found: dict[int, Any] = {}

        async def one(broker: Broker) -> None:
            try:
                found[broker.id] = await ask(broker.address, target, within_s=HERE_S)
            except Unanswered:
                found[broker.id] = None

        async with trio.open_nursery() as nursery:
            for broker in self._fleet.best():
                nursery.start_soon(one, broker)
        return found

    async def _group(self, request: Request, topic: str, partition: str) -> Response:
        """A Raft group, each broker asked for its own replica."""
        answers = await self._here(f"{API}/raft/{quote(topic, safe='')}/{quote(partition, safe='')}?here=1")
        told = [answer for answer in answers.values() if answer is not None]
        if not told:
            return await self._forward(request)
        said: dict[str, Any] = {}
        for answer in told:
            for number, view in answer["said_by"].items():
                said[number] = view or said.get(number)
        return Response.of(group_as_told(told[0]["group"], said))

    async def _brokers(self, request: Request) -> Response:
        answers = await self._here(f"{API}/brokers?here=1")
        best = next((answers[broker.id] for broker in self._fleet.best() if answers[broker.id]), None)
        if best is None:
            raise Refusal(503, "BUSY", "no broker is running that answers", retriable=True)
        own = {row["id"]: row["report"] for rows in answers.values() for row in rows or () if row["report"]}
        return Response.of([{**row, "is_this": False, "report": own.get(row["id"])} for row in best])

    # Of this process

    async def _about(self, request: Request) -> Response:
        return Response.of(
            {
                "mode": "dev",
                "broker": None,
                "version": version(),
                "role": "admin",
                "read_only": False,
                "may_change": True,
                "sees_records": True,
            }
        )

    async def _events(self, request: Request) -> Response:
        given = request.headers.get("last-event-id", "")
        seen = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else 0

        async def follow(send: Send) -> None:
            await send(b"retry: 1000\n\n")
            await self._news.follow(send, seen)

        return Response(content_type="text/event-stream", stream=follow)

    def _status(self) -> Response:
        return Response.of({**self._fleet.status(), "load": self._load.status()})

    async def _dev(self, request: Request) -> Response:
        return self._status()

    async def _links(self, request: Request) -> Response:
        body = request.json()
        known = self._fleet.brokers
        cut, heal = parse_links(body.get("cut", []), known), parse_links(body.get("heal", []), known)
        await self._fleet.change_links(cut, heal)
        return self._status()

    async def _heal(self, request: Request) -> Response:
        await self._fleet.heal()
        return self._status()

    async def _process(self, request: Request, number: str, what: str) -> Response:
        broker = self._fleet.broker(int(number) if number.isascii() and number.isdigit() else None)
        await self._fleet.do(what, broker)
        return self._status()

    async def _disk(self, request: Request) -> Response:
        body = request.json()
        slow = body.get("slow_ms")
        if not isinstance(slow, int) or isinstance(slow, bool):
            raise bad_request("slow_ms is a number of milliseconds")
        await self._fleet.slow_disk(self._fleet.broker(body.get("broker")), slow)
        return self._status()

    async def _set_load(self, request: Request) -> Response:
        self._load.set(request.json())
        return self._status()

    async def _trace(self, request: Request) -> Response:
        return Response.of(await traced(self._fleet, request.json()))

    def _routes(self) -> list[Route]:
        def get(path: str, handle: Any, *parameters: str) -> Route:
            return Route(
                method="GET",
                path=f"{API}/{path}",
                need=Need.READ,
                handle=handle,
                doc="",
                parameters=parameters,
            )

        def post(path: str, handle: Any) -> Route:
            return Route(method="POST", path=f"{API}/{path}", need=Need.CHANGE, handle=handle, doc="")

        return [
            get("about", self._about),
            get("events", self._events),
            get("brokers", self._brokers),
            get("raft/{}/{}", self._group),
            get("dev", self._dev),
            post("dev/links", self._links),
            post("dev/heal", self._heal),
            post("dev/brokers/{}/{}", self._process),
            post("dev/disk", self._disk),
            post("dev/load", self._set_load),
            post("dev/trace", self._trace),
        ]


def _target(request: Request) -> str:
    path = "/".join(quote(segment, safe="") for segment in request.path)
    return f"/{path}?{urlencode(request.query)}" if request.query else f"/{path}"


def _response(answer: Answer, body: bytes) -> Response:
    headers = tuple((name.title(), value) for name, value in answer.headers if name in PASSED_BACK)
    return Response(status=answer.status, content_type=answer.content_type, headers=headers, body=body)
