"""One client connection: frames in, calls out, answers back in order.

Decides when a request is read, when it is handled and when the connection is given up. Requests are
handled one after the other, as Kafka does; only Produce, and an OffsetCommit behind others, are pipelined:
the next is read while the last ones wait for their majority. Whatever a client does costs its own connection
and nothing else.

Invariants: at most as many requests as their `Api` says, or PIPELINED_BYTES_MAX bytes of them, are
unanswered; nothing but Produce, and OffsetCommit behind OffsetCommits alone, is handled before all that came
before it is answered and sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker.dispatch import Dispatcher
from raftlog.broker.framing import RequestReader
from raftlog.broker.origin import Origin
from raftlog.broker.outbox import Outbox
from raftlog.broker.registry import Api
from raftlog.broker.signposts import Signposts
from raftlog.broker.strangers import Stranger
from raftlog.errors import InvalidInput
from raftlog.memory import Frame
from raftlog.net.stream import Stream
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import RequestHeader

if TYPE_CHECKING:
    from raftlog.broker.gate import Gate

THE_CLIENT_LEFT: Final = "the client left"
THE_BROKER_STOPS: Final = "the broker stops"
"""The reasons for which a connection ends that are nobody's fault."""
THE_LOGIN_WAS_REFUSED: Final = "its login was refused"

LOGIN_REQUEST_MAX: Final = 64 * 1024
"""A request before the login; of all that are at the door at once these are 64 MiB at most."""
GOODBYE_S: Final = 0.2
"""Between a refusal and the end: closed at once, kafka-python lost the reason six times in seven."""

PIPELINED_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of a connection's requests that wait for their answer; one more of any size is let in while below."""
RECEIVES_AT_ONCE_MAX: Final = 64
FRAMES_AT_ONCE_MAX: Final = 32
"""Receives into a large frame, and small frames handled, before others get a turn: some milliseconds."""
STALLED_S: Final = 10.0
"""How long an unfinished large request may keep its place in memory without progress while others wait."""
MEMBER_PAUSE_MAX_S: Final = 2.0
"""The longest pause of a connection over which a group hears of a member: a third of the shortest session."""
PROGRESS_MIN: Final = 4096
"""Bytes of a large frame at once that count as progress against the idle time-out; a trickle does not."""


def nothing() -> None:
    """For connections that need no login."""


