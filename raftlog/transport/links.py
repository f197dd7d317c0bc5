"""The connections between brokers: one a pair, for all groups.

The broker with the higher id dials the lower; `greeting` has how they get acquainted. Messages are sent
where they arise, in one call, from where they lie; what the stream does not take waits in lanes that are
bounded (`lanes` has which goes first). A full one, or no connection, drops messages: Raft repairs that.

It must not know what a message says. A payload that waits to be sent is held by reference and must not
change.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from operator import is_
from typing import Final

import trio

from raftlog.config.addresses import join_host_port
from raftlog.errors import InvalidInput
from raftlog.net.dialing import in_words, open_socket, take_socket
from raftlog.net.doorstep import Doorstep
from raftlog.net.frames import SCRATCH_SIZE
from raftlog.net.stream import KEEP_ALIVE, Option, PlainStream, Stream
from raftlog.raft.messages import Message
from raftlog.transport.greeting import HELLO_TIMEOUT, Greeted, Greeter, Probe, Removed
from raftlog.transport.lanes import Inflow, Lane
from raftlog.transport.link import Connection, Link
from raftlog.transport.packing import frames_of, lane_of, split
from raftlog.transport.securing import ENDED_EARLY, Securing, why_not_secured
from raftlog.transport.wire import Buffers, Note, decode, encode_note
from raftlog.types import BrokerId

SILENCE_MS: Final = 10_000
"""What is sent and not acknowledged by the peer's kernel for that long breaks the connection."""
UNSENT_BYTES: Final = 128 << 10
"""What the kernel takes beyond what it can send: a heartbeat cannot pass what lies there."""
OPTIONS: Final[Sequence[Option]] = (
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS),
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES),
    KEEP_ALIVE,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
)
CONNECT_TIMEOUT: Final = 5.0
BACKOFF_MIN: Final = 0.05
BACKOFF_MAX: Final = 2.0
"""Seconds between two tries to connect; doubled each time, with jitter."""
MISSED_AFTER_S: Final = 3.0
MISSED_POLL_S: Final = 0.5
"""How long a broker waits for one with a higher id before it dials, and how often it looks."""
STRANGERS_MAX: Final = 64
"""Connections that have not been greeted yet. Beyond it the oldest ends: a peer takes milliseconds."""
COMPLAINT_INTERVAL: Final = 60.0
"""Seconds before the same thing is said again: a peer that is down is dialled every second."""
COMPLAINTS_EACH: Final = 8
"""Different things that are said about one host or peer in that time."""
COMPLAINED_OF_MAX: Final = 100
"""Hosts and peers that are remembered."""

log = logging.getLogger("raftlog.peers")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens for its peers."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


