"""One connection to a broker: frames out, frames in, answers matched to requests in order.

`submit` is synchronous: it hands the frame to the kernel at once and registers who wants the answer, so the
order of calls is the order on the wire, and cancelling a waiting caller never tears a frame. `run` is
the connection's one task: it reads, and it writes what the kernel did not take at once.

A request that is not answered by its deadline breaks the connection, since every later answer comes behind
it. When the connection ends, every request under way ends with its error, exactly once.

It must not know what a request means, nor retry anything.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import trio

from raftlog.client.errors import ClientError, Disconnected, RequestTimedOut, UnsupportedVersion
from raftlog.errors import InvalidInput
from raftlog.net.frames import SCRATCH_SIZE, FrameCutter
from raftlog.net.sending import UNBOUNDED, SendQueue
from raftlog.net.stream import Buffer, Stream
from raftlog.protocol.api import VERSIONS, ApiKey
from raftlog.protocol.codec import decode_response, encode_request
from raftlog.protocol.encode import Fields

FRAME_BYTES_MAX: Final = 1 << 30
"""A longer answer is taken for garbage; fetch.max.bytes stays far below."""
RESERVE: Final = 16 << 20
"""Bytes of memory that an answer gets before they have come."""
READS_PER_TURN_MAX: Final = 16
"""Reads before other tasks get their turn, however much has arrived."""

LOGIN: Final = (ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE)
"""What a login says: everything else waits for its end."""

OnAnswer = Callable[[Any], None]
"""Called once with the decoded answer, or with the exception that ended the request. It must not raise."""
OpenSocket = Callable[[str, int], Awaitable[socket.socket]]


class _UnderWay(NamedTuple):
    correlation_id: int
    api: ApiKey
    version: int
    deadline: float
    on_answer: OnAnswer


class _Held(NamedTuple):
    """A request that waits for the end of a login."""

    api: ApiKey
    version: int
    fields: Fields
    deadline: float
    on_answer: OnAnswer | None


@dataclass(slots=True)
class ConnectionStatistics:
    """What went over a connection."""

    requests: int = 0
    answers: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class Connection:
    """A stream on which requests may be pipelined."""

    def __init__(self, stream: Stream, *, name: str, client_id: str, hint: str = "") -> None:
        """`hint` is what to look at when the broker closes it at the first request after ApiVersions."""
        self.name = name
        self._hint = hint
        self._held: list[_Held] | None = None
        self.versions: Mapping[int, tuple[int, int]] = {}
        self.features: frozenset[str] = frozenset()
        """What the broker supports beyond its versions, by name (KIP-584)."""
        self.closed: ClientError | None = None
        self._stream = stream
        self._queue = SendQueue(stream, bytes_max=UNBOUNDED)  # who submits bounds what is in flight
        self._queue_waits = trio.Event()
        self._client_id = client_id
        self._correlation_id = 0
        self._under_way: deque[_UnderWay] = deque()
        self._scope = trio.CancelScope()
        self._statistics = ConnectionStatistics()

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answer."""
        return len(self._under_way)

    def version_of(self, api: ApiKey, *, most: int | None = None) -> int:
        """The highest version of an API that both sides speak. Raises UnsupportedVersion."""
        first, last = self.versions.get(api, (0, -1))
        ours = VERSIONS[api]
        version = min(last, ours.last if most is None else most)
        if version < max(first, ours.first):
            raise UnsupportedVersion(
                f"{api.name}: {self.name} speaks {first} to {last}, this client {ours.first} to {ours.last}"
            )
        return version

    def submit(
        self, api: ApiKey, version: int, fields: Fields, *, deadline: float, on_answer: OnAnswer | None
    ) -> None:
        """Send a request now. `on_answer` is None for one that the broker does not answer (acks=0).

        Raises Disconnected when the connection is closed, and ValueError for a number that is out of its
        field's range; a connection that breaks during the call is told
        through `on_answer`, as later.
        """
        if self.closed is not None:
            raise Disconnected(f"{self.name} is closed") from self.closed
        if self._held is not None and api not in LOGIN:
            self._held.append(_Held(api, version, fields, deadline, on_answer))
            return
        self._correlation_id = correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
        try:
            chunks = encode_request(api, version, correlation_id, self._client_id, fields)
        except struct.error as error:  # of a number's range: types are checked where they are given
            raise ValueError(f"{api.name} has no room for such a number: {error}") from None
        if on_answer is not None:
            self._under_way.append(_UnderWay(correlation_id, api, version, deadline, on_answer))
            if deadline < self._scope.deadline:
                self._scope.deadline = deadline
        self._statistics.requests += 1
        self._send(chunks)

    async def request(self, api: ApiKey, fields: Fields, *, deadline: float, most: int | None = None) -> Any:
        """Send a request and wait for the answer. Raises Disconnected, RequestTimedOut, UnsupportedVersion.

        Cancelled, the request is on its way nevertheless, and its answer will be dropped.
        """
        answered = trio.Event()
        answers: list[Any] = []

        def on_answer(answer: Any) -> None:
            answers.append(answer)
            answered.set()

        version = self.version_of(api, most=most)
        self.submit(api, version, fields, deadline=deadline, on_answer=on_answer)
        await answered.wait()
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    def hold(self) -> None:
        """Hold requests back until `let_go`, but for those of a login. They are as many as who submits has in
        flight."""
        self._held = []

    def let_go(self) -> None:
        """Send what was held back, in its order."""
        held, self._held = self._held or [], None
        for one in held:
            if self.closed is None:
                self.submit(one.api, one.version, one.fields, deadline=one.deadline, on_answer=one.on_answer)
            elif one.on_answer is not None:
                one.on_answer(self.closed)

    def close(self, reason: ClientError | None = None) -> None:
        """End the connection now; every request under way ends with `reason`."""
        if self.closed is not None:
            return
        self.closed = reason or Disconnected(f"{self.name} was closed")
        self._stream.close()
        self._scope.cancel()
        self._queue.clear()
        under_way, self._under_way = self._under_way, deque()
        for request in under_way:
            request.on_answer(self.closed)
        if self._held is not None:
            self.let_go()

    async def run(self) -> None:
        """Read and write until the connection ends; never raises for its end. Closes when cancelled."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
            self.close(RequestTimedOut(f"{self.name} did not answer in time"))
        finally:
            self.close()

    async def handshake(self, deadline: float) -> None:
        """Learn which versions the broker speaks (KIP-511): ask in our newest, step down once."""
        answers: list[Any] = []
        answered = trio.Event()

        def on_answer(answer: Any) -> None:
            answers.append(answer)
            answered.set()

        for version in (3, 0):
            fields = {"client_software_name": "raftlog", "client_software_version": "0.1.0"}
            self.submit(ApiKey.API_VERSIONS, version, fields, deadline=deadline, on_answer=on_answer)
            await answered.wait()
            answer = answers.pop()
            answered = trio.Event()
            if isinstance(answer, Exception):
                raise answer
            if int(answer.error_code) == 0:
                self.versions = {
                    int(key.api_key): (key.min_version, key.max_version) for key in answer.api_keys
                }
                self.features = frozenset(str(one.name) for one in getattr(answer, "supported_features", ()))
                return
        raise UnsupportedVersion(f"{self.name} does not answer ApiVersions: {answer.error_code}")

    def statistics(self) -> ConnectionStatistics:
        """A snapshot of the counters."""
        now = self._statistics
        return ConnectionStatistics(now.requests, now.answers, self._queue.bytes_sent, now.bytes_received)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Connection {self.name} {state} in_flight={self.in_flight}>"

    # -- writing

    def _send(self, chunks: list[Buffer]) -> None:
        try:
            self._queue.send(chunks)
        except OSError as error:
            self.close(_disconnected(self.name, error))
        if self._queue.waiting:
            self._queue_waits.set()

    async def _write(self) -> None:
        while True:
            await self._queue_waits.wait()
            try:
                await self._queue.drain()
            except OSError as error:
                self.close(_disconnected(self.name, error))
                return
            except trio.ClosedResourceError:
                return
            self._queue_waits = trio.Event()

    # -- reading

    async def _read(self) -> None:
        stream = self._stream
        scratch = memoryview(bytearray(SCRATCH_SIZE))
        cutter = FrameCutter(scratch, _size_of, bytearray, reserve=RESERVE)
        try:
            while self.closed is None:  # a request that cannot be sent closes it, also before the first turn
                await stream.readable()
                for _ in range(READS_PER_TURN_MAX):
                    try:
                        received = stream.receive_into(cutter.buffer())
                    except BlockingIOError:
                        break
                    if received == 0:
                        raise ConnectionResetError(errno.ECONNRESET, "the broker closed the connection")
                    self._statistics.bytes_received += received
                    for frame in cutter.received(received):
                        self._take(memoryview(frame))
        except OSError as error:
            hint = self._hint if self._statistics.answers == 1 else ""
            self.close(_disconnected(self.name, error, hint))
        except trio.ClosedResourceError:
            pass
        except InvalidInput as error:
            failure = Disconnected(f"{self.name} sent what is not the protocol: {error}")
            failure.__cause__ = error
            self.close(failure)

    def _take(self, frame: memoryview) -> None:
        if not self._under_way:
            raise InvalidInput("an answer to nothing")
        request = self._under_way[0]
        if int.from_bytes(frame[:4], "big") != request.correlation_id:
            raise InvalidInput(f"answer {frame[:4].hex()} to request {request.correlation_id}")
        answer = self._decode(request, frame)
        self._under_way.popleft()
        self._scope.deadline = min((one.deadline for one in self._under_way), default=float("inf"))
        self._statistics.answers += 1
        request.on_answer(answer)

    def _decode(self, request: _UnderWay, frame: memoryview) -> Any:
        try:
            _, answer = decode_response(request.api, request.version, frame)
        except InvalidInput:
            if request.api is not ApiKey.API_VERSIONS or request.version == 0:
                raise
            _, answer = decode_response(request.api, 0, frame)
        return answer


def _size_of(word: int) -> int:
    if word > FRAME_BYTES_MAX:
        raise InvalidInput(f"an answer of {word} bytes")
    return word


def _disconnected(name: str, error: OSError, hint: str = "") -> Disconnected:
    failure = Disconnected(f"{name}: {error.strerror or error}{f' ({hint})' if hint else ''}")
    failure.__cause__ = error
    return failure
