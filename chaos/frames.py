"""Frames for the fuzzer: requests of every API and version as kio's schemas have them, with fields that are
drawn, and then, mostly, with bytes that are not what they should be.

Fields are drawn from what has made brokers fall over: counts and lengths beyond what is there, names that
are paths, numbers at their ends, records of any kind of damage. What would make the broker's state grow
without end is not among them: few names, and few partitions.
"""

from __future__ import annotations

import dataclasses
import io
import random
import struct
import types
import typing
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, cast

from kio.index import load_request_schema
from kio.serial import entity_writer

from tests.badinput.batches import batch

NAMES: Final = (
    *("a", "b", "t-1", "t-2", "group", "_x", "__consumer_offsets", "A"),
    *("", ".", "..", "../../etc/passwd", "a/b", "a\0b", "a\nb", "é" * 40, "x" * 249, "x" * 250, "x" * 5_000),
)
SMALL: Final = (-2, -1, 0, 1, 2, 3)
BITS: Final = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint16": 16}
DAMAGED: Final = 0.1
"""Of the frames: one that cannot be read ends its connection, and what comes behind it is not seen."""
LIST_MAX: Final = 3
DEPTH_MAX: Final = 6
CORRELATIONS: Final = (0, 1, -1, (1 << 31) - 1, -(1 << 31))
LENGTHS: Final = (-(1 << 31), -2, -1, 0, 1, (1 << 31) - 1, 1 << 20)
"""What a frame may claim to be long."""
VARINTS: Final = (
    b"\0",
    b"\xff\xff\xff\xff\x0f",
    b"\xff" * 9 + b"\x01",
    b"\x80" * 11,
    b"\x80\0",
    b"\xfe\xff\x03",
)

Field = Callable[[random.Random, int], Any]


def frame(rng: random.Random, served: Sequence[tuple[int, int, int]]) -> bytes:
    """One frame, its length in front. `served`: key, first and last version of each API."""
    key, first, last = rng.choice(served)
    version = rng.randint(first, last)
    payload = bytearray(_header(rng, key, version) + _body(rng, key, version))
    for _ in range(rng.choice((1, 1, 3)) if rng.random() < DAMAGED else 0):
        _damage(rng, payload)
    length = (
        len(payload) if rng.random() < 0.98 else rng.choice((*LENGTHS, len(payload) + rng.randint(-5, 5)))
    )
    return struct.pack(">i", length) + payload


def _header(rng: random.Random, key: int, version: int) -> bytes:
    if rng.random() < 0.01:
        key, version = rng.randint(-1, 120), rng.randint(-1, 30)
    client = rng.choice((None, b"", b"fuzz", b"c" * 300)) if rng.random() < 0.995 else b"\xff\xfe"
    name = struct.pack(">h", -1) if client is None else struct.pack(">h", len(client)) + client
    tags = b"\0" if _is_flexible(key, version) else b""
    return struct.pack(">hhi", key, version, rng.choice(CORRELATIONS)) + name + tags


def _body(rng: random.Random, key: int, version: int) -> bytes:
    schema = _schema(key, version)
    if schema is None:
        return rng.randbytes(rng.randint(0, 60))
    buffer = io.BytesIO()
    try:
        entity_writer(schema)(buffer, _drawn(schema)(rng, 0))
    except (ValueError, OverflowError, TypeError, struct.error):
        return buffer.getvalue() + rng.randbytes(rng.randint(0, 20))  # what a version has no room for
    return buffer.getvalue()


@cache
def _schema(key: int, version: int) -> Any:
    try:
        return load_request_schema(key, version)
    except Exception:
        return None  # an API or a version that Kafka does not have


@cache
def _is_flexible(key: int, version: int) -> bool:
    """Whether the header ends with tagged fields; ApiVersions has them, too, and its answer does not."""
    schema = _schema(key, version)
    return bool(schema is not None and schema.__flexible__)


