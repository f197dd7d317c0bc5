"""All of HTTP in one place: which routes there are, who may take them, what every answer has."""

from __future__ import annotations

import functools
import importlib
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import trio

from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError
from raftlog.http import page
from raftlog.http.access import Access, secured, tokens_of
from raftlog.http.guard import Need, are_loopback
from raftlog.http.history import History
from raftlog.http.messages import Head, Refusal, Request, Response, Send, Stream
from raftlog.http.own_client import OwnClient, of_broker
from raftlog.http.page import Page
from raftlog.http.people import Directory
from raftlog.http.probes import Probes
from raftlog.http.routes import Handler, Route, Router
from raftlog.http.server import Server
from raftlog.http.view import View

API_MODULES: Final = (
    "cluster",
    "topics",
    "topic_changes",
    "group_list",
    "groups",
    "raft",
    "clients",
    "session",
    "events",
    "records",
    "dev",
)
"""Of `raftlog.http.api`: each has `routes(api)`, and is imported with the first request for one of them."""

FAREWELL_S: Final = 0.5
FAREWELL_POLL_S: Final = 0.01


class App:
    """Judges, routes and counts."""

    def __init__(self, view: View, access: Access) -> None:
        self._view = view
        self._access = access
        self._probes = Probes(view)
        self._client = of_broker(view.bootstrap)
        routes = [*_probe_routes(self._probes), *_metric_routes(view, self._probes, self._client)]
        self._router = Router([*routes, *page.routes(Page())])
        self._history = History(view)
        self._api: Router | None = None

    async def run(self) -> None:
        """What goes on in the background. Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._probes.watch)
            nursery.start_soon(self._history.run)
            nursery.start_soon(self._client.run)

    @property
    def routes(self) -> tuple[Route, ...]:
        """All of them. Imports the API."""
        return self._router.routes + self._api_router().routes

    def is_probe(self, head: Head) -> bool:
        try:
            return self._find(head)[0].need is Need.PROBE
        except Refusal:
            return False

    async def admit(self, head: Head) -> int:
        route, _ = self._find(head)
        if route.need is not Need.PROBE:
            await self._access.recognize(head)
        self._access.check(head, route.need)
        return route.body_max

    async def handle(self, request: Request) -> Response:
        route, places = self._find(request)
        self._access.check(request, route.need)  # again: its body took as long as the client liked
        response = await route.handle(request, *places)
        if response.stream is None:
            return response
        return replace(response, stream=self._while_allowed(request, route.need, response.stream))

    def _while_allowed(self, request: Request, need: Need, stream: Stream) -> Stream:
        """A stream that ends before it says anything to who may not see it any more."""

        async def run(send: Send) -> None:
            with trio.CancelScope() as scope:

                async def send_if_allowed(data: bytes) -> None:
                    try:
                        self._access.check(request, need)
                    except Refusal:
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
                    await send(data)

                await stream(send_if_allowed)

        return run

    def refused(self, refusal: Refusal) -> Response:
        return refusal.response

    def finish(self, head: Head | None, response: Response) -> Response:
        self._view.http_requests[self._name_of(head), str(response.status)] += 1
        return secured(response)

    def _name_of(self, head: Head | None) -> str:
        """The route's path; "none" for what has none, so that nobody makes series by asking."""
        try:
            return "none" if head is None else self._find(head)[0].path
        except Refusal:
            return "none"

    def _find(self, head: Head) -> tuple[Route, tuple[str, ...]]:
        is_api = head.path[:2] == ("api", "v1")
        return (self._api_router() if is_api else self._router).find(head)

    def _api_router(self) -> Router:
        if self._api is None:
            from raftlog.http.api.context import Api

            api = Api(view=self._view, access=self._access, client=self._client, history=self._history)
            modules = [importlib.import_module(f"raftlog.http.api.{name}") for name in API_MODULES]
            self._api = Router([route for module in modules for route in module.routes(api)])
        return self._api


