"""The REST interface, as Kafka Connect's: what consoles such as kafbat UI and AKHQ call. Statuses and fields
are those that Kafka Connect answers with (`tests/connect/kafka_connect_answers.json`).

Who may set connectors may read the worker's files by them: who may ask is as for the registry. On loopback
without a token everybody may do everything; reached by others, a worker without a token answers probes only.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Final

from raftlog.client.errors import ClientError
from raftlog.connect.errors import ConnectError, ConnectorExists, NoConnector
from raftlog.http.connection import Terms
from raftlog.http.guard import Tokens, are_loopback
from raftlog.http.messages import Head, Refusal, Request, Response
from raftlog.http.routes import Route
from raftlog.http.server import Server
from raftlog.http.service import Access, Service

TERMS: Final = Terms(connections_max=64, connections_each_max=32, parameters_repeat=True)


class ConnectApp(Service):
    """Kafka Connect's forms."""

    def check_kind(self, head: Head, kind: str) -> None:
        """JSON alone."""
        has_body = head.headers.get("content-length", "0") != "0" or "transfer-encoding" in head.headers
        if has_body and kind != "application/json":
            raise Refusal(415, "BAD_REQUEST", "HTTP 415 Unsupported Media Type: it is application/json")

    async def handle(self, request: Request) -> Response:
        """The answer. What brokers refuse is told."""
        try:
            return await super().handle(request)
        except NoConnector as error:
            raise Refusal(404, "NOT_FOUND", str(error)) from error
        except ConnectorExists as error:
            raise Refusal(409, "CONFLICT", str(error)) from error
        except ConnectError as error:
            raise Refusal(400, "BAD_REQUEST", str(error)) from error
        except ClientError as error:
            raise Refusal(500, "UNKNOWN_SERVER_ERROR", str(error)) from error

    def refused(self, refusal: Refusal) -> Response:
        """In Kafka Connect's form."""
        body = {"error_code": refusal.status, "message": str(refusal)}
        return Response.of(body, refusal.status, headers=refusal.headers)


def open_server(
    routes: Sequence[Route], sockets: Sequence[socket.socket], tokens: Tokens, hosts: Iterable[str] = ()
) -> Server:
    """The REST interface at these sockets, to be run."""
    access = Access(
        what="worker",
        tokens=tokens,
        hosts=hosts,
        asks_nobody=are_loopback(sockets),
        closed="the worker listens for others than this machine, and has no --token-file: only /health is "
        "served",
    )
    return Server(sockets, ConnectApp(routes, access), TERMS)
