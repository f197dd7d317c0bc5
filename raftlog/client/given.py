"""What a record that is sent is made of: taken as it was given, or refused in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from raftlog.client.arguments import demand, objection
from raftlog.client.settings import ProducerSettings
from raftlog.errors import ConfigError
from raftlog.records.record import Headers

HeaderInput: TypeAlias = Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]]


def as_bytes(what: str, value: Any, is_serialized: bool) -> bytes:
    """A key or a value that is not of the type bytes. Raises TypeError."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    kind = type(value).__name__
    if is_serialized:
        raise TypeError(f"send: {what}_serializer must give bytes or None, and gave {kind}")
    raise TypeError(
        f"send: {what} must be bytes or None, not {kind}: encode it, or give the producer a {what}_serializer"
    )


def check_timestamp(timestamp_ms: Any) -> None:
    """Raises TypeError or ValueError for what is no time of a record."""
    demand("send: timestamp_ms", timestamp_ms, int)
    if timestamp_ms < 0:
        raise ValueError(f"send: timestamp_ms must be milliseconds since the epoch, not {timestamp_ms}")


def check_expected(offset: int, partition: int | None, settings: ProducerSettings) -> None:
    """Whether a record may expect an offset. Raises TypeError, ValueError, ConfigError."""
    if demand("send: expected_offset", offset, int) < 0:
        raise ValueError(f"send: expected_offset is an offset, from 0 on, not {offset}")
    if partition is None:
        raise ValueError("send: expected_offset is of one partition: give partition, too")
    if settings.transactional_id is not None:
        raise ConfigError("expected_offset is for a producer without transactional_id")
    if not settings.enable_idempotence:
        raise ConfigError(
            "expected_offset needs enable_idempotence=True: without, a retry would find its own record"
        )


def wire_headers_of(headers: HeaderInput) -> Headers:
    """Headers as records have them. Raises TypeError."""
    if not isinstance(headers, Iterable) or isinstance(headers, str | bytes):
        demand("send: headers", headers, Mapping[str, bytes | None] | list[tuple[str, bytes | None]])
    pairs = [tuple(pair) for pair in (headers.items() if isinstance(headers, Mapping) else headers)]
    if objection(pairs, list[tuple[str, bytes | None]]) is not None:
        raise TypeError(
            "send: headers must be a mapping of a string to bytes or None, or pairs of them: encode values"
        )
    return tuple(pairs)
