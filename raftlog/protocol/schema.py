"""The seam to kio: message classes, readers, and what a version's fields are.

Decides how a message of one (API, version) is laid out, by reading kio's generated dataclasses once.
Nothing outside this package sees kio, and nothing is imported before the first message of its version:
each is a module of its own and costs milliseconds.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import sys
import types
import typing
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, Literal

from raftlog.errors import InvalidInput
from raftlog.protocol import expected_offset
from raftlog.protocol.api import VERSIONS, ApiKey

Direction = Literal["request", "response"]
Reader = Callable[[memoryview, int], tuple[Any, int]]

REQUIRED: Final = object()
"""The default of a field that has none: leaving it out is an error of ours."""

ZERO_UUID: Final = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field, as it lies on the wire. `struct` is set when the field is, or is an array of, structs."""

    name: str
    kind: str
    array: bool
    nullable: bool
    struct: Struct | None
    tag: int | None
    default: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Struct:
    """The fields of a struct in wire order, and its tagged fields by tag."""

    name: str
    flexible: bool
    fields: tuple[Field, ...]
    tagged: dict[int, Field]


@cache
def message_class(api: int, version: int, direction: Direction) -> type[Any]:
    """kio's dataclass of a message. Raises InvalidInput when there is no such version."""
    versions = VERSIONS[ApiKey(api)]
    if not versions.first <= version <= versions.last:
        raise InvalidInput(f"{ApiKey(api).name} has no version {version}")
    package = f"kio.schema.{ApiKey(api).name.lower()}.v{version}"
    with _WithoutHypothesis():
        module = importlib.import_module(f"{package}.{direction}")
        names = importlib.import_module(package).__all__
    found: type[Any] = next(getattr(module, name) for name in names if name.lower().endswith(direction))
    _correct(api, found)
    return found


def _correct(api: int, cls: type[Any]) -> None:
    """Where kio 0.6 knows less than Kafka says: outside of a transaction there is no time of its start."""
    if api == ApiKey.DESCRIBE_TRANSACTIONS:
        for field in dataclasses.fields(cls):
            if field.name == "transaction_states":
                _correct(api, struct_class(field))
            if field.name == "transaction_start_time" and not _without_none(field.type)[1]:
                cls.__annotations__[field.name] = field.type = typing.cast(Any, field.type) | None


@cache
def reader(api: int, version: int, direction: Direction) -> Reader:
    """kio's native reader of a message: `(read-only buffer, position) -> (message, size)`.

    It trusts counts: only what `guard` has passed may be given to it.
    """
    message = message_class(api, version, direction)
    with _WithoutHypothesis():
        from kio._kio_native import entity_reader

        found: Reader = entity_reader(message)
    return found


@cache
def message_struct(api: int, version: int, direction: Direction) -> Struct:
    """The layout of a message."""
    return _describe(message_class(api, version, direction))


@cache
def written_struct(api: int, version: int, direction: Direction) -> Struct:
    """The layout of a message as it is written here: with the fields that Kafka does not have."""
    layout = message_struct(api, version, direction)
    if api != ApiKey.PRODUCE or direction != "request" or not layout.flexible:
        return layout
    topics = layout.fields[-1]
    assert topics.struct is not None
    partitions = topics.struct.fields[-1]
    assert partitions.struct is not None
    own = Field(
        name=expected_offset.FIELD,
        kind="int64",
        array=False,
        nullable=False,
        struct=None,
        tag=expected_offset.TAG,
        default=expected_offset.NOT_GIVEN,
    )
    partition = replace(partitions.struct, tagged={**partitions.struct.tagged, expected_offset.TAG: own})
    topic = replace(topics.struct, fields=(*topics.struct.fields[:-1], replace(partitions, struct=partition)))
    return replace(layout, fields=(*layout.fields[:-1], replace(topics, struct=topic)))


def _describe(cls: type[Any]) -> Struct:
    fields = [_describe_field(field) for field in dataclasses.fields(cls)]
    return Struct(
        name=cls.__name__,
        flexible=cls.__flexible__,
        fields=tuple(field for field in fields if field.tag is None),
        tagged={
            field.tag: field for field in sorted(fields, key=lambda f: f.tag or 0) if field.tag is not None
        },
    )


def _describe_field(field: dataclasses.Field[Any]) -> Field:
    inner, nullable = _without_none(field.type)
    array = typing.get_origin(inner) is tuple
    if array:
        inner, _ = _without_none(typing.get_args(inner)[0])
    struct = _describe(inner) if dataclasses.is_dataclass(inner) and isinstance(inner, type) else None
    return Field(
        name=field.name,
        kind="struct" if struct else field.metadata["kafka_type"],
        array=array,
        nullable=nullable,
        struct=struct,
        tag=field.metadata.get("tag"),
        default=_default(field),
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return _plain(field.default)
    return 0 if field.name == "throttle_time" else REQUIRED  # nothing here throttles


def struct_class(field: dataclasses.Field[Any]) -> type[Any]:
    """The dataclass of a field that is a struct, or an array of structs, or null."""
    inner, _ = _without_none(field.type)
    if typing.get_origin(inner) is tuple:
        inner, _ = _without_none(typing.get_args(inner)[0])
    assert isinstance(inner, type) and dataclasses.is_dataclass(inner), field
    return inner


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        (inner,) = (one for one in typing.get_args(annotation) if one is not type(None))
        return inner, True
    return annotation, False


def _plain(value: Any) -> Any:
    """A default as callers write it: milliseconds for times, bytes for ids."""
    match value:
        case datetime.timedelta():
            return milliseconds(value)
        case datetime.datetime():
            return timestamp_ms(value)
        case uuid.UUID():
            return value.bytes
        case _:
            return value


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)


def milliseconds(value: datetime.timedelta) -> int:
    """A duration of a message that was read, as it was on the wire."""
    return value // _MILLISECOND


def patience_s(timeout: datetime.timedelta) -> float:
    """How many seconds a request is willing to wait; one that says less than none does not wait."""
    return max(0, milliseconds(timeout)) / 1000


def timestamp_ms(value: datetime.datetime | None) -> int:
    """A point in time of a message that was read, as it was on the wire; -1 for none."""
    return -1 if value is None else (value - _EPOCH) // _MILLISECOND


def uuid_bytes(value: uuid.UUID | None) -> bytes:
    """The 16 bytes of an id of a message that was read; zeros for none."""
    return ZERO_UUID if value is None else value.bytes


class _WithoutHypothesis:
    """kio imports hypothesis when it is installed, which takes 0.4 s; nothing here needs it to."""

    def __enter__(self) -> None:
        self._hidden = "hypothesis" not in sys.modules
        if self._hidden:
            sys.modules["hypothesis"] = None  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        if self._hidden:
            sys.modules.pop("hypothesis", None)
