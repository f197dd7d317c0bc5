"""The connections of a client, made when they are wanted, and made again.

A connection belongs to a broker and a *lane*: answers come in the order of requests, so a fetch that waits
for records must not stand before a heartbeat. Each producer and consumer has lanes of its own and closes
them; the client's own lane is for metadata and admin.

Connections are tasks of the client's nursery: a caller that is cancelled leaves them as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from raftlog.client.backoff import Backoff
from raftlog.client.connection import Connection, OpenSocket
from raftlog.client.errors import AuthenticationFailed, ClientError, Closed, Disconnected
from raftlog.client.reasons import not_reached
from raftlog.client.securing import RENEW_AT, Securing
from raftlog.client.settings import ClientSettings
from raftlog.client.trouble import Trouble
from raftlog.net.stream import PlainStream, Stream

CLIENT_LANE: Final = "client"


@dataclass(slots=True, eq=False)
class _Slot:
    """The place of one connection; it outlives the connection, so that the backoff does."""

    broker_id: int
    lane: str
    backoff: Backoff
    connection: Connection | None = None
    failure: ClientError | None = None
    """Of the last attempt that has ended. It stays while the next one runs: some have waited for the last."""
    not_before: float = 0.0
    connecting: trio.CancelScope | None = None
    changed: trio.Event = field(default_factory=trio.Event)
    wakes: set[Callable[[], None]] = field(default_factory=set)

    def announce(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
        for wake in tuple(self.wakes):
            wake()


class Connections:
    """By broker and lane."""

    def __init__(
        self,
        settings: ClientSettings,
        nursery: trio.Nursery,
        *,
        rng: random.Random,
        open_socket: OpenSocket,
        address_of: Callable[[int], tuple[str, int] | None],
        trouble: Trouble,
        on_trouble: Callable[[], None],
    ) -> None:
        """`address_of` says where a broker is, if it is known; `trouble` is told who is not reached, and
        `on_trouble` is called when a connection broke, or could not be made."""
        self._settings = settings
        self._nursery = nursery
        self._rng = rng
        self._open_socket = open_socket
        self._securing = Securing(settings)
        self._address_of = address_of
        self._trouble = trouble
        self._on_trouble = on_trouble
        self._slots: dict[tuple[int, str], _Slot] = {}
        self._closed = False
        self._lanes = 0

    def new_lane(self, purpose: str) -> str:
        """A name for connections that nobody else uses."""
        self._lanes += 1
        return f"{purpose}-{self._lanes}"

    def maybe(self, broker_id: int, lane: str, wake: Callable[[], None]) -> Connection | None:
        """The connection if it is ready; if not it is being made, and `wake` is called when it is, or
        failed, or broke."""
        slot = self._slot(broker_id, lane)
        slot.wakes.add(wake)
        if slot.connection is not None and slot.connection.closed is None:
            return slot.connection
        self._start_connecting(slot)
        return None

    async def get(self, broker_id: int, lane: str = CLIENT_LANE) -> Connection:
        """The connection to a broker, made if need be. Raises Disconnected when that fails.

        Cancelled, it goes on being made.
        """
        slot = self._slot(broker_id, lane)
        while slot.connection is None or slot.connection.closed is not None:
            self._start_connecting(slot)
            await slot.changed.wait()
            if self._closed:
                raise Closed("the client is closed")
            if self._slots.get((broker_id, lane)) is not slot:
                raise Disconnected(f"the connections of {lane} were closed")
            if slot.failure is not None:
                final = isinstance(slot.failure, AuthenticationFailed)
                raised = AuthenticationFailed if final else Disconnected
                raise raised(str(slot.failure)) from slot.failure.__cause__ or slot.failure
        return slot.connection

    def drop(self, broker_id: int, lane: str) -> None:
        """Close a connection on which nothing can be hoped for; it is made again when it is wanted."""
        slot = self._slots.get((broker_id, lane))
        if slot is not None and slot.connection is not None:
            slot.connection.close(Disconnected(f"{slot.connection.name} is silent"))

    def close_lane(self, lane: str) -> None:
        """Close the connections of a lane and forget it."""
        for key in [key for key in self._slots if key[1] == lane]:
            self._close_slot(self._slots.pop(key))

    def _close_slot(self, slot: _Slot) -> None:
        slot.wakes.clear()
        if slot.connecting is not None:
            slot.connecting.cancel()
        if slot.connection is not None:
            slot.connection.close(Closed(f"{slot.connection.name} was closed"))
        slot.announce()

    def _slot(self, broker_id: int, lane: str) -> _Slot:
        slot = self._slots.get((broker_id, lane))
        if slot is None:
            if self._closed:
                raise Closed("the client is closed")
            settings = self._settings
            backoff = Backoff(settings.reconnect_backoff_ms, settings.reconnect_backoff_max_ms, self._rng)
            slot = self._slots[broker_id, lane] = _Slot(broker_id=broker_id, lane=lane, backoff=backoff)
        return slot

    def _start_connecting(self, slot: _Slot) -> None:
        if slot.connecting is None and not self._closed:
            slot.connecting = trio.CancelScope()
            self._nursery.start_soon(self._connect, slot)

    async def _connect(self, slot: _Slot) -> None:
        assert slot.connecting is not None
        connection: Connection | None = None
        with slot.connecting:
            try:
                connection = await self._connected(slot)
            except (ClientError, OSError) as error:
                place = self.place_of(slot.broker_id)
                secured = self._settings.security_protocol in ("SSL", "SASL_SSL")
                slot.failure = not_reached(place, error, advertised=slot.broker_id >= 0, secured=secured)
                self._trouble.unreached(place, slot.failure, trio.current_time())
                pause = slot.backoff.next()
                if isinstance(error, AuthenticationFailed):  # the same again is hardly better
                    pause = max(pause, self._settings.reconnect_backoff_max_ms / 1000)
                slot.not_before = trio.current_time() + pause
                self._on_trouble()
        slot.connecting = None
        if connection is not None and self._slots.get((slot.broker_id, slot.lane)) is not slot:
            connection.close(Closed("closed while it was being made"))
            return
        slot.connection = connection
        if connection is not None:
            slot.failure = None
        slot.announce()

    async def _connected(self, slot: _Slot) -> Connection:
        await trio.sleep_until(slot.not_before)
        address = self._address_of(slot.broker_id)
        if address is None:
            raise Disconnected(f"broker {slot.broker_id} is not part of the cluster")
        host, port = address
        stream: Stream | None = None
        setup = self._settings.socket_connection_setup_timeout_ms / 1000
        with trio.move_on_after(setup):
            stream = await self._securing.stream_to(host, PlainStream(await self._open_socket(host, port)))
        if stream is None:
            raise Disconnected(f"{host}:{port} does not accept a connection within {setup:g} s")
        name = f"{host}:{port}/{slot.lane}"
        connection = Connection(
            stream,
            name=name,
            client_id=self._settings.client_id,
            hint=self._securing.hint,
        )
        self._nursery.start_soon(self._run_connection, connection, slot)
        try:
            deadline = trio.current_time() + self._settings.request_timeout_ms / 1000
            await connection.handshake(deadline)
            lasts_s = await self._securing.log_in(connection, host, deadline)
        except BaseException:
            connection.close()
            raise
        if lasts_s < float("inf"):
            self._nursery.start_soon(self._keep_session, connection, host, lasts_s)
        slot.backoff.reset()
        self._trouble.reached(self.place_of(slot.broker_id))
        return connection

    async def _keep_session(self, connection: Connection, host: str, lasts_s: float) -> None:
        """Log in again on the same connection before each session ends (KIP-368)."""
        while True:
            await trio.sleep(lasts_s * RENEW_AT)
            if connection.closed is not None:
                return
            deadline = trio.current_time() + self._settings.request_timeout_ms / 1000
            connection.hold()
            try:
                lasts_s = await self._securing.log_in(connection, host, deadline)
            except ClientError as error:
                connection.close(error)
                return
            finally:
                connection.let_go()

    async def _run_connection(self, connection: Connection, slot: _Slot) -> None:
        await connection.run()
        if slot.connection is connection:
            slot.connection = None
            slot.failure = connection.closed
            slot.not_before = trio.current_time() + slot.backoff.next()
            slot.announce()
            self._on_trouble()

    def place_of(self, broker_id: int) -> str:
        """Where a broker is, for people."""
        address = self._address_of(broker_id)
        return "an unknown address" if address is None else f"{address[0]}:{address[1]}"

    def open(self) -> list[Connection]:
        """Those that are open."""
        return [slot.connection for slot in self._slots.values() if slot.connection is not None]

    def is_ready(self, broker_id: int) -> bool:
        """Whether the client's own lane to a broker is open."""
        slot = self._slots.get((broker_id, CLIENT_LANE))
        return slot is not None and slot.connection is not None and slot.connection.closed is None

    def in_flight(self, broker_id: int) -> int:
        """Requests on the client's own lane to a broker that are not answered yet."""
        slot = self._slots.get((broker_id, CLIENT_LANE))
        return slot.connection.in_flight if slot is not None and slot.connection is not None else 0

    def close_idle(self, broker_id: int) -> None:
        """Close the client's own lane to a broker, unless an answer is waited for there."""
        slot = self._slots.get((broker_id, CLIENT_LANE))
        if slot is not None and slot.connection is not None and not slot.connection.in_flight:
            self._close_slot(self._slots.pop((broker_id, CLIENT_LANE)))

    def close(self) -> None:
        """Close all, for good."""
        self._closed = True
        for slot in self._slots.values():
            self._close_slot(slot)
        self._slots.clear()
