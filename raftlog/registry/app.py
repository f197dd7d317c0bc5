"""The registry over HTTP: who may ask, and in what form answers are.

The rules are those of the broker's HTTP: on loopback without a token everybody may do everything; reached by
others, a registry without a token answers probes and nothing else, unless it is told that it may. A page of
another site cannot change anything: Confluent's clients send a content type that such a page may not send
unasked.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from raftlog.http.connection import Terms
from raftlog.http.guard import Need, Tokens, are_loopback
from raftlog.http.messages import Head, Refusal, Request, Response
from raftlog.http.routes import Route
from raftlog.http.server import Server
from raftlog.http.service import Access, Service
from raftlog.registry import refusals
from raftlog.registry.api import routes
from raftlog.registry.registry import Registry

TERMS: Final = Terms(connections_max=256, connections_each_max=128, names_hold_anything=True)
"""Each of a machine's producers and consumers keeps a connection. A subject may be the path of a `.proto`
file, or any name of a record."""
CONTENT_TYPES: Final = (
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
    "application/octet-stream",
)


class RegistryApp(Service):
    """Confluent's forms."""

    def check_kind(self, head: Head, kind: str) -> None:
        """What Confluent's clients send."""
        if head.method in ("POST", "PUT") and kind not in CONTENT_TYPES:
            raise Refusal(415, "BAD_REQUEST", f"Content-Type is one of {', '.join(CONTENT_TYPES)}")

    def refused(self, refusal: Refusal) -> Response:
        """In Confluent's form."""
        return refusals.refused(refusal)

    def find(self, head: Head) -> tuple[Route, tuple[str, ...]]:
        """A slash at the end says nothing, as in Confluent's."""
        if len(head.path) > 1 and not head.path[-1]:
            head = replace(head, path=head.path[:-1])
        return super().find(head)


def open_server(
    registry: Registry,
    sockets: Sequence[socket.socket],
    tokens: Tokens,
    hosts: Iterable[str] = (),
    *,
    is_insecure: bool = False,
) -> Server:
    """The registry at these sockets, to be run; `is_insecure` when others than this machine need no token."""
    access = Access(
        what="registry",
        tokens=tokens,
        hosts=hosts,
        asks_nobody=is_insecure or are_loopback(sockets),
        closed="the registry listens for others than this machine, and has neither --token-file nor"
        " --insecure: only probes are served",
    )
    return Server(sockets, RegistryApp([*_probes(), *routes(registry)], access), TERMS)


def _probes() -> list[Route]:
    async def lives(request: Request) -> Response:
        return Response.of({"status": "ok"})

    return [
        Route(method="GET", path=path, need=Need.PROBE, handle=lives, doc=doc, body_max=0)
        for path, doc in (
            ("/livez", "Whether the registry runs."),
            ("/readyz", "Whether it serves: the same."),
        )
    ]