class Links:
    """All connections of one broker to its peers."""

    def __init__(
        self,
        broker_id: BrokerId,
        *,
        process: bytes,
        cluster_id: Callable[[], str | None],
        receive: Callable[[BrokerId, Sequence[Message]], None],
        rng: random.Random,
        securing: Securing | None = None,
        on_note: Callable[[BrokerId, bytes], None] = lambda sender, body: None,
        on_connected: Callable[[BrokerId], None] = lambda peer: None,
        on_disconnected: Callable[[BrokerId], None] = lambda peer: None,
        on_bytes: Callable[[BrokerId], None] = lambda peer: None,
    ) -> None:
        """`receive` and `on_note` get what comes in; they must not block, and raise only InvalidInput, which
        costs the peer its connection. `on_bytes`: something came that completes no frame yet. `process` and
        `cluster_id`: see `Greeter`; without `securing` all is in plain text."""
        self.broker_id = broker_id
        self._securing = securing or Securing()
        self._processes: dict[BrokerId, bytes] = {}
        self._greeter = Greeter(
            broker_id, process, cluster_id, lambda peer: peer in self._peers, self._processes.get
        )
        self._receive = receive
        self._rng = rng
        self._on_note = on_note
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_bytes = on_bytes
        self._peers: dict[BrokerId, Sequence[Address]] = {}
        self._links: dict[BrokerId, Link] = {}
        self._dialers: dict[BrokerId, trio.CancelScope] = {}
        self._scopes: dict[BrokerId, trio.CancelScope] = {}
        self._doorstep = Doorstep(STRANGERS_MAX)
        self._complaints = _Complaints()
        self._nursery: trio.Nursery | None = None
        self.removed_by: set[BrokerId] = set()
        """Brokers that refused this one because it was removed, and have not taken it since."""
        self._scratch = memoryview(bytearray(SCRATCH_SIZE))
        self.through: Callable[[BrokerId, Stream], Stream] = lambda peer, stream: stream
        """What lies between this broker and a peer that has been greeted: nothing. Tests put a network there,
        before `run`. It raises OSError for a peer that is not to be reached."""
        self._last_sent: Sequence[Message] = ()
        self._last_frames: list[tuple[Lane, Buffers]] = []

    def tell_removed(self, was_removed: Callable[[BrokerId], bool]) -> None:
        """Have brokers that are no peers told that they were removed, where that is so."""
        self._greeter.was_removed = was_removed

    def set_peers(self, peers: Mapping[BrokerId, Sequence[Address]]) -> None:
        """The brokers to be connected with, and where each may be, the likeliest place first. Others'
        connections end."""
        self._peers = {peer: places for peer, places in peers.items() if peer != self.broker_id}
        for gone in self._links.keys() - self._peers.keys():
            del self._links[gone]
            if gone in self._scopes:
                self._scopes[gone].cancel()
        for peer in self._peers:
            if peer not in self._links:
                self._links[peer] = Link(peer)
        self._update_dialers()

    def _update_dialers(self) -> None:
        if self._nursery is None:
            return
        for peer in self._dialers.keys() - self._peers.keys():
            self._dialers.pop(peer).cancel()
        for peer in self._peers:
            if peer not in self._dialers:
                scope = self._dialers[peer] = trio.CancelScope()
                self._nursery.start_soon(self._dial, peer, scope)

    def send(self, to: BrokerId, messages: Sequence[Message]) -> None:
        """Send Raft messages, as one frame; dropped when the peer is not connected or its queue is full."""
        link = self._links.get(to)
        if link is None or link.connection is None:
            return
        last = self._last_sent
        if len(last) != len(messages) or not all(map(is_, last, messages)):
            self._last_sent = messages
            self._last_frames = frames_of(messages)  # followers that keep up all get the same
        frames = self._last_frames
        if link.connection.queue.waiting and len(frames) == 1:
            frames = split(messages) if len(messages) > 1 else [(lane_of(messages[0]), frames[0][1])]
        for lane, frame in frames:
            link.send(lane, frame)

    def send_note(self, to: BrokerId, body: bytes, *, lane: Lane = Lane.URGENT) -> bool:
        """Send something of the layer above; False when it was dropped. True is no promise that it arrives.
        What both sides send arrives in order, unless the connection breaks in between."""
        link = self._links.get(to)
        return link is not None and link.send(lane, encode_note(body))

    def is_connected(self, peer: BrokerId) -> bool:
        link = self._links.get(peer)
        return link is not None and link.is_connected

    @property
    def all(self) -> list[Link]:
        """The ways to the brokers that there are, connected or not."""
        return list(self._links.values())

    def process_of(self, peer: BrokerId) -> bytes | None:
        """Which start of a peer this broker is connected with; None when it is not."""
        return self._processes.get(peer)

    def statistics(self) -> dict[str, int]:
        links = self._links.values()
        return {
            "connected": sum(link.is_connected for link in links),
            "dropped_frames": sum(link.dropped_frames for link in links),
            "sent_bytes": sum(link.bytes_sent for link in links),
        }

    async def run(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept and dial until cancelled. The caller has bound the listeners; they are closed at the end."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for listener in listeners:
                    nursery.start_soon(self._accept, listener)
                self._update_dialers()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    # One connection

    async def _accept(self, listener: trio.SocketListener) -> None:
        async def welcome(accepted: trio.SocketStream) -> None:
            plain = PlainStream(take_socket(accepted), OPTIONS)
            host = plain.peer_host
            met: tuple[Stream, Greeted] | None = None
            with self._doorstep.stand():
                try:
                    met = await self._meet(plain, None)
                except Probe:
                    return
                except (InvalidInput, OSError, trio.TooSlowError) as error:
                    self._complaints.add(
                        f"refused a connection to the peer port from {host}", in_words(error)
                    )
                    return
            if met is None:
                self._complaints.add(f"closed connections to the peer port from {host}", "too many at once")
                return
            with closing(met[0]):
                await self._serve(*met)

        async with listener:
            await trio.serve_listeners(welcome, [listener])

    async def _meet(
        self, plain: PlainStream, expected: BrokerId | None, *, secured: bool = True
    ) -> tuple[Stream, Greeted]:
        """Secure and greet a connection; `expected` for who dialled, `secured` is the way that it dials.
        Raises InvalidInput, OSError or TooSlowError, and leaves nothing open then."""
        stream: Stream = plain
        try:
            with trio.fail_after(HELLO_TIMEOUT):
                if expected is None:
                    stream, proven = await self._securing.accepted(plain)
                else:
                    stream, proven = await self._securing.dialled(plain, expected, secured=secured)
            greeted = await self._greeter.greet(stream, expected, proven)
            return self.through(greeted.broker, stream), greeted
        except ssl.SSLError as error:
            stream.close()
            raise InvalidInput(why_not_secured(error)) from None
        except (Probe, ConnectionError):
            stream.close()
            if expected is None:
                raise
            raise InvalidInput(ENDED_EARLY) from None
        except BaseException:
            stream.close()
            raise

    async def _dial(self, peer: BrokerId, scope: trio.CancelScope) -> None:
        backoff, failures = BACKOFF_MIN, 0
        with scope:
            while True:
                if peer > self.broker_id:
                    await self._until_missed(peer)
                tries = list(product(self._peers[peer], self._securing.ways))
                address, secured = tries[failures % len(tries)]
                try:
                    with trio.fail_after(CONNECT_TIMEOUT):
                        connected = await open_socket(address.host, address.port)
                    met = await self._meet(PlainStream(connected, OPTIONS), peer, secured=secured)
                    with closing(met[0]):
                        backoff, failures = BACKOFF_MIN, 0
                        await self._serve(*met)
                except (InvalidInput, OSError, trio.TooSlowError) as error:
                    failures += 1
                    if isinstance(error, Removed):
                        self.removed_by.add(peer)
                    self._complaints.add(f"no connection to broker {peer} at {address}", in_words(error))
                await trio.sleep(backoff * self._rng.uniform(0.5, 1.0))
                backoff = min(2 * backoff, BACKOFF_MAX)

    async def _until_missed(self, peer: BrokerId) -> None:
        """Of two brokers the one with the higher id dials. It may not know where the other is since that one
        was started at another address, so that the other dials as well when it has waited in vain."""
        missed_since = trio.current_time()
        while trio.current_time() - missed_since < MISSED_AFTER_S:
            await trio.sleep(MISSED_POLL_S)
            if self.is_connected(peer):
                missed_since = trio.current_time()

    async def _serve(self, stream: Stream, greeted: Greeted) -> None:
        """Carry messages both ways until the connection breaks. A newer one of the same peer replaces it:
        the peer has given the older one up."""
        peer = greeted.broker
        link = self._links.get(peer)
        if link is None:
            return
        previous = self._scopes.get(peer)
        if previous is not None:
            previous.cancel()
        log.info("connected to broker %d", peer)
        self.removed_by.discard(peer)
        reason: Exception | None = None
        with trio.CancelScope() as scope:
            self._scopes[peer], self._processes[peer] = scope, greeted.process
            connection = Connection(stream, in_pieces=greeted.takes_pieces)
            link.attach(connection)
            try:
                self._on_connected(peer)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_until_broken, connection.write_queued, nursery.cancel_scope)
                    try:
                        await self._read(stream, peer)
                    except trio.ClosedResourceError:
                        pass
                    except (InvalidInput, OSError) as error:
                        reason = error
                    nursery.cancel_scope.cancel()
            finally:
                link.detach(connection)
                if self._scopes.get(peer) is scope:
                    del self._scopes[peer], self._processes[peer]
                    self._on_disconnected(peer)
        log.warning("lost broker %d: %s", peer, reason or "the connection was closed")

    async def _read(self, stream: Stream, peer: BrokerId) -> None:
        """Frames until the end of the stream."""
        inflow = Inflow(self._scratch)
        while True:
            await stream.readable()
            try:
                count = stream.receive_into(inflow.buffer())
            except BlockingIOError:
                continue
            if count == 0:
                return
            frames = inflow.received(count)
            if not frames:
                self._on_bytes(peer)
            for frame in frames:
                self._take(peer, frame)

    def _take(self, peer: BrokerId, frame: memoryview) -> None:
        messages = decode(frame)
        if isinstance(messages, Note):
            self._on_note(peer, messages.body)
        else:
            self._receive(peer, messages)


class _Complaints:
    """Says each thing once in a while, and not too many about the same one."""

    def __init__(self) -> None:
        self._said: dict[str, dict[str, float]] = {}

    def add(self, what: str, why: str) -> None:
        since = trio.current_time() - COMPLAINT_INTERVAL
        if len(self._said) >= COMPLAINED_OF_MAX:
            self._said.clear()
        said = {text: at for text, at in self._said.get(what, {}).items() if at > since}
        self._said[what] = said
        if why not in said and len(said) < COMPLAINTS_EACH:
            said[why] = trio.current_time()
            log.warning("%s: %s", what, why)


async def _until_broken(write: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    try:
        await write()
    except (OSError, trio.ClosedResourceError):
        scope.cancel()
