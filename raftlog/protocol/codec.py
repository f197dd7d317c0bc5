"""Frames of requests and responses: encode and decode, for broker and client alike.

A frame is a length (4 bytes) and that many bytes: a header, then the message. What is encoded here has
its length in front; what is decoded is given without it. Encoding takes plain values (`encode.Fields`),
decoding gives kio's frozen dataclasses; the field names are the same.

Every way in which bytes can be wrong ends in InvalidInput; bytes behind a message are ignored, since
librdkafka leaves some there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from raftlog.errors import InvalidInput
from raftlog.protocol.api import VERSIONS, ApiKey, request_is_flexible, response_header_is_flexible
from raftlog.protocol.encode import Buffer, Fields, encode, gather, prepare_to_encode
from raftlog.protocol.guard import TAGS_MAX, prepare_to_scan, read_varint, scan
from raftlog.protocol.requests import request_reader
from raftlog.protocol.schema import Direction, Reader, reader

_LENGTH = struct.Struct(">i")
_REQUEST = struct.Struct(">hhih")
_REQUEST_FRAME = struct.Struct(">ihhih")
_RESPONSE_FRAME = struct.Struct(">ii")


class RequestHeader(NamedTuple):
    """A request's header. `api` is a plain number that may be of no API known; `body` is where the
    message starts in the frame (for an API or version unknown: where it would without tagged fields)."""

    api: int
    version: int
    correlation_id: int
    client_id: str | None
    body: int


def encode_request(
    api: ApiKey, version: int, correlation_id: int, client_id: str | None, fields: Fields
) -> list[Buffer]:
    """A request's frame, its length included, as chunks for `sendmsg`. Large values are not copied."""
    return frame_request(api, version, correlation_id, client_id, encode(api, version, "request", fields))


def frame_request(
    api: ApiKey, version: int, correlation_id: int, client_id: str | None, pieces: list[Buffer]
) -> list[Buffer]:
    """A request's frame around a message that is encoded already."""
    name = b"" if client_id is None else client_id.encode()
    tags = b"\0" if request_is_flexible(api, version) else b""
    size = _REQUEST.size + len(name) + len(tags) + sum(map(len, pieces))
    name_length = -1 if client_id is None else len(name)
    head = _REQUEST_FRAME.pack(size, api, version, correlation_id, name_length) + name + tags
    return gather([head, *pieces])


def encode_response(api: ApiKey, version: int, correlation_id: int, fields: Fields) -> list[Buffer]:
    """A response's frame, its length included, as chunks for `sendmsg`. Large values are not copied."""
    return frame_response(api, version, correlation_id, encode(api, version, "response", fields))


def frame_response(
    api: ApiKey, version: int, correlation_id: int, pieces: list[Buffer], more: int = 0
) -> list[Buffer]:
    """A response's frame around a message that is encoded already, of which `more` bytes follow later."""
    tags = b"\0" if response_header_is_flexible(api, version) else b""
    size = 4 + len(tags) + sum(map(len, pieces)) + more
    return gather([_RESPONSE_FRAME.pack(size, correlation_id) + tags, *pieces])


def decode_request_header(frame: bytes | bytearray | memoryview) -> RequestHeader:
    """The header of a request's frame. Raises InvalidInput."""
    try:
        api, version, correlation_id, length = _REQUEST.unpack_from(frame)
        position = _REQUEST.size
        client_id = None
        if length >= 0:
            if position + length > len(frame):
                raise InvalidInput(f"client id of {length} bytes, {len(frame) - position} left")
            client_id = str(memoryview(frame)[position : position + length], "utf-8")
            position += length
        elif length != -1:
            raise InvalidInput(f"client id of {length} bytes")
        versions = VERSIONS.get(api)
        if versions is not None and versions.flexible <= version <= versions.last:
            position = skip_tags(frame, position) if frame[position] else position + 1
        return RequestHeader(api, version, correlation_id, client_id, position)
    except (struct.error, IndexError):
        raise InvalidInput(f"a request of {len(frame)} bytes has no whole header") from None
    except UnicodeDecodeError:
        raise InvalidInput("client id is not UTF-8") from None


def decode_request(frame: bytes | bytearray | memoryview, header: RequestHeader) -> object:
    """The message of a request, as `requests` shows it to handlers. Raises InvalidInput."""
    if header.api not in VERSIONS:
        raise InvalidInput(f"there is no API {header.api}")
    return _decode(frame, header.body, ApiKey(header.api), header.version, "request", request_reader)


def prepare_to_serve(api: ApiKey, version: int) -> None:
    """Do now what the first request of this version would have to wait for: tens of milliseconds."""
    prepare_to_scan(api, version, "request")
    request_reader(api, version)
    prepare_to_encode(api, version, "response")


def decode_response_header(
    frame: bytes | bytearray | memoryview, api: ApiKey, version: int
) -> tuple[int, int]:
    """(correlation id, where the message starts). Raises InvalidInput."""
    try:
        (correlation_id,) = _LENGTH.unpack_from(frame)
        position = skip_tags(frame, 4) if response_header_is_flexible(api, version) else 4
    except (struct.error, IndexError):
        raise InvalidInput(f"a response of {len(frame)} bytes has no whole header") from None
    return correlation_id, position


def decode_response(api: ApiKey, version: int, frame: bytes | bytearray | memoryview) -> tuple[int, Any]:
    """(correlation id, message) of a response. Raises InvalidInput.

    An ApiVersions answer of error UNSUPPORTED_VERSION is in version 0 whatever was asked (KIP-511): the
    caller sees InvalidInput or that error, and asks again with a lower version.
    """
    correlation_id, position = decode_response_header(frame, api, version)
    return correlation_id, _decode(frame, position, api, version, "response", response_reader)


def skip_tags(data: bytes | bytearray | memoryview, position: int) -> int:
    """The position behind tagged fields that nobody here reads. Raises InvalidInput or IndexError."""
    count, position = read_varint(data, position)
    if count > TAGS_MAX:
        raise InvalidInput(f"{count} tagged fields")
    for _ in range(count):
        _, position = read_varint(data, position)
        size, position = read_varint(data, position)
        position += size
    if position > len(data):
        raise InvalidInput(f"tagged fields are {position - len(data)} bytes short")
    return position


def response_reader(api: int, version: int) -> Reader:
    return reader(api, version, "response")


def _decode(
    frame: bytes | bytearray | memoryview,
    position: int,
    api: ApiKey,
    version: int,
    direction: Direction,
    find_reader: Callable[[int, int], Reader],
) -> Any:
    try:
        data, position = scan(memoryview(frame).toreadonly(), position, api, version, direction)
        message, _ = find_reader(api, version)(data, position)
    except InvalidInput as error:
        raise InvalidInput(f"{api.name} v{version} {direction}: {error}") from None
    except Exception as error:  # kio raises ValueError, KeyError and its own beside DecodeError
        raise InvalidInput(f"{api.name} v{version} {direction}: {error!r}") from error
    return message
