"""A worker's stores over HTTP: read only, and committed state only. `queries.py` knows the answers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from raftlog.http.connection import Terms
from raftlog.http.guard import Need, Tokens, are_loopback
from raftlog.http.messages import Head, Refusal, Request, Response
from raftlog.http.routes import Handler, Route
from raftlog.http.server import Server
from raftlog.http.service import Access, Service
from raftlog.streams.queries import (
    ROWS_DEFAULT,
    ROWS_MAX,
    TIME_MAX,
    BadKey,
    Elsewhere,
    NotYet,
    Queries,
    Seats,
    Unknown,
)

TERMS: Final = Terms(connections_max=64, connections_each_max=32, names_hold_anything=True)
PAGE_HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; frame-ancestors 'none'",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """Where a worker answers questions about its stores: `rs.run(app, http=rs.Http())`.

    `listen` is HOST:PORT, or sockets that listen already. On loopback without a `token` everybody may ask;
    where others come, too, without one nobody may. `hosts` are names by which clients reach the worker, and
    `page` is an HTML page of your own for `/`, whose scripts may ask the stores.
    """

    listen: str | Sequence[socket.socket] = "127.0.0.1:8088"
    token: bytes | None = None
    hosts: tuple[str, ...] = ()
    page: str | None = None

    def sockets(self) -> Sequence[socket.socket]:
        """Those that listen. Raises OSError."""
        if not isinstance(self.listen, str):
            return self.listen
        host, _, port = self.listen.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.create_server((host, int(port)), family=family)
        found.setblocking(False)
        return [found]


class StoresApp(Service):
    """Answers, and refusals in the package's own form."""

    def check_kind(self, head: Head, kind: str) -> None:
        """There is no body."""

    def refused(self, refusal: Refusal) -> Response:
        return refusal.response

    def finish(self, head: Head | None, response: Response) -> Response:
        """As always, but that a page of the user's own says itself what it may do."""
        own = {name for name, _ in response.headers}
        finished = super().finish(head, response)
        added = finished.headers[len(response.headers) :]
        return replace(finished, headers=(*response.headers, *(each for each in added if each[0] not in own)))


class Calls:
    """The routes."""

    def __init__(self, queries: Queries, page: str | None) -> None:
        self._queries = queries
        self._page = page

    def routes(self) -> list[Route]:
        window = ("limit", "from", "to")
        found = [
            _route("/health", Need.PROBE, self.health, "How many tasks run, and how many are restored."),
            _route("/stores", Need.READ, self.stores, "Stores, with their serdes and the partitions here."),
            _route("/stores/{}", Need.READ, self.rows, "Rows of a store.", window),
            _route("/stores/{}/{}", Need.READ, self.row, "A key's value, or its windows.", window),
        ]
        if self._page is not None:
            found.append(_route("/", Need.PROBE, self.page, "The page that was given."))
        return found

    async def health(self, request: Request) -> Response:
        return _answer(self._queries.health)

    async def stores(self, request: Request) -> Response:
        return _answer(self._queries.stores)

    async def rows(self, request: Request, name: str) -> Response:
        limit, low, high = _bounds(request)
        return _answer(lambda: self._queries.rows(name, limit, low, high))

    async def row(self, request: Request, name: str, key: str) -> Response:
        limit, low, high = _bounds(request)
        return _answer(lambda: self._queries.row(name, key, limit, low, high))

    async def page(self, request: Request) -> Response:
        body = (self._page or "").encode()
        return Response(content_type="text/html; charset=utf-8", headers=PAGE_HEADERS, body=body)


def open_server(seats: Seats, http: Http) -> Server:
    """The stores of a worker over HTTP, to be run. Raises OSError when nobody can listen there."""
    sockets = http.sockets()
    access = Access(
        what="worker",
        tokens=Tokens(http.token, None),
        hosts=http.hosts,
        asks_nobody=are_loopback(sockets),
        closed="the worker listens for others than this machine, and has no token: only /health is served",
    )
    return Server(sockets, StoresApp(Calls(Queries(seats), http.page).routes(), access), TERMS)


def _route(path: str, need: Need, handle: Handler, doc: str, parameters: tuple[str, ...] = ()) -> Route:
    return Route(
        method="GET", path=path, need=need, handle=handle, doc=doc, parameters=parameters, body_max=0
    )


def _bounds(request: Request) -> tuple[int, int, int]:
    return (
        request.int("limit", ROWS_DEFAULT, 1, ROWS_MAX),
        request.int("from", 0, 0, TIME_MAX - 1),
        request.int("to", TIME_MAX, 0, TIME_MAX),
    )


def _answer(ask: Callable[[], str]) -> Response:
    try:
        return Response(body=ask().encode("utf-8", "replace"))
    except Unknown as error:
        raise Refusal(404, "NOT_FOUND", str(error)) from error
    except BadKey as error:
        raise Refusal(400, "BAD_REQUEST", str(error)) from error
    except Elsewhere as error:
        raise Refusal(421, "NOT_HERE", str(error)) from error
    except NotYet as error:
        headers = (("Retry-After", "1"),)
        raise Refusal(503, "RESTORING", str(error), retriable=True, headers=headers) from error
