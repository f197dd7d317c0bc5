"""From a path to a handler: exact paths and templates whose `{}` is one segment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from raftlog.http.guard import Need
from raftlog.http.messages import Head, Refusal, Request, Response, bad_request

BODY_BYTES_MAX: Final = 1 << 20

Handler = Callable[..., Awaitable[Response]]
"""Called with the request, and what stood in the template's places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    method: str
    path: str
    need: Need
    handle: Handler
    doc: str
    parameters: tuple[str, ...] | None = ()
    """Of the query; any other is refused. None: any is taken."""
    body_max: int = BODY_BYTES_MAX

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path.strip("/").split("/")) if self.path != "/" else ()

    def match(self, path: Sequence[str]) -> tuple[str, ...] | None:
        """What stands in the places; None for another path."""
        own = self.segments
        if len(own) != len(path):
            return None
        if any(mine != "{}" and mine != given for mine, given in zip(own, path, strict=True)):
            return None
        return tuple(given for mine, given in zip(own, path, strict=True) if mine == "{}")


class Router:
    """Looks routes up. HEAD is GET without a body."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._exact: dict[tuple[str, ...], dict[str, Route]] = {}
        self._templates: list[Route] = []
        for route in routes:
            if "{}" in route.segments:
                self._templates.append(route)
            else:
                self._exact.setdefault(route.segments, {})[route.method] = route

    def find(self, head: Head) -> tuple[Route, tuple[str, ...]]:
        """Raises Refusal: 404, 405 or 400."""
        method = "GET" if head.method == "HEAD" else head.method
        known: Mapping[str, tuple[Route, tuple[str, ...]]] = {
            name: (route, ()) for name, route in self._exact.get(head.path, {}).items()
        }
        if not known:
            known = {
                route.method: (route, places)
                for route in self._templates
                if (places := route.match(head.path)) is not None
            }
        if not known:
            raise Refusal(404, "NOT_FOUND", f"there is nothing at /{'/'.join(head.path)[:100]}")
        if method not in known:
            allowed = ", ".join(sorted(known))
            raise Refusal(405, "BAD_REQUEST", f"only {allowed} here", headers=(("Allow", allowed),))
        route, places = known[method]
        wanted = head.query.keys() if route.parameters is None else route.parameters
        unknown = sorted(head.query.keys() - set(wanted))
        if unknown:
            known_ones = ", ".join(wanted) or "none"
            raise bad_request(f"there is no parameter {unknown[0][:40]!r} here, only: {known_ones}")
        return route, places


async def call(route: Route, request: Request, places: tuple[str, ...]) -> Response:
    return await route.handle(request, *places)
