"""Accepts Kafka clients and looks after their connections.

Knows sockets and limits; what a request means is the handlers' business. One bad client costs only itself:
connections are bounded in number, frames in size, silence in time, and a shortage of file descriptors
stops accepting for a moment, never serving.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import trio

from raftlog.broker.admission import Admission
from raftlog.broker.backend import Backend
from raftlog.broker.certificate import Certificate
from raftlog.broker.complaints import Complaints
from raftlog.broker.connection import THE_BROKER_STOPS, THE_CLIENT_LEFT, Connection
from raftlog.broker.dispatch import Dispatcher
from raftlog.broker.latency import Latency
from raftlog.broker.origin import Origin
from raftlog.broker.outbox import Outbox
from raftlog.broker.securing import secure_client
from raftlog.broker.traffic import Traffic
from raftlog.errors import InvalidInput
from raftlog.net.doorstep import Doorstep
from raftlog.net.frames import SCRATCH_SIZE
from raftlog.net.stream import KEEP_ALIVE, PlainStream, Stream
from raftlog.protocol.api import ApiKey

log = logging.getLogger("raftlog.broker")

ACCEPTED_AT_ONCE_MAX: Final = 64
"""Connections accepted before others get a turn."""
SECURED_WITHIN_S: Final = 10.0
"""How long a TLS handshake may take, the first byte included."""
STRANGERS_MAX: Final = 1000
"""Connections whose TLS handshake is not over; beyond it the oldest ends."""
SWEEP_INTERVAL: Final = 1.0
SHORTAGE_PAUSE: Final = 0.25
_SHORTAGES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Listener:
    """The listening sockets of all named listeners, and their connections. Limits are read from the
    configuration once."""

    def __init__(
        self,
        backend: Backend,
        sockets: Sequence[tuple[str, socket.socket]],
        certificate: Certificate | None = None,
    ) -> None:
        """`sockets` are those that listen, each with the name of its listener; `certificate` is for those in
        TLS."""
        self._memory = backend.memory
        self._dispatcher = Dispatcher(backend)
        self._sockets = sockets
        self._connections: set[Connection] = set()
        self._scratch = memoryview(bytearray(SCRATCH_SIZE))
        self._to_flush: list[Outbox] = []
        self._flush_wanted = trio.Event()
        self._complaints = Complaints(log, "connections were closed or refused")
        config = backend.config
        self._certificate = certificate
        self._encrypted = {name for name, _ in sockets if config.is_encrypted(name)}
        self._doorstep = Doorstep(STRANGERS_MAX)
        self._request_size_max = config.int("socket.request.max.bytes")
        self._admission = Admission(config)
        self._idle_max = config.int("connections.max.idle.ms") / 1000
        self._requests_ended = 0
        self.accepted = 0
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Listener {self.address[0]}:{self.address[1]} {len(self._connections)} connections>"

    @property
    def address(self) -> tuple[str, int]:
        """Where the first of them listens: the port that was given when 0 was asked for."""
        host, port = self._sockets[0][1].getsockname()[:2]
        return host, port

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where each listener is, by its name."""
        return {name: sock.getsockname()[:2] for name, sock in reversed(self._sockets)}

    def statistics(self) -> dict[str, int]:
        """Counts since the start, and connections now."""
        return {
            "connections": len(self._connections),
            "accepted": self.accepted,
            "refused": self.refused,
            "requests": self._requests_ended + sum(each.requests for each in self._connections),
        }

    @property
    def latencies(self) -> dict[ApiKey, Latency]:
        """How long answers took since the start, by API."""
        return {api: traffic.latency for api, traffic in self.traffic.items()}

    @property
    def traffic(self) -> dict[ApiKey, Traffic]:
        """What went through each API since the start."""
        return self._dispatcher.traffic

    @property
    def connections(self) -> list[Connection]:
        """Those that are open."""
        return list(self._connections)

    async def run(self) -> None:
        """Accept and serve until cancelled; every connection is closed then. Raises what a connection
        raises: an error of ours that the broker must stop for."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep)
                nursery.start_soon(self._flush)
                if self._certificate is not None:
                    nursery.start_soon(self._certificate.watch)
                for name, listening in self._sockets:
                    nursery.start_soon(self._accept, name, listening, nursery)
        finally:
            for _, listening in self._sockets:
                listening.close()
            for api, latency in sorted(self.latencies.items()):
                log.info("%s: %r", api.name, latency)

    async def _accept(self, name: str, listening: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            for _ in range(ACCEPTED_AT_ONCE_MAX):
                try:
                    sock, address = listening.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _SHORTAGES:
                        log.warning("not accepting for a moment: %s", error)
                        await trio.sleep(SHORTAGE_PAUSE)
                    break  # otherwise the client went away before it was accepted
                self._admit(sock, Origin(address[0], name), nursery)

    def _admit(self, sock: socket.socket, origin: Origin, nursery: trio.Nursery) -> None:
        problem = self._admission.enter(origin.host)
        if problem is not None:
            self.refused += 1
            self._complain(f"refused {origin.host}: {problem}")
            sock.close()
            return
        self.accepted += 1
        stream = PlainStream(sock, [KEEP_ALIVE])
        if origin.listener in self._encrypted:
            nursery.start_soon(self._serve_secured, stream, origin, nursery)
        else:
            nursery.start_soon(self._serve, self._connection(stream, origin, nursery))

    def _connection(self, stream: Stream, origin: Origin, nursery: trio.Nursery) -> Connection:
        connection = Connection(
            stream,
            origin,
            self._dispatcher,
            self._scratch,
            self._request_size_max,
            flush_soon=self._flush_soon,
            spawn_drain=lambda outbox: nursery.start_soon(outbox.drain),
        )
        self._connections.add(connection)
        return connection

    async def _serve_secured(self, plain: PlainStream, origin: Origin, nursery: trio.Nursery) -> None:
        """TLS first. What goes wrong costs this connection."""
        assert self._certificate is not None
        secured, problem = None, "the TLS handshake was not over in time"
        try:
            with self._doorstep.stand(SECURED_WITHIN_S):
                secured = await secure_client(plain, self._certificate.context)
        except (InvalidInput, OSError) as error:
            problem = THE_CLIENT_LEFT if isinstance(error, ConnectionError) else str(error)
        finally:
            if secured is None:
                plain.close()
                self._admission.leave(origin.host)
        if secured is not None:
            stream, principal = secured
            await self._serve(self._connection(stream, replace(origin, principal=principal), nursery))
        elif problem != THE_CLIENT_LEFT:
            self._complain(f"closed a connection of {origin.host} to {origin.listener}: {problem}")

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._admission.leave(connection.origin.host)
            self._requests_ended += connection.requests
            if connection.end_reason not in (THE_CLIENT_LEFT, THE_BROKER_STOPS):
                self._complain(f"closed {connection!r}: {connection.end_reason}")

    def _complain(self, message: str) -> None:
        self._complaints.add(trio.current_time(), message)

    def _flush_soon(self, outbox: Outbox) -> None:
        self._to_flush.append(outbox)
        self._flush_wanted.set()

    async def _flush(self) -> None:
        """Send what outboxes have gathered in a round of the event loop."""
        while True:
            await self._flush_wanted.wait()
            self._flush_wanted = trio.Event()
            outboxes, self._to_flush = self._to_flush, []
            for outbox in outboxes:
                outbox.flush()

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_INTERVAL)
            now = trio.current_time()
            for connection in list(self._connections):
                connection.sweep(now, self._idle_max)
            self._memory.wake()
            self._complaints.flush()
