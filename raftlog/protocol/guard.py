"""The scan that every message passes before kio reads it.

kio's native reader reserves memory for as many elements as a message claims to have, and aborts the
process when that fails; it raises on tagged fields it does not know. So each count is held against the
bytes that are left, nulls against the schema, and unknown tagged fields are cut out, as KIP-482 asks.

Invariants: what `scan` returns makes the reader allocate no more than a constant times its length (and
no more than ELEMENTS_MAX objects); no input makes it raise anything but InvalidInput.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, Final

from raftlog.errors import InvalidInput
from raftlog.protocol.api import ApiKey
from raftlog.protocol.schema import Direction, Field, Struct, message_struct

ELEMENTS_MAX: Final[dict[Direction, int]] = {"request": 20_000, "response": 1_000_000}
"""Structs and strings in arrays of one message, and numbers, some of which count as one. A string of no
characters takes one byte on the wire and fifty in memory, so a full request of those must not become
gigabytes, nor hold up the loop: a consumer of 10,000 partitions names as many, and reading, answering and
encoding twice that takes some tens of milliseconds (CVE-2026-111108 in kind). A client trusts its broker
further, which may have many partitions."""

NUMBERS_AS_ONE: Final = 4
"""A number in an array is an object of thirty bytes, and no row of a handler's."""

TAGS_MAX: Final = 64
"""Tagged fields of one struct; Kafka has four at most (CVE-2026-111115 in kind)."""

FIXED_SIZES: Final = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "float64": 8,
    "uuid": 16,
    "error_code": 2,
    "timedelta_i32": 4,
    "timedelta_i64": 8,
    "datetime_i64": 8,
}

_I16 = struct.Struct(">h").unpack_from
_I32 = struct.Struct(">i").unpack_from

# One step of a scan is (what to do, its argument, whether null is allowed).
_SKIP, _COMPACT, _STRING, _BYTES, _ARRAY, _COMPACT_ARRAY, _MAYBE_STRUCT, _TAGS = range(8)
Steps = tuple[tuple[int, Any, bool], ...]

_MalformedErrors = (IndexError, struct.error)


def scan(
    data: memoryview, position: int, api: ApiKey, version: int, direction: Direction
) -> tuple[memoryview, int]:
    """The message at `position`, fit for kio: (buffer, position in it), the same ones as a rule and new
    ones when unknown tagged fields had to be cut out. Bytes behind the message are left alone.

    Raises InvalidInput.
    """
    scanner = _Scanner(data, ELEMENTS_MAX[direction])
    try:
        end = scanner.steps(position, _message_steps(api, version, direction))
    except _MalformedErrors:
        raise InvalidInput(f"{api.name} v{version} {direction} ends in the middle of a field") from None
    if end > scanner.end:
        raise InvalidInput(f"{api.name} v{version} {direction} is {end - scanner.end} bytes short")
    if scanner.edits:
        return memoryview(scanner.edited(position, end, 0)), 0
    return data, position


