"""Frozen dataclasses to plain CBOR values and back, strictly.

The field annotations are the schema: int, str, bytes, bool, `X | None`, `tuple[X, ...]`,
`tuple[X, Y]`, `Mapping[K, V]` and other dataclasses. A keyword-only dataclass becomes a map by field
name, so that it can grow fields with defaults; a positional one becomes an array, for what there are
many of. Maps are written in key order: equal values are equal bytes, on every broker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from io import BytesIO
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

import cbor2

from raftlog.errors import InvalidInput

T = TypeVar("T")
_Read = Callable[[Any], Any]

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
"""What fits the widest integer of the Kafka protocol: nothing else could be told to a client."""


def load(data: bytes | bytearray | memoryview, bytes_max: int) -> object:
    """The one CBOR item that `data` holds; raises InvalidInput on less, more, or anything else."""
    if len(data) > bytes_max:
        raise InvalidInput(f"{len(data)} bytes of CBOR, {bytes_max} are allowed")
    stream = BytesIO(data)
    try:
        value = cbor2.CBORDecoder(stream).decode()
    except Exception as error:  # tags decode to dates, patterns, fractions…: each fails in its own way
        raise InvalidInput(f"not CBOR: {error}") from error
    if stream.tell() != len(data):
        raise InvalidInput(f"{len(data) - stream.tell()} bytes follow the CBOR item")
    return cast(object, value)


def to_plain(value: object) -> object:
    """`value` in the types that CBOR knows."""
    if value is None or isinstance(value, str | bytes | int):  # a bool is an int
        return value
    if isinstance(value, tuple | list):  # a NamedTuple is a row
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(value[key]) for key in sorted(value)}
    cls: Any = type(value)
    values = [(name, getattr(value, name)) for name in _field_names(cls)]
    if not _is_map(cls):
        return [to_plain(item) for _, item in values]
    defaults = _defaults(cls)
    return {name: to_plain(item) for name, item in values if name not in defaults or item != defaults[name]}


def array_of(items: Sequence[bytes]) -> list[bytes]:
    """The pieces of the CBOR array of items that are encoded already."""
    return [array_head(len(items)), *items]


def array_head(count: int) -> bytes:
    """What CBOR begins an array of `count` items with."""
    if count < 24:
        return bytes((0x80 | count,))
    for code, size in ((0x98, 1), (0x99, 2), (0x9A, 4)):
        if count < 1 << 8 * size:
            return bytes((code,)) + count.to_bytes(size, "big")
    raise ValueError(f"an array of {count} items")


def from_plain(cls: type[T], plain: object) -> T:
    """The `cls` that `plain` describes; raises InvalidInput that says what does not fit."""
    return cast(T, _reader(cast(Any, cls))(plain))


def from_plain_as(annotation: Any, plain: object) -> Any:
    """As `from_plain`, for what is no class of its own."""
    return _reader(annotation)(plain)


def unknown_fields(cls: type[Any], plain: Mapping[object, object]) -> str:
    """The first field in `plain`, if any, that `cls` does not have."""
    return min(map(repr, plain.keys() - set(_field_names(cast(Any, cls)))), default="")


@cache
def _field_names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))


@cache
def _defaults(cls: type[Any]) -> dict[str, object]:
    """What a field says by not being there. A build that does not have a new field yet reads what others
    write as long as nobody uses it."""
    return {field.name: field.default for field in fields(cls) if field.default is not MISSING}


@cache
def _is_map(cls: type[Any]) -> bool:
    return all(field.kw_only for field in fields(cls))


@cache
def _reader(annotation: Any) -> _Read:
    """A function that checks and rebuilds a value of this annotation."""
    while hasattr(annotation, "__supertype__"):  # a NewType
        annotation = annotation.__supertype__
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is int:
        return _int
    if annotation in (str, bytes, bool):
        return _scalar(annotation)
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_make"):
        return _named_row(annotation)
    if origin is UnionType and args[1] is NoneType:
        return _optional(_reader(args[0]))
    if origin is tuple and args[1] is Ellipsis:
        return _sequence(_reader(args[0]))
    if origin is tuple:
        return _row("pair", tuple(map(_reader, args)), tuple)
    if origin is Mapping:
        return _mapping(_reader(args[0]), _reader(args[1]))
    assert is_dataclass(annotation), f"no CBOR form for {annotation}"
    return _dataclass(annotation)


def _dataclass(cls: Any) -> _Read:
    hints = get_type_hints(cls)
    readers = {name: _reader(hints[name]) for name in _field_names(cls)}
    if not _is_map(cls):
        return _row(cls.__name__, tuple(readers.values()), lambda values: cls(*values))
    required = frozenset(
        field.name for field in fields(cls) if field.default is MISSING and field.default_factory is MISSING
    )
    return _record(cls, readers, required)


def _wrong(wanted: str, got: object) -> InvalidInput:
    return InvalidInput(f"expected {wanted}, got {type(got).__name__} {repr(got)[:60]}")


def _scalar(cls: type) -> _Read:
    def read(plain: object) -> object:
        if type(plain) is not cls:  # not isinstance: True is not 1 here
            raise _wrong(cls.__name__, plain)
        return plain

    return read


def _int(plain: object) -> object:
    if type(plain) is not int:
        raise _wrong("int", plain)
    if not INT_MIN <= plain <= INT_MAX:
        raise InvalidInput("a number of more than 64 bits")
    return plain


def _named_row(cls: Any) -> _Read:
    """Of a NamedTuple, made for many: one comparison of the types, and a look into what is not plain."""
    hints = get_type_hints(cls)
    annotations = tuple(hints[name] for name in cls._fields)
    slow = _row(cls.__name__, tuple(map(_reader, annotations)), cls._make)
    nested = [
        (at, _reader(kind))
        for at, kind in enumerate(annotations)
        if get_origin(kind) is tuple and get_args(kind)[1] is Ellipsis
    ]
    types = list(annotations)
    for at, _ in nested:
        types[at] = list
    if any(kind not in (int, str, list) for kind in types):
        return slow
    ints = [at for at, kind in enumerate(types) if kind is int]
    make = cls._make

    def read(plain: object) -> object:
        if type(plain) is list and list(map(type, plain)) == types:
            for at in ints:
                if not INT_MIN <= plain[at] <= INT_MAX:
                    break
            else:
                for at, item in nested:
                    plain[at] = item(plain[at])
                return make(plain)
        return slow(plain)

    return read


def _optional(item: _Read) -> _Read:
    return lambda plain: None if plain is None else item(plain)


def _sequence(item: _Read) -> _Read:
    def read(plain: object) -> tuple[object, ...]:
        if type(plain) is not list:
            raise _wrong("an array", plain)
        return tuple(map(item, plain))

    return read


def _row(name: str, items: tuple[_Read, ...], build: Callable[[list[object]], object]) -> _Read:
    def read(plain: object) -> object:
        if type(plain) is not list or len(plain) != len(items):
            raise _wrong(f"{name} as an array of {len(items)}", plain)
        return build([item(value) for item, value in zip(items, plain, strict=True)])

    return read


def _mapping(key: _Read, item: _Read) -> _Read:
    def read(plain: object) -> dict[object, object]:
        if type(plain) is not dict:
            raise _wrong("a map", plain)
        return {key(name): item(value) for name, value in plain.items()}

    return read


def _record(cls: Any, readers: dict[str, _Read], required: frozenset[str]) -> _Read:
    def read(plain: object) -> object:
        if type(plain) is not dict:
            raise _wrong(f"{cls.__name__} as a map", plain)
        if unknown := plain.keys() - readers.keys():
            raise InvalidInput(f"{cls.__name__} has no field {sorted(map(repr, unknown))[0]}")
        if missing := required - plain.keys():
            raise InvalidInput(f"{cls.__name__} lacks {min(missing)}")
        return cls(**{name: readers[name](value) for name, value in plain.items()})

    return read
