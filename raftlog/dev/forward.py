"""A small HTTP client for the brokers of this machine: one request a connection, answers whole or as they
come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import h11
import trio

from raftlog.errors import RaftlogError

ANSWER_BYTES_MAX: Final = 16 << 20
"""Of an answer that is taken whole: a record of 1 MiB in hex, and more."""
RECEIVE_BYTES: Final = 64 << 10
CONNECT_S: Final = 1.0

Headers = tuple[tuple[str, str], ...]


class Unanswered(RaftlogError):
    """A broker did not answer, or not what HTTP allows."""


class Answer:
    """The beginning of an answer; `pieces` is the rest of it."""

    def __init__(self, status: int, headers: Headers, pieces: AsyncIterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.pieces = pieces

    @property
    def content_type(self) -> str:
        return dict(self.headers).get("content-type", "application/octet-stream")

    async def read(self) -> bytes:
        """All of it. Raises Unanswered when it is too much."""
        body = bytearray()
        async for piece in self.pieces:
            body += piece
            if len(body) > ANSWER_BYTES_MAX:
                raise Unanswered(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        return bytes(body)


@asynccontextmanager
async def asked(
    address: tuple[str, int],
    target: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> AsyncIterator[Answer]:
    """Ask, and give the answer while it lasts. Raises Unanswered; a caller sets the time that it may take."""
    host, port = address
    connection = h11.Connection(h11.CLIENT)
    try:
        with trio.fail_after(CONNECT_S):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError) as error:
        raise Unanswered(f"{host}:{port} does not answer") from error
    async with stream:
        try:
            every = {"Host": f"{host}:{port}", "Connection": "close", **(headers or {})}
            if method not in ("GET", "HEAD"):
                every["Content-Length"] = str(len(body))
            request = h11.Request(method=method, target=target, headers=list(every.items()))
            data = connection.send(request) or b""
            if body:
                data += connection.send(h11.Data(data=body)) or b""
            await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
            pieces = _events(connection, stream)
            head = await anext(pieces)
            assert isinstance(head, h11.Response)
            named = tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in head.headers)
            yield Answer(head.status_code, named, _bodies(pieces))
        except (OSError, trio.BrokenResourceError, h11.ProtocolError, StopAsyncIteration) as error:
            raise Unanswered(f"{host}:{port} broke off: {error!r}") from error


async def _events(connection: h11.Connection, stream: trio.SocketStream) -> AsyncIterator[Any]:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(RECEIVE_BYTES))
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return
        else:
            yield event


async def _bodies(events: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for event in events:
        if isinstance(event, h11.Data):
            yield bytes(event.data)


async def ask(
    address: tuple[str, int], target: str, *, method: str = "GET", body: object = None, within_s: float = 2.0
) -> Any:
    """What a broker answers, as JSON. Raises Unanswered, also for an error and when it takes too long."""
    headers = {"Content-Type": "application/json", "X-Raftlog-CSRF": "1"} if method != "GET" else {}
    data = b"" if body is None else json.dumps(body).encode()
    try:
        with trio.fail_after(within_s):
            async with asked(address, target, method=method, headers=headers, body=data) as answer:
                text = await answer.read()
                if answer.status >= 300:
                    raise Unanswered(f"{target}: {answer.status} {text[:200]!r}")
                return json.loads(text) if text else None
    except trio.TooSlowError as error:
        raise Unanswered(f"{target}: no answer within {within_s:g} s") from error
    except ValueError as error:
        raise Unanswered(f"{target}: no JSON") from error