def read_varint(data: memoryview | bytearray | bytes, position: int) -> tuple[int, int]:
    """An unsigned varint of at most 32 bits: (value, the position behind it). Raises InvalidInput, or
    IndexError at the end of the data."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > 0xFFFFFFFF:
                raise InvalidInput("a varint of more than 32 bits")
            return value, position
        shift += 7
        if shift > 28:
            raise InvalidInput("a varint of more than 5 bytes")


def write_varint(value: int) -> bytes:
    """An unsigned varint."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Scanner:
    """One pass over one message. `edits` are (start, end, bytes to put there), in order, disjoint."""

    __slots__ = ("budget", "data", "edits", "end")

    def __init__(self, data: memoryview, elements_max: int) -> None:
        self.data = data
        self.end = len(data)
        self.budget = elements_max
        self.edits: list[tuple[int, int, bytes]] = []

    def steps(self, position: int, steps: Steps) -> int:
        """Walk over one struct; returns the position behind it, which may lie behind the end."""
        data = self.data
        for what, argument, nullable in steps:
            if what == _SKIP:
                position += argument
            elif what == _COMPACT:
                length = data[position]
                position += 1
                if length > 0x7F:
                    length, position = read_varint(data, position - 1)
                if length:
                    position += length - 1
                elif not nullable:
                    raise InvalidInput("null where a string or bytes must be")
            elif what == _TAGS:
                if data[position]:
                    position = self.tags(position, argument)
                else:
                    position += 1
            elif what == _COMPACT_ARRAY:
                count, position = read_varint(data, position)
                position = self.elements(position, count - 1, argument, nullable)
            elif what in (_STRING, _BYTES):
                (length,) = _I16(data, position) if what == _STRING else _I32(data, position)
                position += 2 if what == _STRING else 4
                if length >= 0:
                    position += length
                elif length != -1 or not nullable:
                    raise InvalidInput(f"length {length} of a string or bytes")
            elif what == _ARRAY:
                (count,) = _I32(data, position)
                position = self.elements(position + 4, count, argument, nullable)
            else:  # a struct that may be null, behind a marker byte (KIP-893)
                marker = data[position]
                position += 1
                if marker == 1:
                    position = self.steps(position, argument)
                elif marker != 0xFF:
                    raise InvalidInput(f"marker {marker} of a struct that may be null")
        return position

    def elements(self, position: int, count: int, element: _Element, nullable: bool) -> int:
        if count <= 0:
            if count == 0 or (count == -1 and nullable):
                return position
            raise InvalidInput(f"{count} elements in an array")
        if count * element.size_min > self.end - position:
            raise InvalidInput(f"{count} elements in an array, {self.end - position} bytes left")
        self.budget -= count // NUMBERS_AS_ONE if element.is_number else count
        if self.budget < 0:
            raise InvalidInput("more elements in a message than anybody needs")
        if element.steps is None:
            return position + count * element.size_min
        steps, walk = element.steps, self.steps
        for _ in range(count):
            position = walk(position, steps)
        return position

    def tags(self, start: int, known: dict[int, Steps]) -> int:
        """Walk over a struct's tagged fields; where there are unknown ones, note how to do without them."""
        data, first_edit = self.data, len(self.edits)
        count, position = read_varint(data, start)
        if count > TAGS_MAX:
            raise InvalidInput(f"{count} tagged fields in a struct")
        kept: list[bytes] = []
        last, changed = -1, False
        for _ in range(count):
            tag, position = read_varint(data, position)
            size, position = read_varint(data, position)
            if tag <= last:
                raise InvalidInput(f"tagged field {tag} behind {last}")
            if size > self.end - position:
                raise InvalidInput(f"tagged field of {size} bytes, {self.end - position} left")
            last = tag
            if tag in known:
                edits_before = len(self.edits)
                if self.steps(position, known[tag]) != position + size:
                    raise InvalidInput(f"tagged field {tag} is not of the {size} bytes that it says")
                changed = changed or len(self.edits) > edits_before
                value = self.edited(position, position + size, edits_before)
                kept.append(write_varint(tag) + write_varint(len(value)) + value)
            else:
                changed = True
            position += size
        if changed:
            del self.edits[first_edit:]
            self.edits.append((start, position, write_varint(len(kept)) + b"".join(kept)))
        return position

    def edited(self, start: int, end: int, first_edit: int) -> bytes:
        """The bytes from `start` to `end` with the edits from `first_edit` on made."""
        parts: list[bytes | memoryview] = []
        for edit_start, edit_end, replacement in self.edits[first_edit:]:
            parts += (self.data[start:edit_start], replacement)
            start = edit_end
        parts.append(self.data[start:end])
        return b"".join(parts)


class _Element:
    """An array's element: the fewest bytes it takes, and how to walk over it (None: all are that long)."""

    __slots__ = ("is_number", "size_min", "steps")

    def __init__(self, size_min: int, steps: Steps | None, is_number: bool) -> None:
        self.size_min = size_min
        self.steps = steps
        self.is_number = is_number


def prepare_to_scan(api: ApiKey, version: int, direction: Direction) -> None:
    """Do now what the first message would have to wait for."""
    _message_steps(api, version, direction)


@cache
def _message_steps(api: int, version: int, direction: Direction) -> Steps:
    return _struct_steps(message_struct(api, version, direction))


def _struct_steps(layout: Struct) -> Steps:
    """The steps over a struct; neighbours of fixed size are one."""
    steps: list[tuple[int, Any, bool]] = []
    for field in layout.fields:
        step = _field_step(field, layout.flexible)
        for one in step:
            if one[0] == _SKIP and steps and steps[-1][0] == _SKIP:
                steps[-1] = (_SKIP, steps[-1][1] + one[1], False)
            else:
                steps.append(one)
    if layout.flexible:
        steps.append((_TAGS, {tag: _field_step(field, True) for tag, field in layout.tagged.items()}, False))
    return tuple(steps)


def _field_step(field: Field, flexible: bool) -> Steps:
    if field.array:
        steps = _value_steps(field, flexible, nullable=False)
        fixed = len(steps) == 1 and steps[0][0] == _SKIP
        is_number = fixed and field.struct is None
        element = _Element(max(1, _size_min(steps)), None if fixed else steps, is_number)
        return ((_COMPACT_ARRAY if flexible else _ARRAY, element, field.nullable),)
    if field.struct and field.nullable and field.tag is None:
        return ((_MAYBE_STRUCT, _struct_steps(field.struct), True),)
    return _value_steps(field, flexible, field.nullable)


def _value_steps(field: Field, flexible: bool, nullable: bool) -> Steps:
    if field.struct:
        return _struct_steps(field.struct)
    if field.kind in FIXED_SIZES:
        return ((_SKIP, FIXED_SIZES[field.kind], False),)
    if flexible:
        return ((_COMPACT, None, nullable),)
    return ((_STRING if field.kind == "string" else _BYTES, None, nullable),)


def _size_min(steps: Steps) -> int:
    """The fewest bytes that the steps can go over."""
    sizes = {_COMPACT: 1, _STRING: 2, _BYTES: 4, _ARRAY: 4, _COMPACT_ARRAY: 1, _MAYBE_STRUCT: 1, _TAGS: 1}
    return sum(argument if what == _SKIP else sizes[what] for what, argument, _ in steps)
