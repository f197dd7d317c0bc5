"""Is there a broker at all? One question, asked by hand, before the client with its patience takes over.

ApiVersions version 0 is the one request that every broker answers, before authentication too. What comes
back instead says what is there: nothing, something that is not Kafka, something that is silent.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final

import click
import trio

CONNECT_SECONDS_MAX: Final = 5.0
ANSWER_SECONDS_MAX: Final = 5.0
ANSWER_BYTES_MAX: Final = 1 << 16
"""Read in one go; an answer has a few hundred."""
_METADATA: Final = 3
_API_VERSIONS: Final = 18
_CORRELATION_ID: Final = 0x7261_6674
_NOT_KAFKA: Final = "something listens there, but it does not speak Kafka's protocol"
_ASKS_FOR_LOGIN: Final = (
    "a broker answers, and asks for a login: --config FILE with security.protocol, sasl.username"
    " and sasl.password"
)


async def check(servers: Sequence[tuple[str, int]]) -> None:
    """Return once one of the servers has answered. Raises click.ClickException with what each did instead."""
    failures = []
    for host, port in servers:
        failure = await _failure_of(host, port)
        if failure is None:
            return
        failures.append(f"{host}:{port}: {failure}")
    raise click.ClickException(
        f"no broker answers at {'; '.join(failures)}. Start one with `raftlog serve`, or say where one is"
        " with --bootstrap HOST:PORT"
    )


async def _failure_of(host: str, port: int) -> str | None:
    """What is wrong with the broker at an address, None when nothing is."""
    stream: trio.SocketStream | None = None
    try:
        with trio.move_on_after(CONNECT_SECONDS_MAX):
            stream = await trio.open_tcp_stream(host, port)
    except socket.gaierror:
        return f"there is no host {host!r}"
    except OSError as error:
        return _reason(error)
    if stream is None:
        return f"no connection within {CONNECT_SECONDS_MAX:g} s"
    async with stream:
        return await _question(stream, port)


async def _question(stream: trio.SocketStream, port: int) -> str | None:
    client_id = b"raftlog-cli"
    request = struct.pack(">hhih", _API_VERSIONS, 0, _CORRELATION_ID, len(client_id)) + client_id
    answer = b""
    try:
        with trio.move_on_after(ANSWER_SECONDS_MAX) as waiting:
            await stream.send_all(struct.pack(">i", len(request)) + request)
            while not _is_whole(answer) and (chunk := await stream.receive_some(ANSWER_BYTES_MAX)):
                answer += chunk
    except trio.BrokenResourceError:
        pass
    if answer[4:8] == struct.pack(">i", _CORRELATION_ID):
        return None if await _serves(stream) else _ASKS_FOR_LOGIN
    if waiting.cancelled_caught:
        return (
            f"something listens there and does not answer within {ANSWER_SECONDS_MAX:g} s (a broker that"
            " waits for others of its cluster says in its log for which)"
        )
    if answer.startswith(b"HTTP/"):
        return f"{_NOT_KAFKA}: it is an HTTP server"
    if answer.startswith(b"\x15\x03"):
        return f"{_NOT_KAFKA} in plain text: it wants TLS"
    if not answer and port != 9192:
        return (
            "something listens there, and closes the connection without a word: if it is a broker, it wants"
            " TLS (--config FILE with security.protocol=SASL_SSL or SSL)"
        )
    if port == 9192:
        return f"{_NOT_KAFKA}: 9192 is where raftlog's brokers talk to each other, clients use 9092"
    return _NOT_KAFKA


async def _serves(stream: trio.SocketStream) -> bool:
    """Whether a second request is answered, after the one that everybody may ask."""
    request = struct.pack(">hhihi", _METADATA, 1, _CORRELATION_ID, -1, 0)
    try:
        await stream.send_all(struct.pack(">i", len(request)) + request)
        with trio.move_on_after(ANSWER_SECONDS_MAX):
            answer = await stream.receive_some(ANSWER_BYTES_MAX)
            while answer and not _is_whole(answer) and (more := await stream.receive_some(ANSWER_BYTES_MAX)):
                answer += more
            return bool(answer)
    except trio.BrokenResourceError:
        return False
    return True  # the client will wait for longer


def _is_whole(answer: bytes) -> bool:
    """Read to its end, since a connection that is closed on unread bytes looks broken to the broker."""
    is_ours = answer[4:8] == struct.pack(">i", _CORRELATION_ID)
    return len(answer) >= (4 + int.from_bytes(answer[:4], "big") if is_ours else 8)


def _reason(error: OSError) -> str:
    """Why there is no connection; Trio puts the failures of several addresses into a group below."""
    failure: BaseException = error
    while isinstance(failure.__cause__, OSError | BaseExceptionGroup):
        failure = failure.__cause__
        if isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
    number = failure.errno if isinstance(failure, OSError) else None
    if number == errno.ECONNREFUSED:
        return "nobody listens there"
    return str(failure).lower()
