"""Kafka's encoding by hand, as wrong as a test wants it. Nothing of the broker's own codec is used."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Final

ANSWER_S: Final = 30.0
"""How long an answer, or the end of a connection, is waited for."""

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT = 8, 9, 10, 11, 12
SYNC_GROUP, DESCRIBE_GROUPS, LIST_GROUPS = 14, 15, 16
API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS, DELETE_RECORDS, INIT_PRODUCER_ID = 18, 19, 20, 21, 22
CREATE_PARTITIONS, OFFSET_FOR_LEADER_EPOCH, CONTROLLED_SHUTDOWN = 37, 23, 7
SASL_HANDSHAKE, SASL_AUTHENTICATE, DESCRIBE_CLIENT_QUOTAS, ALTER_CLIENT_QUOTAS = 17, 36, 48, 49
CREATE_ACLS, DELETE_ACLS, ALTER_USER_SCRAM_CREDENTIALS = 30, 31, 51

_ids = itertools.count(1)


def i8(value: int) -> bytes:
    return struct.pack(">b", value)


def i16(value: int) -> bytes:
    return struct.pack(">h", value)


def i32(value: int) -> bytes:
    return struct.pack(">i", value)


def i64(value: int) -> bytes:
    return struct.pack(">q", value)


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value: int) -> bytes:
    """Zig-zag, as in records."""
    return uvarint((value << 1) ^ (value >> 63))


def string(value: str | bytes | None) -> bytes:
    if value is None:
        return i16(-1)
    data = value.encode() if isinstance(value, str) else value
    return i16(len(data)) + data


def compact(value: str | bytes | None) -> bytes:
    """A string of a flexible version."""
    if value is None:
        return b"\0"
    data = value.encode() if isinstance(value, str) else value
    return uvarint(len(data) + 1) + data


def array(items: Sequence[bytes], count: int | None = None) -> bytes:
    """An array, whose count may lie."""
    return i32(len(items) if count is None else count) + b"".join(items)


def compact_array(items: Sequence[bytes], count: int | None = None) -> bytes:
    return uvarint((len(items) if count is None else count) + 1) + b"".join(items)


def header(
    api: int, version: int, *, client_id: bytes | None = b"bad", correlation: int = 1, tags: bytes = b""
) -> bytes:
    """A request header; `tags` is b"\\0" at least where the version is flexible."""
    return struct.pack(">hhi", api, version, correlation) + string(client_id) + tags


def framed(request: bytes) -> bytes:
    return i32(len(request)) + request


class Raw:
    """A connection that sends bytes as they are."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.sock = socket.create_connection(address, timeout=ANSWER_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=address[0])

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all of it; that the other side closes meanwhile is for `is_closed` to find out."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def send_no_more(self) -> None:
        """Say that nothing comes behind. The broker may have ended the connection before."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def ask(
        self, api: int, version: int, body: bytes, *, tags: bytes = b"", client_id: bytes | None = b"bad"
    ) -> bytes:
        """Send a request and give what follows the correlation id in its answer."""
        correlation = next(_ids)
        self.send(
            framed(header(api, version, client_id=client_id, correlation=correlation, tags=tags) + body)
        )
        answer = self.receive()
        assert answer[:4] == i32(correlation), answer[:64]
        return answer[4:]

    def ask_many(self, api: int, version: int, bodies: list[bytes]) -> list[bytes]:
        """As `ask`, all of them before the first answer is read."""
        ids = [next(_ids) for _ in bodies]
        self.send(
            b"".join(
                framed(header(api, version, client_id=b"bad", correlation=id, tags=b"") + body)
                for id, body in zip(ids, bodies, strict=True)
            )
        )
        answers = [self.receive() for _ in bodies]
        assert [answer[:4] for answer in answers] == [i32(id) for id in ids]
        return [answer[4:] for answer in answers]

    def receive(self) -> bytes:
        """The next frame. Raises ConnectionError when the connection ends first."""
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise ConnectionResetError(f"closed after {len(data)} of {count} bytes")
            data += piece
        return bytes(data)

    def wait_closed(self) -> bytes:
        """What still comes until the other side closes; raises TimeoutError when it does not."""
        data = bytearray()
        try:
            while piece := self.sock.recv(65536):
                data += piece
        except (ConnectionResetError, ssl.SSLError):
            pass
        return bytes(data)


class Reader:
    """Takes an answer apart."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        assert isinstance(value, int)
        return value

    def i16(self) -> int:
        return self._take(">h")

    def i32(self) -> int:
        return self._take(">i")

    def i64(self) -> int:
        return self._take(">q")

    def i8(self) -> int:
        return self._take(">b")

    def bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        assert len(found) == count, "the answer is too short"
        self._at += count
        return found

    def string(self) -> str | None:
        length = self.i16()
        return None if length < 0 else self.bytes(length).decode()

    def is_at_end(self) -> bool:
        return self._at == len(self._data)
