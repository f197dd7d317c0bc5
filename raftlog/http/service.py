"""What stands on the client and serves HTTP: the registry, and the worker of connectors.

On loopback without a token everybody may do everything. Reached by others, a service without a token answers
probes alone, unless it is told that it needs none. A page of another site changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from raftlog.http.guard import Hosts, Need, Role, Tokens, bearer, check_site, unauthenticated
from raftlog.http.messages import Head, Refusal, Request, Response
from raftlog.http.routes import Route, Router

HEADERS: Final = (
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may ask."""

    what: str
    """As messages call the service."""
    tokens: Tokens
    hosts: Iterable[str]
    asks_nobody: bool
    """Whether it needs no token."""
    closed: str
    """Said to who asks for more than a probe where there must be a token, and none is."""


class Service:
    """As `raftlog.http.connection` asks. Who makes one says in what form refusals are, and which bodies it
    takes."""

    def __init__(self, routes: Sequence[Route], access: Access) -> None:
        self._tokens = access.tokens
        self._is_open = access.asks_nobody and not access.tokens
        self._closed = access.closed
        self._hosts = Hosts(access.hosts, of=access.what, setting="--host")
        self._router = Router(routes)

    def is_probe(self, head: Head) -> bool:
        """Whether it asks for a sign of life alone."""
        try:
            return self.find(head)[0].need is Need.PROBE
        except Refusal:
            return False

    async def admit(self, head: Head) -> int:
        """Whether the request may be made, and how large its body may be."""
        route, _ = self.find(head)
        if route.need is Need.PROBE:
            return 0
        self._hosts.check(head)
        if head.method not in ("GET", "HEAD"):
            check_site(head)
        if not self._is_open and self._role(head) is Role.VIEWER and route.need is Need.CHANGE:
            raise Refusal(403, "FORBIDDEN", "a viewer changes nothing")
        self.check_kind(head, head.headers.get("content-type", "").partition(";")[0].strip().lower())
        return route.body_max

    def _role(self, head: Head) -> Role:
        if not self._tokens:
            raise Refusal(403, "FORBIDDEN", self._closed)
        role = self._tokens.role_of(bearer(head))
        if role is None:
            raise unauthenticated()
        return role

    async def handle(self, request: Request) -> Response:
        """The answer."""
        route, places = self.find(request)
        return await route.handle(request, *places)

    def finish(self, head: Head | None, response: Response) -> Response:
        """With the headers of all answers."""
        return replace(response, headers=response.headers + HEADERS)

    def find(self, head: Head) -> tuple[Route, tuple[str, ...]]:
        """The route, and what stands in its places. Raises Refusal."""
        return self._router.find(head)

    def check_kind(self, head: Head, kind: str) -> None:
        """Refuse a body of a kind that is not taken; `kind` is its content type, bare."""
        raise NotImplementedError

    def refused(self, refusal: Refusal) -> Response:
        """In the service's own form."""
        raise NotImplementedError
