"""Whether one Protobuf file reads what another wrote: by the wire format, as protobuf.dev says in "Updating a
message type". Names of fields may change, numbers and how they are written may not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto

SAME_ON_THE_WIRE: Final = (
    {
        Field.TYPE_INT32,
        Field.TYPE_UINT32,
        Field.TYPE_INT64,
        Field.TYPE_UINT64,
        Field.TYPE_BOOL,
        Field.TYPE_ENUM,
    },
    {Field.TYPE_SINT32, Field.TYPE_SINT64},
    {Field.TYPE_STRING, Field.TYPE_BYTES},
    {Field.TYPE_FIXED32, Field.TYPE_SFIXED32},
    {Field.TYPE_FIXED64, Field.TYPE_SFIXED64},
)
WITH_A_LENGTH: Final = (Field.TYPE_STRING, Field.TYPE_BYTES, Field.TYPE_MESSAGE)
"""One of these may become several and back: a reader of one takes the last."""


def differences(reader: FileDescriptorProto, writer: FileDescriptorProto) -> Iterator[str]:
    if reader.package != writer.package:
        yield f"the package was {writer.package!r} and is {reader.package!r}"
        return
    readers, writers = dict(_messages(reader)), dict(_messages(writer))
    for name, message in writers.items():
        if name in readers:
            yield from _of_message(name, readers[name], message)
        else:
            yield f"the message {name} is gone"


def _messages(file: FileDescriptorProto) -> Iterator[tuple[str, Any]]:
    pending = [(message.name, message) for message in reversed(file.message_type)]
    while pending:
        name, message = pending.pop()
        yield name, message
        pending += [(f"{name}.{one.name}", one) for one in message.nested_type]


def _of_message(name: str, reader: Any, writer: Any) -> Iterator[str]:
    old = {field.number: field for field in writer.field}
    new = {field.number: field for field in reader.field}
    for number, field in new.items():
        if number in old:
            yield from _of_field(name, field, old[number])
        elif field.label == Field.LABEL_REQUIRED:
            yield f"{name}.{field.name}: it is required, and nobody has written it"
    for index, oneof in enumerate(reader.oneof_decl):
        known = [one for one in reader.field if _oneof_of(one) == index and one.number in old]
        moved = [one.name for one in known if _oneof_of(old[one.number]) is None]
        if moved and len(known) > 1:
            yield f"{name}.{oneof.name}: {', '.join(moved)} could be set beside others, and now only alone"
    for number, field in old.items():
        if number not in new and _oneof_of(field) is not None:
            yield f"{name}.{field.name}: it is gone from its oneof"


def _oneof_of(field: Any) -> int | None:
    return field.oneof_index if field.HasField("oneof_index") and not field.proto3_optional else None


def _of_field(name: str, new: Any, old: Any) -> Iterator[str]:
    where = f"{name}.{new.name} ({new.number})"
    is_same = new.type == old.type or any({new.type, old.type} <= kinds for kinds in SAME_ON_THE_WIRE)
    if not is_same:
        yield f"{where}: it was {_kind(old)} and is {_kind(new)}, which is written in another way"
    elif new.type == Field.TYPE_MESSAGE and new.type_name != old.type_name:
        yield f"{where}: it was a {old.type_name} and is a {new.type_name}"
    is_repeated = (new.label == Field.LABEL_REPEATED, old.label == Field.LABEL_REPEATED)
    if is_repeated[0] != is_repeated[1] and new.type not in WITH_A_LENGTH:
        yield f"{where}: one value and several are written in another way"


def _kind(field: Any) -> str:
    return str(Field.Type.Name(field.type)).removeprefix("TYPE_").lower()
