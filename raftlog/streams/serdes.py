"""How keys and values become bytes, and come back.

A serde is a pair of functions with a name; the name is shown by `raftlog streams describe`. State and
repartition topics are written with the user's serdes, so that other programs can read them. Nothing is
pickled.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple


class Serde(NamedTuple):
    """Two functions: `encode` from a value to bytes, `decode` back. Neither ever sees None."""

    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    def __repr__(self) -> str:
        return f"<Serde {self.name}>"


def _bytes(value: bytes) -> bytes:
    if type(value) is not bytes:
        raise TypeError(
            f"{type(value).__name__} given where bytes are expected: name a serde, such as rs.JSON"
        )
    return value


def _text(value: str) -> bytes:
    if type(value) is not str:
        raise TypeError(f"{type(value).__name__} given where text is expected: name a serde, such as rs.INT")
    return value.encode()


def _encoder() -> Callable[[Any], str]:
    """What JSONEncoder.encode does, which makes its encoder in C anew for each value: half of what a small
    object costs."""
    plain = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    text = json.encoder.encode_basestring
    pieces = make(None, plain.default, text, None, ":", ",", False, False, False)
    join = "".join
    return lambda value: join(pieces(value, 0))


_to_json: Final = _encoder()


def _json(value: Any) -> bytes:
    return b"%d" % value if type(value) is int else _to_json(value).encode()  # counts are most of it


_INT64: Final = struct.Struct(">q")
_FLOAT64: Final = struct.Struct(">d")

BYTES: Final = Serde("bytes", _bytes, bytes)
"""Bytes as they are."""
TEXT: Final = Serde("text", _text, bytes.decode)
"""UTF-8."""
JSON: Final = Serde("json", _json, json.loads)
"""JSON without spaces. NaN and infinity are refused: others could not read them."""
INT: Final = Serde("int64", _INT64.pack, lambda data: _INT64.unpack(data)[0])
"""Eight bytes, big endian: Kafka's LongSerializer."""
FLOAT: Final = Serde("float64", _FLOAT64.pack, lambda data: _FLOAT64.unpack(data)[0])
"""Eight bytes, big endian: Kafka's DoubleSerializer."""


def dataclass(kind: type[Any]) -> Serde:
    """A dataclass as a JSON object with a member a field. Fields that are missing take their defaults;
    members that the class does not have are left out."""
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind!r} is no dataclass")
    names = {field.name for field in dataclasses.fields(kind)}

    def encode(value: Any) -> bytes:
        if type(value) is not kind:
            raise TypeError(f"{type(value).__name__} given where {kind.__name__} is expected")
        return JSON.encode(dataclasses.asdict(value))

    def decode(data: bytes) -> Any:
        return kind(**{name: value for name, value in json.loads(data).items() if name in names})

    return Serde(kind.__name__, encode, decode)
