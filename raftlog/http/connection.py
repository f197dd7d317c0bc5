"""One HTTP/1.1 connection: a request is read, judged, handled and answered; then the next. h11 knows the
syntax; what is beyond it is refused here, before anything is done.

A client may send a head of 16 KiB, and slowly only for five seconds; a body up to what the route takes; and
it must read what it is answered. It knows no route, and no right.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

import h11
import trio

from raftlog.http.messages import Head, Refusal, Request, Response, bad_request, parse_target

HEAD_BYTES_MAX: Final = 16 << 10
HEADERS_MAX: Final = 64
HEAD_S: Final = 5.0
"""How long a head may take: from its first byte, or for a connection's first from when it was accepted."""
IDLE_S: Final = 60.0
BODY_S: Final = 10.0
WRITE_S: Final = 20.0
"""How long a client may take nothing of what it is sent."""
RECEIVE_BYTES: Final = 8 << 10
SEND_BYTES: Final = 64 << 10
LINGER_S: Final = 1.0
LINGER_BYTES_MAX: Final = 256 << 10
"""What is read and thrown away of who was refused, so that the system does not take the answer back."""

CONNECTIONS_MAX: Final = 64
CONNECTIONS_EACH_MAX: Final = 8
"""Of one address: a browser opens six."""
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_CONTINUE: Final = h11.InformationalResponse(status_code=100, headers=[])

log = logging.getLogger("raftlog.http")


class App(Protocol):
    """Who decides."""

    def is_probe(self, head: Head) -> bool:
        """Whether the request asks for nothing but a sign of life."""
        ...

    async def admit(self, head: Head) -> int:
        """Whether the request may be made at all, and how large a body it may have. Raises Refusal."""
        ...

    async def handle(self, request: Request) -> Response:
        """The answer. Raises Refusal; any other exception is an error of ours."""
        ...

    def refused(self, refusal: Refusal) -> Response:
        """What a client is told that is refused, by the app or before it was asked."""
        ...

    def finish(self, head: Head | None, response: Response) -> Response:
        """What every answer has: headers. Called once for each, also of what was no request."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What differs between the listeners of the package."""

    connections_max: int = CONNECTIONS_MAX
    connections_each_max: int = CONNECTIONS_EACH_MAX
    names_hold_anything: bool = False
    """Whether a segment of a path may be any text, a name of the clients' own choice. Not where it could be
    taken for a file's."""
    parameters_repeat: bool = False
    """Whether a parameter may be given several times."""


