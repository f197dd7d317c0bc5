"""A FileDescriptorProto as a `.proto` file: the same messages, in the order that they have there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import text_encoding, unknown_fields
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

INDENT: Final = "  "
NUMBER_MAX: Final = 1 << 29
"""Behind the last number of a field: what `max` means in a range."""
ENUM_MAX: Final = (1 << 31) - 1
LABELS: Final = {
    FieldDescriptorProto.LABEL_OPTIONAL: "optional ",
    FieldDescriptorProto.LABEL_REQUIRED: "required ",
    FieldDescriptorProto.LABEL_REPEATED: "repeated ",
}


class CannotPrint(Exception):
    """It holds something whose name is not in it, or for which new files have no words."""


def camel_case(name: str) -> str:
    """The name that a field has in JSON unless it says another."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def print_file(file: FileDescriptorProto) -> str:
    """Raises CannotPrint."""
    return "\n".join(_file(file)) + "\n"


def _file(file: FileDescriptorProto) -> Iterator[str]:
    if file.syntax == "editions":
        raise CannotPrint("editions")
    yield f'syntax = "{file.syntax or "proto2"}";'
    if file.package:
        yield f"package {file.package};"
    if file.dependency:
        yield ""
    for number, name in enumerate(file.dependency):
        kind = (
            "public "
            if number in file.public_dependency
            else "weak "
            if number in file.weak_dependency
            else ""
        )
        yield f"import {kind}{quoted(name)};"
    options = list(_options(file.options))
    if options:
        yield ""
    yield from (f"option {one};" for one in options)
    for message in file.message_type:
        yield ""
        yield from _message(message, file, "", f".{file.package}" if file.package else "")
    for enum in file.enum_type:
        yield ""
        yield from _enum(enum, "")
    for extension in file.extension:
        yield ""
        yield from _extend(extension, file, "")
    for service in file.service:
        yield ""
        yield from _service(service)


def _message(message: Any, file: FileDescriptorProto, space: str, scope: str) -> Iterator[str]:
    inner, name = space + INDENT, f"{scope}.{message.name}"
    yield f"{space}message {message.name} {{"
    yield from (f"{inner}option {one};" for one in _options(message.options))
    yield from _reserved(message, inner, last=NUMBER_MAX, behind=1)
    for one in message.extension_range:
        if one.HasField("options"):
            raise CannotPrint("options of an extension range")
        yield f"{inner}extensions {_range(one.start, one.end - 1, NUMBER_MAX - 1)};"
    maps = {f"{name}.{one.name}": one for one in message.nested_type if one.options.map_entry}
    printed: set[int] = set()
    for field in message.field:
        if field.HasField("oneof_index") and not field.proto3_optional:
            if field.oneof_index not in printed:
                printed.add(field.oneof_index)
                yield from _oneof(message, field.oneof_index, file, inner)
        else:
            yield inner + _field(field, file, maps.get(field.type_name))
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from _message(nested, file, inner, name)
    for enum in message.enum_type:
        yield from _enum(enum, inner)
    for extension in message.extension:
        yield from _extend(extension, file, inner)
    yield f"{space}}}"


def _oneof(message: Any, index: int, file: FileDescriptorProto, space: str) -> Iterator[str]:
    yield f"{space}oneof {message.oneof_decl[index].name} {{"
    yield from (f"{space}{INDENT}option {one};" for one in _options(message.oneof_decl[index].options))
    for field in message.field:
        if field.HasField("oneof_index") and field.oneof_index == index:
            yield space + INDENT + _field(field, file, None, label="")
    yield f"{space}}}"


def _field(field: Any, file: FileDescriptorProto, entry: Any, label: str | None = None) -> str:
    if field.type == FieldDescriptorProto.TYPE_GROUP:
        raise CannotPrint("a group")
    if entry is not None:
        key, value = sorted(entry.field, key=lambda one: one.number)
        kind, label = f"map<{_type(key)}, {_type(value)}>", ""
    else:
        kind = _type(field)
    if label is None:
        label = LABELS[field.label]
        is_plain = field.label == FieldDescriptorProto.LABEL_OPTIONAL and not field.proto3_optional
        if file.syntax == "proto3" and is_plain:
            label = ""
    said = list(_options(field.options))
    if field.HasField("default_value"):
        said.insert(0, f"default = {_default(field)}")
    if field.json_name and field.json_name != camel_case(field.name):
        said.insert(0, f"json_name = {quoted(field.json_name)}")
    options = f" [{', '.join(said)}]" if said else ""
    return f"{label}{kind} {field.name} = {field.number}{options};"


def _type(field: Any) -> str:
    return str(field.type_name) or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _default(field: Any) -> str:
    if field.type == FieldDescriptorProto.TYPE_STRING:
        return quoted(field.default_value)
    if field.type == FieldDescriptorProto.TYPE_BYTES:
        return f'"{field.default_value}"'  # it is escaped already
    return str(field.default_value)


def _enum(enum: Any, space: str) -> Iterator[str]:
    inner = space + INDENT
    yield f"{space}enum {enum.name} {{"
    yield from (f"{inner}option {one};" for one in _options(enum.options))
    yield from _reserved(enum, inner, last=ENUM_MAX, behind=0)
    for value in enum.value:
        said = ", ".join(_options(value.options))
        yield f"{inner}{value.name} = {value.number}{f' [{said}]' if said else ''};"
    yield f"{space}}}"


def _reserved(one: Any, space: str, *, last: int, behind: int) -> Iterator[str]:
    if one.reserved_range:
        ranges = (_range(each.start, each.end - behind, last - behind) for each in one.reserved_range)
        yield f"{space}reserved {', '.join(ranges)};"
    if one.reserved_name:
        yield f"{space}reserved {', '.join(map(quoted, one.reserved_name))};"


def _range(start: int, end: int, last: int) -> str:
    return str(start) if start == end else f"{start} to {'max' if end == last else end}"


def _extend(extension: Any, file: FileDescriptorProto, space: str) -> Iterator[str]:
    yield f"{space}extend {extension.extendee} {{"
    yield space + INDENT + _field(extension, file, None)
    yield f"{space}}}"


def _service(service: Any) -> Iterator[str]:
    yield f"service {service.name} {{"
    yield from (f"{INDENT}option {one};" for one in _options(service.options))
    for method in service.method:
        takes = f"{'stream ' if method.client_streaming else ''}{method.input_type}"
        gives = f"{'stream ' if method.server_streaming else ''}{method.output_type}"
        options = list(_options(method.options))
        body = " {" + "".join(f" option {one};" for one in options) + " }" if options else ";"
        yield f"{INDENT}rpc {method.name} ({takes}) returns ({gives}){body}"
    yield "}"


def _options(options: Any) -> Iterator[str]:
    if len(unknown_fields.UnknownFieldSet(options)):
        raise CannotPrint("options of the user's own")
    for field, value in options.ListFields():
        if field.name == "map_entry":
            continue
        for one in value if field.is_repeated else [value]:
            if field.message_type is not None:
                raise CannotPrint(field.name)
            if field.enum_type is not None:
                said = field.enum_type.values_by_number[one].name
            else:
                said = quoted(one) if isinstance(one, str) else str(one).lower()
            yield f"{field.name} = {said}"


def quoted(text: str) -> str:
    return f'"{text_encoding.CEscape(text, as_utf8=True)}"'
