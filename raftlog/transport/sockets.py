"""The system's non-blocking sockets under Trio: a Trio stream costs three times as much a frame."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

import trio

SILENCE_MS: Final = 10_000
"""What is sent and not acknowledged by the peer's kernel for that long breaks the connection."""
UNSENT_BYTES: Final = 128 << 10
"""What the kernel takes beyond what it can send: a heartbeat cannot pass what lies there."""


def take_socket(stream: trio.SocketStream) -> socket.socket:
    """The socket under a stream, which is not used any more."""
    connection = socket.socket(fileno=stream.socket.detach())
    connection.setblocking(False)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
    except OSError:
        pass  # it is broken already; the first read says so
    return connection


async def send_all(connection: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        await trio.lowlevel.wait_writable(connection)
        view = view[connection.send(view) :]


async def receive_into(connection: socket.socket, view: memoryview) -> bool:
    """Fill `view`; False at the end of the stream."""
    while view:
        await trio.lowlevel.wait_readable(connection)
        count = connection.recv_into(view)
        if count == 0:
            return False
        view = view[count:]
    return True


def why_not_connected(error: Exception) -> Exception:
    """What the system said, under what Trio says when it has tried every address of a host."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause if isinstance(cause, OSError) else error


def in_words(error: Exception) -> str:
    """Why there is no connection, for people: without what is known anyway."""
    cause = why_not_connected(error)
    if isinstance(cause, trio.TooSlowError):
        return "no answer in time"
    if not isinstance(cause, OSError):
        return str(cause)
    if cause.errno in errno.errorcode:
        return os.strerror(cause.errno or 0)
    return cause.strerror or str(cause)  # a name that is not known has an errno of its own kind