class Connection:
    """A stream that was accepted. `run` serves it until it ends; `close` ends it from anywhere."""

    def __init__(
        self,
        stream: Stream,
        origin: Origin,
        dispatcher: Dispatcher,
        signposts: Signposts,
        scratch: memoryview,
        request_size_max: int,
        *,
        flush_soon: Callable[[Outbox], None],
        spawn_drain: Callable[[Outbox], None],
        on_login: Callable[[], None] = nothing,
    ) -> None:
        """What is shared with the other connections: the dispatcher and the memory budget of the broker,
        `scratch` of `FrameCutter`, and the two callbacks of `Outbox`. Where `origin` has a gate nothing is
        served before a login; `on_login` is called after it."""
        self.origin = origin
        self._gate = gate = origin.gate
        self._on_login = on_login
        self.end_reason: str | None = None
        self._stream = stream
        self._dispatcher = dispatcher
        self._signposts = signposts
        self._memory = dispatcher.backend.memory
        self._size_max = request_size_max
        first_max = request_size_max if gate is None else min(request_size_max, LOGIN_REQUEST_MAX)
        self._reader = RequestReader(scratch, first_max, self._memory)
        self._room: trio.Event | None = None
        self._ended = trio.Event()
        self._is_known = False
        """Its client has logged in."""
        self._has_member = False
        """A group hears of a member over this connection."""
        self.outbox = Outbox(
            stream,
            self._memory,
            flush_soon=flush_soon,
            spawn_drain=spawn_drain,
            on_broken=self._lost,
        )
        self.requests = 0
        self.bytes_in = 0
        self.since = trio.current_time()
        self.last_request: RequestHeader | None = None
        self._last_api: Api | None = None
        self._progress = 0
        self._last_progress = (-1, -1)
        self._idle_since = 0.0

    def __repr__(self) -> str:
        return f"<Connection {self.origin.host} {self.requests} requests {self.outbox.unanswered} unanswered>"

    async def run(self) -> None:
        """Serve until the client leaves, is given up on, or the task is cancelled. Raises only what is
        an error of ours that the broker must stop for (SafetyError, DiskFailed)."""
        try:
            await self._serve()
        except Stranger as stranger:
            said, answer = stranger.told(self._signposts, self.origin.host)
            self._tell(answer)
            self.close(said)
        except InvalidInput as error:
            self.close(str(error))
        except (OSError, trio.ClosedResourceError) as error:
            self._lost(error)
        finally:
            self.close(THE_BROKER_STOPS)
            self._reader.close()
            self._stream.close()

    def close(self, reason: str) -> None:
        """End the connection. The first reason counts."""
        if self.end_reason is not None:
            return
        self.end_reason = reason
        self.outbox.close()
        if self._room is not None:
            self._room.set()
        self._ended.set()
        self._stream.shut_down()

    def _tell(self, answer: bytes) -> None:
        """Say something to who speaks another protocol; it is small enough for a fresh connection to take."""
        if answer and not self.requests:
            try:
                self._stream.send([answer])
            except OSError:
                pass

    def _lost(self, error: Exception) -> None:
        left = isinstance(error, ConnectionError)
        self.close(THE_CLIENT_LEFT if left else f"the connection failed: {error!r}")

    def check_session(self) -> None:
        """End the connection if its login does not hold any more."""
        if self._gate is not None and self._gate.is_open:
            try:
                self._gate.check_session()
            except InvalidInput as error:
                self.close(str(error))

    def sweep(self, now: float, idle_max: float) -> None:
        """Once a second: give up on overdue answers, and on a client that neither sends nor reads."""
        self.outbox.expire(now)
        self.check_session()
        if now > self.origin.until:
            self.close("its certificate has ended")
        progress = (self._progress, self.outbox.bytes_sent)
        waiting_for_us = self.outbox.unanswered > 0 and not self.outbox.has_unsent
        if progress != self._last_progress or waiting_for_us:
            self._last_progress = progress
            self._idle_since = now
        elif now - self._idle_since > idle_max:
            self.close(f"nothing came or went for {idle_max:g} s")
        elif now - self._idle_since > STALLED_S and self._reader.is_unfinished and self._memory.is_waited_for:
            self.close(f"nothing came of a request for {STALLED_S:g} s, and others wait for its place")

    async def _serve(self) -> None:
        stream, reader = self._stream, self._reader
        while self.end_reason is None:
            await stream.readable()
            for _ in range(RECEIVES_AT_ONCE_MAX):
                try:
                    count = stream.receive_into(reader.buffer())
                except BlockingIOError:
                    break
                if count == 0:
                    self.close(THE_CLIENT_LEFT)
                    return
                in_place = reader.expects_much
                if in_place and count >= PROGRESS_MIN:
                    self._progress += 1
                await self._handle_all(reader.received(count))
                if reader.wants_room:
                    await self._admit()
                if not in_place or self.end_reason is not None:
                    break

    async def _admit(self) -> None:
        """Wait until there is room for the large request that has begun; its client waits for the socket."""
        while not self._memory.has_room and self.end_reason is None:
            self._room = trio.Event()
            self._memory.when_room(self._room.set)
            await self._room.wait()
        self._reader.admit()

    async def _handle_all(self, frames: list[Frame]) -> None:
        for number, frame in enumerate(frames, 1):
            self._progress += 1
            await self._handle(frame)
            if number % FRAMES_AT_ONCE_MAX == 0:
                await trio.lowlevel.checkpoint()

    async def _handle(self, frame: Frame) -> None:
        """Handle one request; returns when the next may be read."""
        api, header = self._dispatcher.identify(frame)
        gate = self._gate
        if gate is not None:
            gate.admit(api.key)
        self.requests += 1
        self.bytes_in += len(frame)
        self.last_request = header
        outbox = self.outbox
        unanswered_max = api.pipelined if api is self._last_api or api.overtakes else 0
        if not unanswered_max:
            if not outbox.is_settled:
                await outbox.settled()
        elif outbox.unanswered >= unanswered_max or outbox.request_bytes >= PIPELINED_BYTES_MAX:
            await outbox.room(unanswered_max, PIPELINED_BYTES_MAX)
        self._last_api = api
        if self.end_reason is None:
            pause_s = await self._dispatcher.dispatch(api, header, frame, self.origin, outbox, self.close)
            if pause_s > 0:
                await self._pause(api, pause_s)
        if gate is not None and api.rule is None:
            await self._after_login(gate)

    async def _after_login(self, gate: Gate) -> None:
        """A part of a login has been answered. What holds from here on, or the end."""
        if gate.is_refused:
            await trio.sleep(GOODBYE_S)
            self.close(THE_LOGIN_WAS_REFUSED)
        elif gate.principal is not None and not self._is_known:
            self._is_known = True
            self.origin = replace(self.origin, principal=gate.principal)
            self._reader.take_up_to(self._size_max)
            self._on_login()

    async def _pause(self, api: Api, seconds: float) -> None:
        """Read nothing for a while: what holds a client to its quota, whether it obeys or not. What it sends
        waits in its socket. A member of a group is heard in time all the same."""
        self._has_member = self._has_member or api.key is ApiKey.HEARTBEAT
        if self._has_member:
            seconds = min(seconds, MEMBER_PAUSE_MAX_S)
        with trio.move_on_after(seconds):
            await self._ended.wait()
        self._progress += 1
