"""What is one schema, and what reads what: a table for each kind."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from raftlog.registry import work
from raftlog.registry.formats import Invalid, Source, format_of
from raftlog.registry.formats.proto_text import CannotPrint, print_file


def objections(kind: str, reader: object, writer: object) -> list[str]:
    both = [Source(one if isinstance(one, str) else json.dumps(one)) for one in (reader, writer)]
    return list(format_of(kind).objections(*both))


def closed(required: tuple[str, ...] = (), **properties: object) -> dict[str, object]:
    return {**opened(required, **properties), "additionalProperties": False}


def opened(required: tuple[str, ...] = (), **properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
TREE = {"type": "object", "properties": {"next": {"$ref": "#"}}}


@pytest.mark.parametrize(
    ("new", "old", "good"),
    [
        (True, TEXT, True),
        ({}, closed(a=TEXT), True),
        (False, TEXT, False),
        (TEXT, False, True),
        (NUMBER, WHOLE, True),
        (WHOLE, NUMBER, False),
        ({"type": ["string", "null"]}, TEXT, True),
        (TEXT, {"type": ["string", "null"]}, False),
        ({**TEXT, "maxLength": 9}, {**TEXT, "maxLength": 8}, True),
        ({**TEXT, "maxLength": 7}, {**TEXT, "maxLength": 8}, False),
        ({**TEXT, "minLength": 0}, TEXT, True),
        ({**TEXT, "pattern": "a"}, TEXT, False),
        ({**WHOLE, "multipleOf": 2}, {**WHOLE, "multipleOf": 4}, True),
        ({**WHOLE, "multipleOf": 4}, {**WHOLE, "multipleOf": 2}, False),
        ({"enum": [1, 2, 3]}, {"enum": [1, 2]}, True),
        ({"enum": [1]}, {"enum": [1, 2]}, False),
        (WHOLE, {"enum": [1, 2]}, True),
        (WHOLE, {"const": "x"}, False),
        ({"enum": [1]}, WHOLE, False),
        (closed(a=TEXT, b=TEXT), closed(a=TEXT), True),
        (closed(a=TEXT), closed(a=TEXT, b=TEXT), False),
        (closed(("b",), a=TEXT, b=TEXT), closed(a=TEXT), False),
        (closed(("b",), a=TEXT, b={**TEXT, "default": ""}), closed(a=TEXT), True),
        (closed(a=TEXT), closed(("a",), a=TEXT), True),
        (opened(a=TEXT, b=TEXT), opened(a=TEXT), False),
        (opened(a=TEXT, b={}), opened(a=TEXT), True),
        (opened(a=TEXT), opened(a=TEXT, b=TEXT), True),
        (opened(a=TEXT), closed(a=TEXT), True),
        (closed(a=TEXT), opened(a=TEXT), False),
        (closed(a=NUMBER), closed(a=WHOLE), True),
        ({"type": "object", "additionalProperties": NUMBER}, closed(a=WHOLE), True),
        ({"type": "object", "additionalProperties": TEXT}, closed(a=WHOLE), False),
        ({"type": "object", "patternProperties": {"^a": TEXT}}, closed(ab=WHOLE), False),
        ({"type": "object", "patternProperties": {"^a": WHOLE}}, closed(ab=WHOLE), True),
        ({"type": "array", "items": NUMBER}, {"type": "array", "items": WHOLE}, True),
        ({"type": "array", "items": WHOLE}, {"type": "array"}, False),
        ({"type": "array", "items": [TEXT], "additionalItems": False},
         {"type": "array", "items": [TEXT]}, False),
        ({"type": "array", "uniqueItems": True}, {"type": "array"}, False),
        ({"oneOf": [TEXT, WHOLE, NUMBER]}, {"oneOf": [TEXT, WHOLE]}, True),
        ({"oneOf": [TEXT]}, {"oneOf": [TEXT, WHOLE]}, False),
        ({"anyOf": [TEXT, WHOLE]}, TEXT, True),
        (TEXT, {"anyOf": [TEXT]}, True),
        ({"allOf": [TEXT, {"maxLength": 9}]}, {**TEXT, "maxLength": 3}, True),
        ({**TEXT, "maxLength": 9}, {"allOf": [TEXT, {"maxLength": 9}]}, True),
        ({"not": WHOLE}, {"not": NUMBER}, True),
        ({"not": NUMBER}, {"not": WHOLE}, False),
        ({"if": TEXT, "then": {"maxLength": 3}}, {}, False),
        (TREE, {**TREE, "title": "the same"}, True),
        ({"type": "object", "properties": {"next": TEXT}}, TREE, False),
        ({**TEXT, "description": "said otherwise", "format": "date"}, TEXT, True),
    ],
)  # fmt: skip
def test_json_schemas(new: object, old: object, good: bool) -> None:
    found = objections("JSON", new, old)
    assert (not found) == good, found


def record(*fields: dict[str, object], **more: object) -> dict[str, object]:
    return {"type": "record", "name": "R", "fields": list(fields), **more}


A, B = {"name": "a", "type": "long"}, {"name": "b", "type": "long"}


@pytest.mark.parametrize(
    ("new", "old", "good"),
    [
        (record(A), record(A, B), True),
        (record(A, B), record(A), False),
        (record(A, {**B, "default": 0}), record(A), True),
        (record({**A, "type": "double"}), record(A), True),
        (record({**A, "type": "int"}), record(A), False),
        (record({**B, "aliases": ["a"]}), record(A), True),
        (record({**A, "type": ["null", "long"]}), record(A), True),
        (record(A), record({**A, "type": ["null", "long"]}), False),
        ({"type": "enum", "name": "E", "symbols": ["x"]},
         {"type": "enum", "name": "E", "symbols": ["x", "y"]}, False),
        (
            {"type": "enum", "name": "E", "symbols": ["x"], "default": "x"},
            {"type": "enum", "name": "E", "symbols": ["x", "y"]},
            True,
        ),
        ({"type": "fixed", "name": "F", "size": 3}, {"type": "fixed", "name": "F", "size": 4}, False),
        (record({"name": "n", "type": ["null", "R"]}), record({"name": "n", "type": ["null", "R"]}), True),
    ],
)  # fmt: skip
def test_avro(new: object, old: object, good: bool) -> None:
    found = objections("AVRO", new, old)
    assert (not found) == good, found


@pytest.mark.parametrize(
    ("kind", "one", "other", "normalize", "same"),
    [
        ("AVRO", '{"type":"string"}', '"string"', False, True),
        ("AVRO", '{"name":"R","type":"record","fields":[]}',
         '{"type":"record","fields":[],"name":"R"}', False, True),
        ("AVRO", '{"type":"record","name":"a.R","fields":[]}',
         '{"type":"record","name":"R","namespace":"a","fields":[]}', False, False),
        ("AVRO", '{"type":"record","name":"a.R","fields":[]}',
         '{"type":"record","name":"R","namespace":"a","fields":[]}', True, True),
        ("AVRO", '{"type":"record","name":"a.R","fields":[{"name":"n","type":["null","R"]}]}',
         '{"type":"record","name":"a.R","fields":[{"name":"n","type":["null","a.R"]}]}', True, True),
        ("JSON", '{"a": 1, "b": 2}', '{"a":1,"b":2}', False, True),
        ("JSON", '{"b": 2, "a": 1}', '{"a":1,"b":2}', False, False),
        ("JSON", '{"b": 2, "a": 1}', '{"a":1,"b":2}', True, True),
    ],
)  # fmt: skip
def test_what_is_the_same_schema(kind: str, one: str, other: str, normalize: bool, same: bool) -> None:
    texts = {format_of(kind).canonical(Source(text), normalize=normalize) for text in (one, other)}
    assert (len(texts) == 1) == same, texts


def test_what_a_schema_refers_to_is_given() -> None:
    name = '{"type":"record","name":"shop.Money","fields":[{"name":"cents","type":"long"}]}'
    order = '{"type":"record","name":"Order","fields":[{"name":"price","type":"shop.Money"}]}'
    assert format_of("AVRO").canonical(Source(order, (("shop.Money", name),)), normalize=False) == order
    with pytest.raises(Invalid):
        format_of("AVRO").canonical(Source(order), normalize=False)
    whole = '{"$ref":"money.json"}'
    assert format_of("JSON").canonical(
        Source(whole, (("money.json", '{"type":"integer"}'),)), normalize=False
    )
    with pytest.raises(Invalid, match="refers to nothing"):
        format_of("JSON").canonical(Source(whole), normalize=False)


def field(name: str, number: int, kind: str = "INT64", **more: object) -> FieldDescriptorProto:
    return FieldDescriptorProto(
        name=name,
        number=number,
        type=FieldDescriptorProto.Type.Value(f"TYPE_{kind}"),
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        **more,
    )


def file_of(*fields: FieldDescriptorProto, **more: object) -> FileDescriptorProto:
    message = DescriptorProto(name="M", field=fields, **more)
    return FileDescriptorProto(syntax="proto3", package="p", message_type=[message])


ONE_OF = {"oneof_decl": [{"name": "o"}]}


@pytest.mark.parametrize(
    ("new", "old", "good"),
    [
        (file_of(field("a", 1), field("b", 2)), file_of(field("a", 1)), True),
        (file_of(), file_of(field("a", 1)), True),
        (file_of(field("z", 1)), file_of(field("a", 1)), True),
        (file_of(field("a", 1, "INT32")), file_of(field("a", 1)), True),
        (file_of(field("a", 1, "SINT64")), file_of(field("a", 1)), False),
        (file_of(field("a", 1, "STRING")), file_of(field("a", 1, "BYTES")), True),
        (file_of(field("a", 1, oneof_index=0), field("b", 2), **ONE_OF),
         file_of(field("a", 1), field("b", 2)), True),
        (
            file_of(field("a", 1, oneof_index=0), field("b", 2, oneof_index=0), **ONE_OF),
            file_of(field("a", 1), field("b", 2)),
            False,
        ),
        (FileDescriptorProto(syntax="proto3", package="p"), file_of(), False),
    ],
)  # fmt: skip
def test_protobuf(new: FileDescriptorProto, old: FileDescriptorProto, good: bool) -> None:
    from raftlog.registry.formats.proto_compare import differences

    found = list(differences(new, old))
    assert (not found) == good, found


def test_what_has_no_words_is_not_printed() -> None:
    grouped = file_of(field("g", 1, "GROUP", type_name=".p.M.G"))
    with pytest.raises(CannotPrint):
        print_file(grouped)


def test_texts_that_a_descriptor_imports_are_compiled_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients in Python send a descriptor; what it refers to is stored as text."""
    runs, run = [], subprocess.run

    def counted(command: list[str], **more: Any) -> Any:
        runs.append(command)
        return run(command, **more)

    monkeypatch.setattr(subprocess, "run", counted)
    texts = [("inner.proto", 'syntax = "proto3"; package r; message Inner {}')]
    texts += [
        (
            f"r{n}.proto",
            f'syntax = "proto3"; package r; import "inner.proto"; message R{n} {{ Inner i = 1; }}',
        )
        for n in range(3)
    ]
    file = FileDescriptorProto(syntax="proto3", dependency=[name for name, _ in texts[1:]])
    file.message_type.add(name="M").field.add(
        name="f",
        number=1,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".r.R2",
    )
    source = Source(base64.b64encode(file.SerializeToString()).decode(), tuple(texts))
    assert ".r.R2 f = 1;" in format_of("PROTOBUF").canonical(source, normalize=False)
    assert len(runs) == 1


def test_the_compilers_time_is_a_part_of_the_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "CPU_S", 0.1)
    before = signal.signal(signal.SIGPROF, work._out_of_time)
    many = "".join(f"message M{number} {{ int64 x = 1; }}\n" for number in range(30_000))
    question = {
        "do": "canonical",
        "kind": "PROTOBUF",
        "source": [f'syntax = "proto3";\n{many} message M1 {{}}', []],
        "normalize": False,
    }
    try:
        assert "too complex" in work._answer(question)["invalid"]
    finally:
        signal.signal(signal.SIGPROF, before)