class Endpoints:
    """HTTP of one broker: bound sockets, served inside `run`."""

    def __init__(
        self,
        config: BrokerConfig,
        view: View,
        sockets: Sequence[socket.socket],
        directory: Directory | None = None,
    ) -> None:
        """`directory` knows the users of the cluster, where it matters who asks. Raises ConfigError for a
        token that cannot be read."""
        self._view = view
        is_loopback = are_loopback(sockets)
        if view.faults is not None and not is_loopback:
            raise ConfigError("raftlog.dev.faults is set: HTTP is served on 127.0.0.1 only then")
        self.app = App(view, Access(config, tokens_of(config), is_loopback=is_loopback, directory=directory))
        self.server = Server(sockets, self.app)
        view.http_connections = lambda: self.server.connections

    @property
    def address(self) -> tuple[str, int]:
        return self.server.address

    def serves(self) -> None:
        """The broker's start is over."""
        self._view.is_serving = True

    def stops(self) -> None:
        """The broker hands over and is about to end."""
        self._view.stopping.set()

    async def farewell(self) -> None:
        """After `stops`: until every stream has said so to its client, for half a second at most."""
        with trio.move_on_after(FAREWELL_S):
            while self._view.streams:  # noqa: ASYNC110
                await trio.sleep(FAREWELL_POLL_S)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.server.run)
            nursery.start_soon(self.app.run)


def _probe_routes(probes: Probes) -> list[Route]:
    def route(path: str, handle: Handler, doc: str) -> Route:
        return Route(method="GET", path=path, need=Need.PROBE, handle=handle, doc=doc)

    lives = "Whether the event loop turns, whatever the cluster does: for a liveness probe."
    return [
        route("/livez", probes.livez, lives),
        route("/healthz", probes.livez, "As /livez."),
        route("/readyz", probes.readyz, "Whether the broker serves, and what it waits for."),
        route("/v1/status/ready", probes.status_ready, "As /readyz, by the name that Redpanda has for it."),
    ]


def _metric_routes(view: View, probes: Probes, client: OwnClient) -> list[Route]:
    """Their modules are imported with the first scrape."""

    @functools.cache
    def own() -> Handler:
        from raftlog.http import exposition, metrics, reading

        return exposition.Exposition(metrics.FAMILIES, lambda: reading.begin(view, probes)).response

    @functools.cache
    def of_kafka() -> Handler:
        from raftlog.http.kafka_metrics import KafkaMetrics

        return KafkaMetrics(view, client).response

    async def metrics(request: Request) -> Response:
        return await own()(request)

    async def kafka_metrics(request: Request) -> Response:
        return await of_kafka()(request)

    return [
        Route(
            method="GET",
            path="/metrics",
            need=Need.METRICS,
            handle=metrics,
            doc="raftlog's own metrics, as Prometheus reads them.",
        ),
        Route(
            method="GET",
            path="/metrics/kafka",
            need=Need.METRICS,
            handle=kafka_metrics,
            doc="The whole cluster, as kafka_exporter tells it.",
        ),
    ]


def reference() -> str:
    """The routes as a Markdown table for docs/."""
    nothing: Any = None  # handlers are named here, not called
    probes = Probes(nothing)
    routes = [*_probe_routes(probes), *_metric_routes(nothing, probes, nothing), *page.routes(Page())]
    for name in API_MODULES:
        routes += importlib.import_module(f"raftlog.http.api.{name}").routes(nothing)
    rows = []
    for route in routes:
        query = ", ".join(f"`{name}`" for name in route.parameters or ())
        path = route.path.replace("{}", "…")
        rows.append(f"| {route.method} | `{path}` | {query} | {route.need.value} | {route.doc} |")
    return (
        "\n".join(["| | Path | Parameters | Right | What it says or does |", "|---|---|---|---|---|", *rows])
        + "\n"
    )
