"""Accepts Kafka clients and looks after their connections.

Knows sockets and limits; what a request means is the handlers' business. One bad client costs only itself:
connections are bounded in number, frames in size, silence in time, and a shortage of file descriptors
stops accepting for a moment, never serving.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker.admission import RATE, Admission, CreationRate
from raftlog.broker.backend import Backend
from raftlog.broker.certificate import Certificate
from raftlog.broker.complaints import Complaints
from raftlog.broker.connection import (
    THE_BROKER_STOPS,
    THE_CLIENT_LEFT,
    THE_LOGIN_WAS_REFUSED,
    Connection,
    nothing,
)
from raftlog.broker.dispatch import Dispatcher
from raftlog.broker.latency import Latency
from raftlog.broker.origin import ANONYMOUS, Origin
from raftlog.broker.outbox import Outbox
from raftlog.broker.quotas import PAUSE_MAX_S
from raftlog.broker.securing import lasts_s, secure_client
from raftlog.broker.signposts import Signposts
from raftlog.broker.traffic import Traffic
from raftlog.errors import InvalidInput
from raftlog.metadata.acls import kept_host
from raftlog.net.doorstep import Doorstep
from raftlog.net.frames import SCRATCH_SIZE
from raftlog.net.stream import KEEP_ALIVE, PlainStream, Stream
from raftlog.protocol.api import ApiKey

if TYPE_CHECKING:
    from raftlog.broker.authentication import Authentication
    from raftlog.broker.tokens import Tokens

log = logging.getLogger("raftlog.broker")

ACCEPTED_AT_ONCE_MAX: Final = 64
"""Connections accepted before others get a turn."""
SECURED_WITHIN_S: Final = 10.0
"""How long a TLS handshake and a login may take, both together, the first byte included."""
STRANGERS_MAX: Final = 1000
"""Connections whose TLS handshake or login is not over; beyond it the oldest ends."""
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
        certificates: Mapping[str, Certificate] | None = None,
        tokens: Tokens | None = None,
        signposts: Signposts | None = None,
    ) -> None:
        """`sockets` are those that listen, each with the name of its listener; `certificates` are by the
        names of those in TLS, `tokens` for those that take any."""
        self._memory = backend.memory
        self._audit = backend.notes.audit
        self._dispatcher = Dispatcher(backend)
        self._signposts = signposts or Signposts(backend.config)
        self._sockets = sockets
        self._connections: set[Connection] = set()
        self._scratch = memoryview(bytearray(SCRATCH_SIZE))
        self._to_flush: list[Outbox] = []
        self._flush_wanted = trio.Event()
        self._complaints = Complaints(log, "connections were closed or refused")
        config = backend.config
        self._certificates = certificates or {}
        self._tokens = tokens
        self._encrypted = {name for name, _ in sockets if config.is_encrypted(name)}
        self._with_login = {name for name, _ in sockets if config.asks_for_login(name)}
        self._authentication = _authentication(backend, tokens) if self._with_login else None
        self._users_revision = backend.catalog.users.revision
        backend.changes.listen(self._check_sessions)
        self._doorstep = Doorstep(STRANGERS_MAX)
        self._request_size_max = config.int("socket.request.max.bytes")
        self._admission = Admission(config)
        self._creation_rate = CreationRate(config)
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
                if self._tokens is not None:
                    nursery.start_soon(self._tokens.keep_fresh)
                for certificate in set(self._certificates.values()):
                    nursery.start_soon(certificate.watch)
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
                number = self.accepted + self.refused
                self._admit(sock, Origin(kept_host(address[0]), name, number=number), nursery)

    def _admit(self, sock: socket.socket, origin: Origin, nursery: trio.Nursery) -> None:
        problem = self._admission.enter(origin.host, origin.listener)
        if problem is not None:
            self.refused += 1
            self._complain(f"refused {origin.host}: {problem}")
            sock.close()
            return
        owed_s, by = self._creation_owed(origin)
        if owed_s > PAUSE_MAX_S:
            self._leave(origin)
            self.refused += 1
            self._complain(f"refused {origin.host}: {by}")
            sock.close()
            return
        wait_s = self._creation_wait(origin)
        self.accepted += 1
        if wait_s > 0:
            nursery.start_soon(self._serve_later, wait_s, sock, origin, nursery)
        else:
            self._begin(sock, origin, nursery)

    def _creation_owed(self, origin: Origin) -> tuple[float, str]:
        """Seconds that those before a new connection have left it to wait, and what for."""
        now, quotas = trio.current_time(), self._dispatcher.quotas
        of_address = quotas.connection_wait_s(origin.host, now) if quotas.are_set else 0.0
        of_all = self._creation_rate.wait_s(origin.listener, now)
        if of_address > of_all:
            return of_address, "its connections come too fast (connection_creation_rate)"
        return of_all, f"connections come too fast ({RATE})"

    def _creation_wait(self, origin: Origin) -> float:
        """Count a new connection that is not refused; seconds that it waits."""
        now, quotas = trio.current_time(), self._dispatcher.quotas
        of_address = quotas.connected(origin.host, now) if quotas.are_set else 0.0
        return max(of_address, self._creation_rate.came(origin.listener, now))

    def _leave(self, origin: Origin) -> None:
        self._admission.leave(origin.host, origin.listener)

    async def _serve_later(
        self, wait_s: float, sock: socket.socket, origin: Origin, nursery: trio.Nursery
    ) -> None:
        """Who connects too fast waits; the connection counts meanwhile."""
        try:
            await trio.sleep(wait_s)
        except BaseException:
            self._leave(origin)
            sock.close()
            raise
        self._begin(sock, origin, nursery)

    def _begin(self, sock: socket.socket, origin: Origin, nursery: trio.Nursery) -> None:
        stream = PlainStream(sock, [KEEP_ALIVE])
        if origin.listener in self._encrypted:
            nursery.start_soon(self._serve_secured, stream, origin, nursery)
        else:
            nursery.start_soon(self._serve, stream, origin, nursery, SECURED_WITHIN_S)

    def _connection(
        self,
        stream: Stream,
        origin: Origin,
        nursery: trio.Nursery,
        on_login: Callable[[], None] = nothing,
    ) -> Connection:
        connection = Connection(
            stream,
            origin,
            self._dispatcher,
            self._signposts,
            self._scratch,
            self._request_size_max,
            flush_soon=self._flush_soon,
            spawn_drain=lambda outbox: nursery.start_soon(outbox.drain),
            on_login=on_login,
        )
        self._connections.add(connection)
        return connection

    async def _serve_secured(self, plain: PlainStream, origin: Origin, nursery: trio.Nursery) -> None:
        """TLS first. What goes wrong costs this connection."""
        certificate = self._certificates[origin.listener]
        begun = trio.current_time()
        secured, problem = None, "the TLS handshake was not over in time"
        try:
            with self._doorstep.stand(SECURED_WITHIN_S):
                protocol = "SASL_SSL" if origin.listener in self._with_login else "SSL"
                secured = await secure_client(plain, certificate.context, protocol)
        except (InvalidInput, OSError) as error:
            problem = THE_CLIENT_LEFT if isinstance(error, ConnectionError) else str(error)
        finally:
            if secured is None:
                plain.close()
                self._leave(origin)
        if secured is not None:
            stream, principal = secured
            if principal != ANONYMOUS and origin.listener not in self._with_login:
                self._audit.event("login", mechanism="TLS", **_audited(origin, principal))
            now = trio.current_time()
            origin = replace(origin, principal=principal, until=now + lasts_s(stream))
            await self._serve(stream, origin, nursery, begun + SECURED_WITHIN_S - now)
        elif problem != THE_CLIENT_LEFT:
            self._audit.folded(
                "tls refused",
                (origin.host, origin.listener),
                trio.current_time(),
                why=problem,
                **_audited(origin),
            )
            self._complain(f"closed a connection of {origin.host} to {origin.listener}: {problem}")

    async def _serve(
        self, stream: Stream, origin: Origin, nursery: trio.Nursery, login_within_s: float
    ) -> None:
        """Serve a connection until it ends. Where a login is asked for, there is so much time for it."""
        if origin.listener not in self._with_login:
            await self._run(self._connection(stream, origin, nursery))
            return
        assert self._authentication is not None
        from raftlog.broker.gate import Gate

        origin = replace(origin, principal=ANONYMOUS, until=float("inf"))  # the login says who that is
        origin = replace(origin, gate=Gate(self._authentication, origin.host, origin.listener))
        with self._doorstep.stand(login_within_s) as scope:
            on_login = partial(self._doorstep.leave, scope)
            connection = self._connection(stream, origin, nursery, on_login)
            await self._run(connection)
        if scope.cancelled_caught:
            self._complain(f"closed {connection!r} to {origin.listener}: it has not logged in in time")

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._leave(connection.origin)
            self._requests_ended += connection.requests
            if connection.end_reason not in (THE_CLIENT_LEFT, THE_BROKER_STOPS, THE_LOGIN_WAS_REFUSED):
                self._complain(f"closed {connection!r}: {connection.end_reason}")

    def _check_sessions(self) -> None:
        """The metadata has moved: end the connections whose user has another password now, or is gone."""
        authentication = self._authentication
        if authentication is not None and authentication.users.revision is not self._users_revision:
            self._users_revision = authentication.users.revision
            for connection in list(self._connections):
                connection.check_session()

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
            self._audit.flush(now)


def _audited(origin: Origin, principal: str | None = None) -> dict[str, str | None]:
    return {"principal": principal, "listener": origin.listener, "host": origin.host}


def _authentication(backend: Backend, tokens: Tokens | None) -> Authentication:
    """What it takes is imported where somebody has to log in."""
    from raftlog.broker.authentication import Authentication

    return Authentication(backend.config, backend.catalog, tokens)
