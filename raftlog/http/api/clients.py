"""Who talks to this broker, and about what."""

from __future__ import annotations

import trio

from raftlog.http.api.context import Api
from raftlog.http.guard import Need
from raftlog.http.messages import Request, Response
from raftlog.http.routes import Route

CLIENTS_MAX = 500


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
    ]
