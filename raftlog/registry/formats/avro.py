"""Avro: parsed and compared by Apache Avro's own library, which has the specification's rules for a reader
and a writer (Schema Resolution)."""

from __future__ import annotations

from typing import Any, Final

from avro import compatibility, name, schema
from avro.errors import AvroException

from raftlog.registry.formats import Invalid, Source, parse_json, to_json

ORDER: Final = (
    "type",
    "name",
    "namespace",
    "doc",
    "fields",
    "symbols",
    "items",
    "values",
    "size",
    "default",
    "order",
)
"""How Java's library writes a schema's attributes; aliases and what is nobody's come last."""
NAMED: Final = ("record", "error", "enum", "fixed")
PRIMITIVE: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


def canonical(source: Source, *, normalize: bool) -> str:
    _parse(source)
    return to_json(_written(parse_json(source.text), "", normalize=normalize))


def objections(reader: Source, writer: Source) -> list[str]:
    checker: Any = compatibility.ReaderWriterCompatibilityChecker
    found = checker().get_compatibility(_parse(reader), _parse(writer))
    if found.compatibility is not compatibility.SchemaCompatibilityType.incompatible:
        return []
    why = ", ".join(sorted({kind.value for kind in found.incompatibilities}))
    where = ", ".join(sorted(found.locations))
    return [f"{why} at {where}: {'; '.join(sorted(found.messages))}"]


def _parse(source: Source) -> schema.Schema:
    names = name.Names()
    for _, text in source.references:
        _parse_one(text, names)
    return _parse_one(source.text, names)


def _parse_one(text: str, names: name.Names) -> schema.Schema:
    try:
        return schema.make_avsc_object(parse_json(text), names)
    except Invalid:
        raise
    except RecursionError:
        raise Invalid("it is nested too deeply") from None
    except (AvroException, AttributeError, KeyError, TypeError, ValueError) as error:
        raise Invalid(f"no Avro schema: {error}") from error


def _written(node: Any, space: str, *, normalize: bool) -> Any:
    """A schema with its attributes in one order, and primitive types by their names alone. Normalized, names
    are whole ones, and what belongs to nobody is sorted."""
    match node:
        case list():
            return [_written(one, space, normalize=normalize) for one in node]
        case str():
            return _whole(node, space) if normalize and node not in PRIMITIVE else node
        case dict():
            return _written_object(node, space, normalize=normalize)
    return node


def _written_object(node: dict[str, Any], space: str, *, normalize: bool) -> Any:
    if node.keys() == {"type"} and isinstance(node["type"], str):
        return _written(node["type"], space, normalize=normalize)
    node = dict(node)
    if node.get("type") in NAMED and isinstance(node.get("name"), str):
        whole = _whole(node["name"], node.get("namespace") or space)
        space = whole.rpartition(".")[0]
        if normalize:
            node["name"], node["aliases"] = whole, [_whole(one, space) for one in node.get("aliases") or ()]
            node.pop("namespace", None)
            if not node["aliases"]:
                del node["aliases"]
    said: dict[str, Any] = {}
    others = sorted(node.keys() - set(ORDER)) if normalize else [key for key in node if key not in ORDER]
    last = [key for key in others if key != "aliases"]
    for key in (*ORDER, "aliases", *last):
        if key not in node:
            continue
        value = node[key]
        if key in ("type", "items", "values") or (key == "fields" and isinstance(value, list)):
            said[key] = (
                _written(value, space, normalize=normalize)
                if key != "fields"
                else [_written_field(one, space, normalize=normalize) for one in value]
            )
        else:
            said[key] = value
    return said


def _written_field(field: Any, space: str, *, normalize: bool) -> Any:
    if not isinstance(field, dict):
        return field
    order = ("name", "type", "doc", "default", "order", "aliases")
    others = sorted(field.keys() - set(order)) if normalize else [key for key in field if key not in order]
    return {
        key: _written(field[key], space, normalize=normalize) if key == "type" else field[key]
        for key in (*order, *others)
        if key in field
    }


def _whole(given: str, space: str) -> str:
    return (
        given
        if "." in given or not space or given in (*PRIMITIVE, *NAMED, "array", "map", "union")
        else f"{space}.{given}"
    )