class Connection:
    """Serves a stream until the client leaves, breaks a rule, or is given up on."""

    def __init__(
        self, stream: trio.SocketStream, peer: str, app: App, terms: Terms, *, only_probes: bool = False
    ) -> None:
        """`only_probes`: there are too many connections; one request is read, and refused unless it is a
        probe."""
        self._stream = stream
        self._only_probes = only_probes
        self._peer = peer
        self._app = app
        self._terms = terms
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * HEAD_BYTES_MAX)
        self._is_first = True

    async def run(self) -> None:
        """Raises nothing that a client can cause."""
        try:
            while await self._serve_one():
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        except Exception:  # it is this client's request that met it
            log.exception("a connection of %s failed", self._peer)
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _serve_one(self) -> bool:
        """One request; whether another may follow."""
        head: Head | None = None
        try:
            head = await self._read_head()
            if head is None:
                return False
            if self._only_probes and not self._app.is_probe(head):
                raise _busy()
            body_max = await self._app.admit(head)
            body = await self._read_body(head, body_max)
        except Refusal as refusal:
            await self._refuse(head, refusal)
            return False
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint if error.error_status_hint in (431, 501) else 400
            await self._refuse(head, Refusal(status, "BAD_REQUEST", str(error)))
            return False
        response = await self._answer(head, body)
        is_last = await self._send(head, response, is_last=self._only_probes)
        if is_last or self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    async def _answer(self, head: Head, body: bytes) -> Response:
        request = Request(
            method=head.method,
            path=head.path,
            query=head.query,
            headers=head.headers,
            peer=head.peer,
            body=body,
        )
        try:
            return await self._app.handle(request)
        except Refusal as refusal:
            return self._app.refused(refusal)
        except Exception:
            log.exception("%s /%s failed", head.method, "/".join(head.path))
            return self._app.refused(Refusal(500, "UNKNOWN_SERVER_ERROR", "the request met an error here"))

    # Reading

    async def _read_head(self) -> Head | None:
        """None when the client leaves, or has nothing to say for too long."""
        fed = len(self._h11.trailing_data[0])
        deadline = trio.current_time() + HEAD_S if self._is_first or fed else None
        self._is_first = False
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if fed > HEAD_BYTES_MAX:
                raise _too_long()
            until = deadline if deadline is not None else trio.current_time() + IDLE_S
            with trio.move_on_at(until) as waiting:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            if waiting.cancelled_caught:
                if not fed:
                    return None
                raise Refusal(408, "TIMED_OUT", f"the head was not there within {HEAD_S:g} s")
            if not data and not fed:
                return None
            if not data:
                raise bad_request("the connection ended within a head")
            if deadline is None:
                deadline = trio.current_time() + HEAD_S
            fed += len(data)
            self._h11.receive_data(data)
        if isinstance(event, h11.ConnectionClosed):
            return None
        assert isinstance(event, h11.Request), event
        return self._judge(event)

    def _judge(self, request: h11.Request) -> Head:
        """What h11 takes and is no request that anybody should send."""
        headers = list(request.headers)
        size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in headers)
        if size > HEAD_BYTES_MAX or len(headers) > HEADERS_MAX:
            raise _too_long()
        if request.http_version not in (b"1.0", b"1.1"):
            raise Refusal(505, "BAD_REQUEST", "HTTP/1.0 and 1.1 are served")
        method = request.method.decode("ascii")
        if method not in METHODS:
            allowed = (("Allow", ", ".join(METHODS)),)
            raise Refusal(405, "BAD_REQUEST", f"{method[:20]} is not served", headers=allowed)
        names = [name for name, _ in headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            raise bad_request("a length and an encoding: one of them is somebody else's idea of the body")
        terms = self._terms
        path, query = parse_target(
            bytes(request.target), anything=terms.names_hold_anything, repeats=terms.parameters_repeat
        )
        return Head(
            method=method,
            path=path,
            query=query,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in headers},
            peer=self._peer,
        )

    async def _read_body(self, head: Head, size_max: int) -> bytes:
        length = head.headers.get("content-length", "0")
        if int(length) > size_max:
            raise _too_large(size_max)
        if self._h11.they_are_waiting_for_100_continue:
            await self._send_all(self._h11.send(_CONTINUE) or b"")
        body = bytearray()
        with trio.move_on_after(BODY_S) as waiting:
            while not isinstance(event := self._h11.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > size_max:
                        raise _too_large(size_max)
                elif event is h11.NEED_DATA:
                    self._h11.receive_data(await self._stream.receive_some(SEND_BYTES))
                else:
                    raise bad_request("the connection ended within a body")
        if waiting.cancelled_caught:
            raise Refusal(408, "TIMED_OUT", f"the body was not there within {BODY_S:g} s")
        return bytes(body)

    # Answering

    async def _refuse(self, head: Head | None, refusal: Refusal) -> None:
        """The last answer of a connection; what is under way from the client is not looked at."""
        await self._send(head, self._app.refused(refusal), is_last=True)
        with trio.move_on_after(LINGER_S):
            await self._stream.send_eof()
            left = LINGER_BYTES_MAX
            while left > 0 and (data := await self._stream.receive_some(RECEIVE_BYTES)):
                left -= len(data)

    async def _send(self, head: Head | None, response: Response, *, is_last: bool = False) -> bool:
        """Send all of it; whether the connection ends with it."""
        response = self._app.finish(head, response)
        headers = [("Content-Type", response.content_type), *response.headers]
        if response.stream is None:
            headers.append(("Content-Length", str(len(response.body))))
        else:
            is_last = True  # who streams has no patience for a second request
        if is_last:
            headers.append(("Connection", "close"))
        status = h11.Response(
            status_code=response.status,
            headers=headers,
            reason=HTTPStatus(response.status).phrase.encode(),
        )
        started = self._h11.send(status) or b""
        if head is not None and head.method == "HEAD":
            await self._send_all(started)
        elif response.stream is None:
            await self._send_all(started + response.body)
            if response.body:
                self._h11.send_with_data_passthrough(h11.Data(data=response.body))
        else:
            await self._send_all(started)
            await response.stream(self._send_piece)
        await self._send_all(self._h11.send(h11.EndOfMessage()) or b"")
        return is_last

    async def _send_piece(self, data: bytes) -> None:
        if data:
            await self._send_all(self._h11.send(h11.Data(data=data)) or b"")

    async def _send_all(self, data: bytes) -> None:
        """In pieces, each of which has its time. Raises TooSlowError."""
        for start in range(0, len(data), SEND_BYTES):
            with trio.fail_after(WRITE_S):
                await self._stream.send_all(memoryview(data)[start : start + SEND_BYTES])


def _busy() -> Refusal:
    headers = (("Retry-After", "1"),)
    return Refusal(503, "BUSY", "too many connections; try again", retriable=True, headers=headers)


def _too_long() -> Refusal:
    return Refusal(431, "TOO_LARGE", f"a head has at most {HEAD_BYTES_MAX} bytes and {HEADERS_MAX} headers")


def _too_large(size_max: int) -> Refusal:
    return Refusal(413, "TOO_LARGE", f"a body has at most {size_max} bytes here")
