"""A connection in TLS, as the stream that everything with a socket uses.

It is made of a plain stream, before the first byte that means anything, and moves bytes without waiting, as
that one does. It knows no certificates but by their context, and no protocol above it.

OpenSSL asks for two things that a socket does not. Bytes that it has decrypted wait inside it, where the
kernel knows nothing of them: hence `readable`. And what it could not write whole must be offered again, at
least as long: `SendQueue` offers what was not taken first, `_joined` makes no shorter piece of it, and a
file's bytes are kept until then.

`ssl.SSLSocket` rather than `trio.SSLStream` or memory BIOs: by measure a half to a quarter of the CPU of the
first, and a fifth of the memory of either.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, Final

import trio

from raftlog.net.stream import Buffer, FileRange, PlainStream

RECORD_MAX: Final = 16 * 1024
"""Bytes of a TLS record: what one call of OpenSSL takes or gives."""
JOINED_MAX: Final = 64 * 1024
"""Small buffers are joined up to this, so that they share records."""
FILE_PIECE: Final = 256 * 1024
"""Bytes of a file that are read at once, and kept until they are taken."""
KEY_UPDATE_PAUSE_S: Final = 0.01
"""Before a read is tried again that has to write first. The peer asked for other keys and its socket is full;
another task may be waiting for the same socket, and two cannot."""

HANDSHAKES_AT_ONCE: Final = 4
"""Steps of handshakes in a round of the event loop: each may take a millisecond, and many come at once."""

_limiters: Final = trio.lowlevel.RunVar[trio.CapacityLimiter]("handshakes")
_TLS_HANDSHAKE: Final = b"\x16"
_HEAD_SIZE: Final = 4


async def secure(
    stream: PlainStream, context: ssl.SSLContext, server_hostname: str | None = None
) -> TlsStream:
    """The same connection in TLS: the handshake is done. `server_hostname` for who dialled: whose certificate
    the other side must show. Raises OSError (`tls_in_words` says why). The plain stream is not used any more.
    Cancelled or failed, the connection is closed."""
    plain = stream.detach()
    try:
        encrypted = context.wrap_socket(
            plain,
            server_side=server_hostname is None,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=True,  # many clients leave without saying so
            server_hostname=server_hostname,
        )
    except BaseException:
        plain.close()
        raise
    secured = TlsStream(encrypted)
    try:
        await secured.shake_hands()
    except BaseException:
        secured.close()
        raise
    return secured


def begins_with_tls(head: bytes | bytearray) -> bool:
    """Whether a connection begins as one in TLS does: one byte decides, since a message that began with it
    would be of 369 MB and more."""
    return head[:1] == _TLS_HANDSHAKE


async def first_bytes(stream: PlainStream) -> bytes:
    """What a connection begins with, one byte or more, and they stay to be received; empty when it ends
    before."""
    while True:
        await stream.readable()
        try:
            return stream.peek(_HEAD_SIZE)
        except BlockingIOError:
            pass


class TlsStream:
    """A socket in TLS. It owns the socket. Made by `secure`."""

    __slots__ = ("_is_over", "_must_write", "_piece", "_piece_of", "_piece_position", "_socket")

    def __init__(self, connected: ssl.SSLSocket) -> None:
        self._socket = connected
        self._is_over = False
        self._must_write = False
        self._piece_of: FileRange | None = None
        self._piece_position = 0
        self._piece = memoryview(b"")

    def __repr__(self) -> str:
        return f"<TlsStream {self.peer_host}>"

    @property
    def peer_host(self) -> str:
        try:
            return str(self._socket.getpeername()[0])
        except (OSError, IndexError):
            return "somebody who has gone"

    def peer_certificate(self) -> dict[str, Any]:
        """What `ssl` tells of the certificate that the other side showed; empty when it showed none that was
        checked."""
        certificate: dict[str, Any] | None = self._socket.getpeercert()
        return certificate or {}

    async def shake_hands(self) -> None:
        """Raises OSError."""
        limiter = _limiter()
        while True:
            try:
                async with limiter:
                    await trio.lowlevel.checkpoint()
                    self._socket.do_handshake()
                return
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(self._socket)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self._socket)

    async def readable(self) -> None:
        if self._is_over:
            raise trio.ClosedResourceError
        if self._must_write:
            self._must_write = False
            await trio.sleep(KEY_UPDATE_PAUSE_S)
        elif self._socket.pending():
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.wait_readable(self._socket)

    def receive_into(self, buffer: memoryview) -> int:
        if self._is_over:
            return 0
        received, size, encrypted = 0, len(buffer), self._socket
        try:
            while received < size:
                count = encrypted.recv_into(buffer[received:] if received else buffer)
                received += count
                if count == 0 or (count < RECORD_MAX and not encrypted.pending()):
                    break
        except ssl.SSLWantReadError:
            if not received:
                raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self._must_write = True
            if not received:
                raise BlockingIOError from None
        return received

    async def writable(self) -> None:
        if self._is_over:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_writable(self._socket)

    def send(self, buffers: Sequence[Buffer]) -> int:
        if len(buffers) == 1:
            return self._encrypt(memoryview(buffers[0]))
        taken = 0
        for piece in _joined(buffers):
            try:
                count = self._encrypt(piece)
            except BlockingIOError:
                if taken:
                    break
                raise
            taken += count
            if count < len(piece):
                break
        return taken

    def send_file(self, part: FileRange) -> int:
        if self._piece_of is not part or self._piece_position != part.position or not self._piece:
            self._piece = memoryview(part.file.pread(min(part.length, FILE_PIECE), part.position))
            self._piece_of, self._piece_position = part, part.position
            if not self._piece:
                raise OSError("a file is shorter than it was")
        taken = self._encrypt(self._piece)
        self._piece = self._piece[taken:]
        self._piece_position += taken
        if not self._piece:
            self._piece_of = None
        return taken

    def _encrypt(self, view: memoryview) -> int:
        """As many of the bytes as OpenSSL takes, a record at a time. Raises BlockingIOError for none."""
        if self._is_over:
            raise BrokenPipeError("the connection was closed here")
        taken, size, encrypted = 0, len(view), self._socket
        try:
            while taken < size:
                taken += encrypted.send(view[taken:] if taken else view)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            if not taken:
                raise BlockingIOError from None
        return taken

    def shut_down(self) -> None:
        if self._is_over or self._socket.fileno() < 0:
            return
        self._is_over = True
        trio.lowlevel.notify_closing(self._socket)
        try:
            self._socket.unwrap()  # says that this is the end, and does not wait to hear the same
        except (OSError, ValueError):
            pass
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        self._is_over = True
        self._piece_of, self._piece = None, memoryview(b"")
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


def _limiter() -> trio.CapacityLimiter:
    try:
        return _limiters.get()
    except LookupError:
        _limiters.set(trio.CapacityLimiter(HANDSHAKES_AT_ONCE))
        return _limiters.get()


def tls_in_words(error: Exception) -> str | None:
    """Why a handshake failed, for people; None for what is no failure of TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the other side is not taken: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "the other side closed the connection within the TLS handshake: does it speak TLS?"
    if not isinstance(error, ssl.SSLError):
        return None
    reason = error.reason or str(error)
    if reason == "WRONG_VERSION_NUMBER":
        return "the other side speaks plain text, not TLS"
    if "_ALERT_" in reason:
        return f"the other side ended the TLS handshake: {_words(reason.partition('_ALERT_')[2])}"
    return f"no TLS handshake: {_words(reason)}"


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _joined(buffers: Sequence[Buffer]) -> Iterator[memoryview]:
    """The same bytes in fewer pieces. A piece begins with the same bytes, and is as long at least, when more
    buffers follow, or when empty ones before them have gone."""
    small: list[Buffer] = []
    size = 0
    for buffer in buffers:
        if not size and len(buffer) >= RECORD_MAX:
            yield memoryview(buffer)
            continue
        small.append(buffer)
        size += len(buffer)
        if size >= JOINED_MAX:
            yield memoryview(b"".join(small))
            small, size = [], 0
    if size:
        yield memoryview(b"".join(small))
