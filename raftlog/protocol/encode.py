"""Writes a message from plain values: one superset of fields, of which each version takes its own.

Structs are mappings, arrays are sequences, ids are 16 bytes, times are milliseconds, errors are numbers.
A name that a version does not have is left out, so that callers are written once, against the newest
version; a field without a default must be there. Large byte strings are kept by reference. A struct in an
array may be given as bytes that `encode_element` made before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final
from uuid import UUID

from raftlog.protocol.api import ApiKey
from raftlog.protocol.guard import write_varint
from raftlog.protocol.schema import (
    REQUIRED,
    ZERO_UUID,
    Direction,
    Field,
    Struct,
    message_struct,
    written_struct,
)

Buffer = bytes | bytearray | memoryview
Fields = Mapping[str, object]
_Pieces = list[Buffer]
_Write = Callable[[_Pieces, Any], None]

BY_REFERENCE_MIN: Final = 4096
"""Bytes from which a value is a chunk of its own in the gather list; below, a copy is cheaper."""

_FORMATS: Final = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float64": "d",
    "uuid": "16s",
    "error_code": "h",
    "timedelta_i32": "i",
    "timedelta_i64": "q",
    "datetime_i64": "q",
}

_I16 = struct.Struct(">h").pack
_I32 = struct.Struct(">i").pack
_SMALL_VARINTS: Final = tuple(bytes((value,)) for value in range(0x80))


def encode(api: ApiKey, version: int, direction: Direction, fields: Fields) -> _Pieces:
    """The message's bytes in pieces, without a header. Raises KeyError naming a field that is missing,
    and struct.error for a number out of its range."""
    pieces: _Pieces = []
    _message_writer(api, version, direction)(pieces, fields)
    return pieces


def encode_element(api: ApiKey, version: int, direction: Direction, array: str, fields: Fields) -> bytes:
    """One struct of an array of the message: what is asked for often is encoded once."""
    pieces: _Pieces = []
    _element_writer(api, version, direction, array)(pieces, fields)
    return b"".join(pieces)


def gather(pieces: Iterable[Buffer]) -> _Pieces:
    """The pieces with runs of small ones joined: what goes to `sendmsg`."""
    chunks: _Pieces = []
    small: _Pieces = []
    for piece in pieces:
        if len(piece) < BY_REFERENCE_MIN:
            small.append(piece)
        else:
            if small:
                chunks.append(b"".join(small))
                small = []
            chunks.append(piece)
    if small:
        chunks.append(b"".join(small))
    return chunks


def _varint(value: int) -> bytes:
    return _SMALL_VARINTS[value] if value < 0x80 else write_varint(value)


@cache
def _blank(api: int, version: int) -> dict[str, object]:
    fields = message_struct(api, version, "response").fields
    return {field.name: _nothing(field) for field in fields if field.default is REQUIRED}


def blank_response(api: ApiKey, version: int) -> dict[str, object]:
    """A response whose fields say nothing: no rows, no text, 0. For one that is only an error."""
    return dict(_blank(api, version))


def _nothing(field: Field) -> object:
    if field.array:
        return ()
    if field.nullable:
        return None
    return {"string": "", "bytes": b"", "records": b"", "uuid": ZERO_UUID}.get(field.kind, 0)


def prepare_to_encode(api: ApiKey, version: int, direction: Direction) -> None:
    """Do now what the first message would have to wait for."""
    _message_writer(api, version, direction)


@cache
def _message_writer(api: int, version: int, direction: Direction) -> _Write:
    return _struct_writer(written_struct(api, version, direction))


@cache
def _element_writer(api: int, version: int, direction: Direction, array: str) -> _Write:
    layout = message_struct(api, version, direction)
    (inner,) = (field.struct for field in layout.fields if field.name == array)
    assert inner is not None, array
    return _struct_writer(inner)


def _struct_writer(layout: Struct) -> _Write:
    """Writes a mapping; neighbours of fixed size are packed at once."""
    parts: list[_Write] = []
    run: list[Field] = []
    for field in layout.fields:
        if field.kind in _FORMATS and not field.array:
            run.append(field)
            continue
        if run:
            parts.append(_run_writer(run))
            run = []
        parts.append(_named_writer(field, layout.flexible))
    if run:
        parts.append(_run_writer(run))
    if layout.flexible:
        parts.append(_tags_writer(layout.tagged) if layout.tagged else _write_no_tags)

    def write(pieces: _Pieces, value: Any) -> None:
        for part in parts:
            part(pieces, value)

    return write


def _write_no_tags(pieces: _Pieces, value: Any) -> None:
    pieces.append(b"\0")


def _run_writer(fields: list[Field]) -> _Write:
    pack = struct.Struct(">" + "".join(_FORMATS[field.kind] for field in fields)).pack
    names = [(field.name, field.default) for field in fields]
    ids_or_times = {"uuid", "datetime_i64"}
    if ids_or_times.isdisjoint(field.kind for field in fields):

        def write(pieces: _Pieces, value: Any) -> None:
            pieces.append(
                pack(*[value[n] if default is REQUIRED else value.get(n, default) for n, default in names])
            )
    else:
        kinds = [(field.name, field.default, field.kind == "uuid") for field in fields]

        def write(pieces: _Pieces, value: Any) -> None:
            plain = [
                _fixed(value[n] if default is REQUIRED else value.get(n, default), is_id)
                for n, default, is_id in kinds
            ]
            pieces.append(pack(*plain))

    return write


def _fixed(value: Any, is_id: bool) -> Any:
    """A number or 16 bytes; None is what no time and no id are on the wire."""
    if value is None:
        return ZERO_UUID if is_id else -1
    return value.bytes if is_id and isinstance(value, UUID) else value


def _named_writer(field: Field, flexible: bool) -> _Write:
    write_value = _value_writer(field, flexible)
    name, default = field.name, field.default

    def write(pieces: _Pieces, value: Any) -> None:
        write_value(pieces, value[name] if default is REQUIRED else value.get(name, default))

    return write


def _tags_writer(tagged: dict[int, Field]) -> _Write:
    writers = [(tag, field, _value_writer(field, True, tag=True)) for tag, field in tagged.items()]

    def write(pieces: _Pieces, value: Any) -> None:
        written: _Pieces = []
        count = 0
        for tag, field, write_value in writers:
            given = value.get(field.name, field.default)
            if (tuple(given) if field.array and given is not None else given) != field.default:
                one: _Pieces = []
                write_value(one, given)
                content = b"".join(one)
                written += (_varint(tag), _varint(len(content)), content)
                count += 1
        pieces.append(_varint(count))
        pieces += written

    return write


def _value_writer(field: Field, flexible: bool, *, tag: bool = False) -> _Write:
    if field.array:
        return _array_writer(field, flexible)
    if field.struct:
        write_struct = _struct_writer(field.struct)
        return _maybe_struct_writer(write_struct) if field.nullable and not tag else write_struct
    if field.kind in _FORMATS:
        pack, is_id = struct.Struct(">" + _FORMATS[field.kind]).pack, field.kind == "uuid"
        return lambda pieces, value: pieces.append(pack(_fixed(value, is_id)))
    return _bytes_writer(field, flexible)


def _array_writer(field: Field, flexible: bool) -> _Write:
    if field.kind in _FORMATS and field.kind != "uuid":
        write_elements = _numbers_writer(_FORMATS[field.kind])
    else:
        element = Field(
            name=field.name,
            kind=field.kind,
            array=False,
            nullable=False,
            struct=field.struct,
            tag=None,
            default=REQUIRED,
        )
        write_element = _value_writer(element, flexible)

        def write_elements(pieces: _Pieces, value: Any) -> None:
            for one in value:
                if type(one) is bytes and field.struct:
                    pieces.append(one)
                else:
                    write_element(pieces, one)

    def write(pieces: _Pieces, value: Any) -> None:
        if value is None:
            if not field.nullable:
                raise KeyError(field.name)
            pieces.append(b"\0" if flexible else b"\xff\xff\xff\xff")
            return
        pieces.append(_varint(len(value) + 1) if flexible else _I32(len(value)))
        if value:
            write_elements(pieces, value)

    return write


def _numbers_writer(letter: str) -> _Write:
    few = [struct.Struct(f">{count}{letter}").pack for count in range(8)]

    def write(pieces: _Pieces, value: Any) -> None:
        count = len(value)
        pieces.append(few[count](*value) if count < 8 else struct.pack(f">{count}{letter}", *value))

    return write


def _maybe_struct_writer(write_struct: _Write) -> _Write:
    def write(pieces: _Pieces, value: Any) -> None:
        if value is None:
            pieces.append(b"\xff")
        else:
            pieces.append(b"\x01")
            write_struct(pieces, value)

    return write


def _bytes_writer(field: Field, flexible: bool) -> _Write:
    """Strings and bytes. None in a version that has no null there is empty (JoinGroup before v7)."""
    pack_length = _I16 if field.kind == "string" else _I32
    null = b"\0" if flexible else pack_length(-1)

    def write(pieces: _Pieces, value: Any) -> None:
        if value is None:
            if field.nullable:
                pieces.append(null)
                return
            value = b""
        data = value.encode() if isinstance(value, str) else value
        pieces.append(_varint(len(data) + 1) if flexible else pack_length(len(data)))
        pieces.append(data)

    return write
