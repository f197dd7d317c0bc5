"""The two ends of a connection in TLS, in one process."""

from __future__ import annotations

import socket

import trio

from raftlog.net.stream import PlainStream
from raftlog.net.tls import TlsStream, secure
from tests.certificates import client_context, server_context


async def tls_pair() -> tuple[TlsStream, TlsStream]:
    """The one that dialled, and the one that was dialled."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = PlainStream(socket.create_connection(server.getsockname()))
        other = PlainStream(server.accept()[0])
    made: list[TlsStream] = []

    async def accept() -> None:
        made.append(await secure(other, server_context("localhost")))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            dialled = await secure(one, client_context(), "localhost")
    return dialled, made[0]
