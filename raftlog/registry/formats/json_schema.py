"""JSON Schema, drafts 4 to 2020-12: checked by jsonschema against the meta schema, references resolved by
referencing, and never fetched from anywhere."""

from __future__ import annotations

from typing import Any, Final

from jsonschema import SchemaError, validators
from referencing import Registry, Resource, Specification
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT7, specification_with

from raftlog.registry.formats import Invalid, Source, parse_json, to_json
from raftlog.registry.formats.json_admits import Admission, Part

DRAFT_DEFAULT: Final = validators.Draft7Validator
"""Of a schema that does not say, as for Confluent's registry."""


def canonical(source: Source, *, normalize: bool) -> str:
    root = _part(source)
    kind = validators.validator_for(root.schema, default=DRAFT_DEFAULT)
    try:
        kind.check_schema(root.schema)
        _check_references(root)
    except SchemaError as error:
        path = "/".join(map(str, error.absolute_path))
        raise Invalid(f"no JSON Schema: #/{path}: {error.message[:500]}") from error
    except Unresolvable as error:
        raise Invalid(f"no JSON Schema: {error.ref!r} refers to nothing that is given") from error
    except RecursionError:
        raise Invalid("it is nested too deeply") from None
    return to_json(root.schema, sort=normalize)


def objections(reader: Source, writer: Source) -> list[str]:
    return Admission().objections(_part(reader), (_part(writer),))


def _part(source: Source) -> Part:
    registry: Registry[Any] = Registry()
    for name, text in source.references:
        resource = _resource(parse_json(text))
        registry = registry.with_resource(name, resource)
        if resource.id():
            registry = registry.with_resource(resource.id() or "", resource)
    root = parse_json(source.text)
    if not isinstance(root, dict | bool):
        raise Invalid("no JSON Schema: it is neither an object nor true nor false")
    resource = _resource(root)
    uri = resource.id() or ""
    return Part(root, registry.with_resource(uri, resource).resolver(uri))


def _resource(schema: Any) -> Resource[Any]:
    said = schema.get("$schema") if isinstance(schema, dict) else None
    found: Specification[Any] = specification_with(said, default=DRAFT7) if isinstance(said, str) else DRAFT7
    return found.create_resource(schema)


def _check_references(root: Part) -> None:
    pending = [(_resource(root.schema), root.resolver)]
    while pending:
        resource, resolver = pending.pop()
        contents = resource.contents
        ref = contents.get("$ref") if isinstance(contents, dict) else None
        if isinstance(ref, str):
            resolver.lookup(ref)
        pending += [(one, resolver.in_subresource(one)) for one in resource.subresources()]
