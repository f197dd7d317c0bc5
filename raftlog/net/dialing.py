"""Connecting, and why it failed, for people."""

from __future__ import annotations

import errno
import os
import socket

import trio


async def open_socket(host: str, port: int) -> socket.socket:
    """A connected socket of the system. Every address of the host is tried. Raises OSError. Cancelled, it
    leaves nothing open."""
    return take_socket(await trio.open_tcp_stream(host, port))


def take_socket(stream: trio.SocketStream) -> socket.socket:
    """The socket under a stream, which is not used any more."""
    return socket.socket(fileno=stream.socket.detach())


def why_not_connected(error: Exception) -> Exception:
    """What the system said, under what Trio says when it has tried every address of a host."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause if isinstance(cause, OSError) else error


def in_words(error: Exception) -> str:
    """Why there is no connection, without what is known anyway."""
    cause = why_not_connected(error)
    if isinstance(cause, trio.TooSlowError):
        return "no answer in time"
    if not isinstance(cause, OSError):
        return str(cause)
    if cause.errno in errno.errorcode:
        return os.strerror(cause.errno or 0)
    return cause.strerror or str(cause)  # a name that is not known has an errno of its own kind