@cache
def _drawn(schema: Any) -> Field:
    """Draws an entity of a schema."""
    hints = typing.get_type_hints(schema)
    fields = {
        one.name: _field(hints[one.name], str(one.metadata.get("kafka_type", "")))
        for one in dataclasses.fields(schema)
    }

    def draw(rng: random.Random, depth: int) -> Any:
        return schema(**{name: each(rng, depth) for name, each in fields.items()})

    return draw


def _field(hint: Any, kind: str) -> Field:
    if typing.get_origin(hint) is types.UnionType or typing.get_origin(hint) is typing.Union:
        some = [_field(one, kind) for one in typing.get_args(hint) if one is not type(None)]
        return lambda rng, depth: None if rng.random() < 0.2 else rng.choice(some)(rng, depth)
    if typing.get_origin(hint) is tuple:
        each = _field(typing.get_args(hint)[0], kind)
        return lambda rng, depth: tuple(
            each(rng, depth + 1) for _ in range(rng.randint(0, LIST_MAX) if depth < DEPTH_MAX else 0)
        )
    if dataclasses.is_dataclass(hint):
        return _drawn(cast(type, hint))
    return lambda rng, depth: _value(rng, kind)


def _value(rng: random.Random, kind: str) -> Any:
    if kind in BITS:
        top = 1 << (BITS[kind] - (kind != "uint16"))
        return rng.choice((*SMALL, top - 1, -top)) if kind != "uint16" else rng.choice((0, 1, top - 1))
    match kind:
        case "bool":
            return rng.random() < 0.5
        case "string":
            return rng.choice(NAMES)
        case "bytes":
            return rng.randbytes(rng.choice((0, 1, 10, 100)))
        case "records":
            return _records(rng)
        case "uuid":
            return uuid.UUID(int=rng.choice((0, 1, rng.getrandbits(128))))
        case "float64":
            return rng.choice((0.0, -1.0, 1e308, float("inf"), float("nan")))
        case "timedelta_i32" | "timedelta_i64":
            return timedelta(milliseconds=rng.choice((0, 1, 1, 2, 5, -1, -(1 << 31))))  # waits that end
        case "error_code":
            return 0
        case _:
            return datetime.fromtimestamp(rng.randint(0, 1 << 31), UTC)


def _records(rng: random.Random) -> bytes:
    """A batch with some lies, or several, or noise."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randint(0, 100))
    lies: dict[str, Any] = {"count": rng.randint(1, 3)}
    for name, values in (
        ("attributes", (1, 2, 3, 4, 5, 7, 8, 16, 32, 48)),
        ("last_delta", (-1, 0, 5, (1 << 31) - 1)),
        ("base_offset", (-1, 1, (1 << 63) - 1)),
        ("length", (-1, 0, 10, (1 << 31) - 1)),
        ("magic", (-1, 0, 1, 3)),
        ("crc", (0, 1)),
        ("timestamp", (-1, 0, 1 << 62)),
        ("producer_id", (0, 1, 1 << 62)),
        ("producer_epoch", (0, 1, 32_767)),
        ("base_sequence", (0, 1, (1 << 31) - 1)),
    ):
        if rng.random() < 0.12:
            lies[name] = rng.choice(values)
    try:
        made = batch(**lies)
    except struct.error:
        return b""
    return made * rng.choice((1, 1, 1, 2))


def _damage(rng: random.Random, payload: bytearray) -> None:
    """Change some bytes, behind the API and the version more often than in them."""
    at = (
        rng.randrange(len(payload) + 1)
        if rng.random() < 0.2
        else rng.randint(min(8, len(payload)), len(payload))
    )
    match rng.randrange(7):
        case 0:
            del payload[at:]
        case 1:
            payload[at:at] = rng.randbytes(rng.randint(1, 8))
        case 2:
            payload[at : at + 4] = struct.pack(">i", rng.choice(LENGTHS))
        case 3:
            payload[at : at + 1] = rng.choice(VARINTS)
        case 4 if at < len(payload):
            payload[at] ^= 1 << rng.randrange(8)
        case 5:
            del payload[at : at + rng.randint(1, 4)]
        case _:
            payload[at : at + 2] = struct.pack(">h", rng.choice((-2, -1, 0, 1, 32_767)))
