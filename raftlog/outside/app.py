"""HTTP of `raftlog console`: the page, what is seen from outside, and the parts of a broker's API for which
Kafka's own requests are enough."""

from __future__ import annotations

from typing import Final

import trio

from raftlog.http.access import Access, secured
from raftlog.http.api import groups, records, session, topic_changes
from raftlog.http.guard import Need
from raftlog.http.messages import Head, Refusal, Request, Response
from raftlog.http.own_client import OwnClient
from raftlog.http.page import Page
from raftlog.http.page import routes as page_routes
from raftlog.http.routes import Router
from raftlog.outside.api import Outside
from raftlog.outside.api import routes as outside_routes

ONLY_INSIDE: Final = ("raft", "elections", "connections", "apis", "dev")
"""What only a broker of raftlog knows, by what its path begins with."""


class OutsideApp:
    """`raftlog.http.connection.App`."""

    def __init__(self, client: OwnClient, access: Access) -> None:
        self._client = client
        self._access = access
        self._outside = outside = Outside(client, access)
        self._router = Router(
            [
                *page_routes(Page()),
                *outside_routes(outside),
                *groups.routes(outside),
                *records.routes(outside),
                *topic_changes.routes(outside),
                *session.routes(outside),
            ]
        )

    async def run(self) -> None:
        """What goes on in the background. Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._client.run)
            nursery.start_soon(self._outside.look.run)

    def is_probe(self, head: Head) -> bool:
        return False

    async def admit(self, head: Head) -> int:
        try:
            route, _ = self._router.find(head)
        except Refusal as refusal:
            if head.path[:2] == ("api", "v1") and head.path[2:3] and head.path[2] in ONLY_INSIDE:
                why = "only a broker of raftlog knows that: its own console shows it"
                raise Refusal(404, "NOT_FOUND", why) from refusal
            raise
        self._access.check(head, route.need)
        return route.body_max

    async def handle(self, request: Request) -> Response:
        route, places = self._router.find(request)
        if route.need not in (Need.PROBE, Need.SESSION):
            await self._outside.look.look()
        return await route.handle(request, *places)

    def refused(self, refusal: Refusal) -> Response:
        return refusal.response

    def finish(self, head: Head | None, response: Response) -> Response:
        return secured(response)
