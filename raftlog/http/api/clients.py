"""Who talks to this broker, about what, and a session for who looks at it."""

from __future__ import annotations

import time

import trio

from raftlog.http.access import Need
from raftlog.http.api.context import Api
from raftlog.http.messages import Refusal, Request, Response
from raftlog.http.routes import Route

CLIENTS_MAX = 500
SESSION_BODY_MAX = 4096
"""What anybody may send is parsed in one go."""


class Clients:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def connections(self, request: Request) -> Response:
        """The busiest."""
        kafka, now = self._api.view.kafka(), trio.current_time()
        clients = [] if kafka is None else kafka.clients()
        clients.sort(key=lambda client: client.requests, reverse=True)
        rows = [
            {
                "host": client.host,
                "listener": client.listener,
                "client_id": client.client_id,
                "since_s": round(now - client.since, 1),
                "requests": client.requests,
                "bytes_in": client.bytes_in,
                "bytes_out": client.bytes_out,
                "unanswered": client.unanswered,
                "last_api": client.last_api,
            }
            for client in clients[:CLIENTS_MAX]
        ]
        return Response.of({"items": rows, "total": len(clients)})

    async def apis(self, request: Request) -> Response:
        view = self._api.view
        kafka = view.kafka()
        traffic = {} if kafka is None else kafka.traffic
        rows = []
        for api, (first, last) in sorted(view.versions.items()):
            seen = traffic.get(api)
            row = {"api": api.name, "key": int(api), "versions": [first, last], "requests": 0}
            if seen is not None:
                row |= {
                    "requests": seen.latency.count,
                    "refusals": seen.refused,
                    "failures": seen.failed,
                    "p50_ms": round(1000 * seen.latency.within(0.5), 3),
                    "p99_ms": round(1000 * seen.latency.within(0.99), 3),
                    "request_bytes": seen.request_bytes,
                    "response_bytes": seen.response_bytes,
                }
            rows.append(row)
        return Response.of(rows)

    async def session(self, request: Request) -> Response:
        """A token for a cookie, so that a page need not keep it."""
        access = self._api.access
        token = request.json().get("token", "")
        role = access.role_of_token(token.encode(errors="replace")) if isinstance(token, str) else None
        if role is None and access.is_open:
            return Response.of({"role": "admin", "expires_s": None})
        if role is None:
            raise Refusal(401, "UNAUTHENTICATED", "that is no token of this broker")
        cookie = ("Set-Cookie", access.cookie_for(role, time.time()))
        return Response.of({"role": role.value, "expires_s": 8 * 3600}, headers=(cookie,))


def routes(api: Api) -> list[Route]:
    clients = Clients(api)
    return [
        Route(
            method="GET",
            path="/api/v1/connections",
            need=Need.READ,
            handle=clients.connections,
            doc="Connections of Kafka clients with this broker, the 500 busiest.",
        ),
        Route(
            method="GET",
            path="/api/v1/apis",
            need=Need.READ,
            handle=clients.apis,
            doc="What this broker serves, and what was asked of it.",
        ),
        Route(
            method="POST",
            path="/api/v1/session",
            need=Need.SESSION,
            handle=clients.session,
            body_max=SESSION_BODY_MAX,
            doc="A cookie for eight hours, for a `token`.",
        ),
    ]
