"""One connection as a stream of bytes.

A call that moves bytes never waits: it moves what can be moved, or raises BlockingIOError. Waiting is
apart, in `readable` and `writable`. So who answers a request can send where the answer is known, inside
somebody else's turn of the event loop, and a large message is received where it will stay.

Three rules make room for a stream that encrypts:

* Wait by `readable` and `writable` only, never for the socket. Bytes that are decrypted already are
  readable, and what must be written may first have to read.
* What was offered to `send` and was not taken is offered again first. More may follow it.
* A file's bytes go by `send_file`. Nobody but the stream sees the socket's descriptor.

A stream that encrypts is made of a plain one, before the first byte that means anything. Trio's own streams
cost three to six times as much a message, hence the system's sockets.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final, Protocol, TypeAlias

import trio

Buffer: TypeAlias = bytes | bytearray | memoryview
Option: TypeAlias = tuple[int, int, int]
"""A socket option: level, name, value."""

IOV_MAX: Final = 1024
"""Buffers that Linux takes in one call."""
SENDFILE_MAX: Final = 1 << 20
"""Bytes of a file in one call: as much as is known to be in the page cache."""

KEEP_ALIVE: Final[Option] = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


class File(Protocol):
    """An open file, as much of it as sending needs."""

    def pread(self, size: int, position: int) -> bytes: ...

    def is_cached(self, size: int, position: int) -> bool: ...


class FileRange:
    """Bytes of a file, sent without passing through Python. `file` is kept open by being referred to."""

    __slots__ = ("file", "fileno", "length", "position")

    def __init__(self, file: File, fileno: int, position: int, length: int) -> None:
        self.file = file
        self.fileno = fileno
        self.position = position
        self.length = length

    def __len__(self) -> int:
        return self.length

    @property
    def is_cold(self) -> bool:
        """Whether sending what comes next would wait for the disk."""
        return not self.file.is_cached(min(self.length, SENDFILE_MAX), self.position)

    def warm(self) -> None:
        """Read what comes next, in a thread; what cannot be read, sending meets."""
        try:
            self.file.pread(min(self.length, SENDFILE_MAX), self.position)
        except OSError:
            pass


class Stream(Protocol):
    """A connection. Raises OSError once it is broken, and trio.ClosedResourceError to who waits on it when
    it is closed here."""

    @property
    def peer_host(self) -> str:
        """Who is at the other end."""
        ...

    def readable(self) -> Awaitable[None]:
        """Wait until `receive_into` is worth a try."""
        ...

    def receive_into(self, buffer: memoryview) -> int:
        """Bytes received, 0 at the end of the stream. Raises BlockingIOError while there are none."""
        ...

    def writable(self) -> Awaitable[None]:
        """Wait until `send` or `send_file` is worth a try."""
        ...

    def send(self, buffers: Sequence[Buffer]) -> int:
        """Send the buffers one behind the other; how many bytes were taken. Raises BlockingIOError."""
        ...

    def send_file(self, part: FileRange) -> int:
        """Send the beginning of a range, which stays as it is; how many bytes were taken. Raises
        BlockingIOError, and OSError for a file that ends before the range does."""
        ...

    def shut_down(self) -> None:
        """End both directions. Whoever waits is told; the other end reads what was sent, and then the end."""
        ...

    def close(self) -> None:
        """Give the socket back. Closing twice is nothing."""
        ...


class PlainStream:
    """A connected socket, in plain text. It owns the socket."""

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket, options: Iterable[Option] = ()) -> None:
        self._socket = connected
        connected.setblocking(False)
        if connected.family in (socket.AF_INET, socket.AF_INET6):
            try:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for option in options:
                    connected.setsockopt(*option)
            except OSError:
                pass  # it is broken already: the first use says so

    def __repr__(self) -> str:
        return f"<PlainStream {self.peer_host}>"

    @property
    def peer_host(self) -> str:
        try:
            return str(self._socket.getpeername()[0])
        except (OSError, IndexError):
            return "somebody who has gone"

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay to be received; empty at the end of the stream. Raises BlockingIOError
        while there are none."""
        return self._socket.recv(size, socket.MSG_PEEK)

    def detach(self) -> socket.socket:
        """The socket, for a stream that is made of this one. This one is not used any more: it is closed."""
        detached = socket.socket(fileno=self._socket.detach())
        detached.setblocking(False)
        return detached

    def readable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_readable(self._socket)  # noqa: ASYNC105 (the caller awaits it, a frame less)

    def receive_into(self, buffer: memoryview) -> int:
        return self._socket.recv_into(buffer)

    def writable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_writable(self._socket)  # noqa: ASYNC105

    def send(self, buffers: Sequence[Buffer]) -> int:
        count = len(buffers)
        if count == 1:
            return self._socket.send(buffers[0])
        return self._socket.sendmsg(buffers if count <= IOV_MAX else buffers[:IOV_MAX])

    def send_file(self, part: FileRange) -> int:
        sent = os.sendfile(self._socket.fileno(), part.fileno, part.position, min(part.length, SENDFILE_MAX))
        if sent == 0:
            raise OSError("a file is shorter than it was")
        return sent

    def shut_down(self) -> None:
        if self._socket.fileno() < 0:
            return
        trio.lowlevel.notify_closing(self._socket)
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


async def send_all(stream: Stream, data: bytes) -> None:
    """For the few bytes that open a connection. Cancelled, some of them are sent."""
    view = memoryview(data)
    while view:
        await stream.writable()
        try:
            view = view[stream.send([view]) :]
        except BlockingIOError:
            pass


async def receive_exactly(stream: Stream, view: memoryview) -> bool:
    """Fill `view`; False when the stream ends before. Cancelled, what came is lost."""
    while view:
        await stream.readable()
        try:
            count = stream.receive_into(view)
        except BlockingIOError:
            continue
        if count == 0:
            return False
        view = view[count:]
    return True
