"""Accepts HTTP clients: so many, and so many of each address. Who is too many may still ask for a probe: what
starts a broker again that does not answer must not do so because many people look at it. Everybody else is
told so and closed."""

from __future__ import annotations

import errno
import logging
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Final

import trio

from raftlog.http.connection import App, Connection, Terms
from raftlog.net.doorstep import Doorstep

BEYOND_MAX: Final = 16
"""Connections beyond those, that have not said yet what they want. The oldest goes when there are more: a
probe takes milliseconds."""
BEYOND_S: Final = 2.0
SHORTAGE_PAUSE_S: Final = 0.25

log = logging.getLogger("raftlog.http")


class Server:
    """The sockets and who came by them."""

    def __init__(self, sockets: Sequence[socket.socket], app: App, terms: Terms | None = None) -> None:
        self._sockets = sockets
        self._app = app
        self._terms = terms or Terms()
        self._hosts: Counter[str] = Counter()
        self._beyond = Doorstep(BEYOND_MAX)
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
                terms = self._terms
                if (
                    self.connections >= terms.connections_max
                    or self._hosts[host] >= terms.connections_each_max
                ):
                    self.refused += 1
                    nursery.start_soon(self._serve_probe, trio.SocketStream(client), host)
                    continue
                self.accepted += 1
                self._hosts[host] += 1
                nursery.start_soon(self._serve, trio.SocketStream(client), host)

    async def _serve(self, stream: trio.SocketStream, host: str) -> None:
        try:
            await Connection(stream, host, self._app, self._terms).run()
        finally:
            self._hosts -= Counter({host: 1})

    async def _serve_probe(self, stream: trio.SocketStream, host: str) -> None:
        with self._beyond.stand(BEYOND_S):
            await Connection(stream, host, self._app, self._terms, only_probes=True).run()
