"""Accepts HTTP clients: so many, and so many of each address. Who is too many is told so and closed."""

from __future__ import annotations

import errno
import logging
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Final

import trio

from raftlog.http.connection import App, Connection
from raftlog.http.messages import Refusal

CONNECTIONS_MAX: Final = 64
CONNECTIONS_EACH_MAX: Final = 8
"""Of one address: a browser opens six."""
SHORTAGE_PAUSE_S: Final = 0.25

log = logging.getLogger("raftlog.http")


class Server:
    """The sockets and who came by them."""

    def __init__(self, sockets: Sequence[socket.socket], app: App) -> None:
        self._sockets = sockets
        self._app = app
        self._hosts: Counter[str] = Counter()
        self.accepted = 0
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Server {self.address[0]}:{self.address[1]} {self.connections} connections>"

    @property
    def address(self) -> tuple[str, int]:
        """Where the first socket listens: the port that was given when 0 was asked for."""
        host, port = self._sockets[0].getsockname()[:2]
        return host, port

    @property
    def connections(self) -> int:
        return self._hosts.total()

    async def run(self) -> None:
        """Serve until cancelled; every connection is closed then."""
        async with trio.open_nursery() as nursery:
            for listening in self._sockets:
                nursery.start_soon(self._accept, listening, nursery)

    async def _accept(self, listening: socket.socket, nursery: trio.Nursery) -> None:
        with trio.socket.from_stdlib_socket(listening) as sock:
            while True:
                try:
                    client, address = await sock.accept()
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        await trio.sleep(SHORTAGE_PAUSE_S)
                    continue
                host = str(address[0])
                if self.connections >= CONNECTIONS_MAX or self._hosts[host] >= CONNECTIONS_EACH_MAX:
                    self.refused += 1
                    nursery.start_soon(_turn_away, trio.SocketStream(client))
                    continue
                self.accepted += 1
                self._hosts[host] += 1
                nursery.start_soon(self._serve, trio.SocketStream(client), host)

    async def _serve(self, stream: trio.SocketStream, host: str) -> None:
        try:
            await Connection(stream, host, self._app).run()
        finally:
            self._hosts -= Counter({host: 1})


async def _turn_away(stream: trio.SocketStream) -> None:
    """Without reading: it is little, and a fresh connection takes it at once."""
    body = Refusal(503, "BUSY", "too many connections; try again", retriable=True).response.body
    head = (
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Retry-After: 1\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    try:
        with trio.move_on_after(1.0):
            await stream.send_all(head + body)
    except trio.BrokenResourceError:
        pass
    finally:
        await trio.aclose_forcefully(stream)
