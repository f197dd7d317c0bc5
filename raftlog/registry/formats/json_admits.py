"""Whether one JSON Schema admits every value that another does.

A schema is a conjunction of constraints. It admits what others admit together when each of its constraints
follows from one of theirs; where theirs is a choice (anyOf, oneOf), from each branch. The answer is on the
safe side: what is let pass is compatible, and what is too clever for these rules is refused. There is one
exception, Confluent's as well: a property may become required when it has a default.

So a property that is added to an open object, one without `additionalProperties: false`, is refused: the
old schema let it have any value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from jsonschema import validators
from referencing._core import Resolver

from raftlog.registry.formats import Invalid

TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
SAYS_NOTHING: Final = frozenset(
    {"$schema", "$id", "id", "$comment", "$defs", "definitions", "$anchor", "$vocabulary", "title"}
    | {"description", "default", "examples", "readOnly", "writeOnly", "deprecated", "format"}
    | {"contentEncoding", "contentMediaType", "contentSchema", "$dynamicAnchor", "$recursiveAnchor"}
)
"""Keywords that constrain nothing, or that validators take for a remark."""
HANDLED: Final = frozenset(
    {"$ref", "allOf", "anyOf", "oneOf", "not", "type", "enum", "const", "properties", "patternProperties"}
    | {"additionalProperties", "required", "items", "prefixItems", "additionalItems"}
)
LOWER: Final = {
    "minimum": "number",
    "exclusiveMinimum": "number",
    "minLength": "string",
    "minItems": "array",
    "minProperties": "object",
}
UPPER: Final = {
    "maximum": "number",
    "exclusiveMaximum": "number",
    "maxLength": "string",
    "maxItems": "array",
    "maxProperties": "object",
}
OF_TYPE: Final = {"pattern": "string", "multipleOf": "number", "uniqueItems": "array", "contains": "array"}
OBJECT_SAYS: Final = ("properties", "patternProperties", "additionalProperties")
STEPS_MAX: Final = 50_000
"""Comparisons: choices within choices are compared each with each."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A schema within a document, with what resolves its references."""

    schema: Any
    resolver: Resolver[Any]

    def at(self, schema: Any) -> Part:
        return Part(schema, self.resolver)

    def get(self, key: str, default: Any = None) -> Any:
        return self.schema.get(key, default) if isinstance(self.schema, dict) else default

    @property
    def says_nothing(self) -> bool:
        return self.schema is True or (isinstance(self.schema, dict) and self.schema.keys() <= SAYS_NOTHING)


Parts = tuple[Part, ...]


class Admission:
    """One comparison of two documents."""

    def __init__(self) -> None:
        self._steps = 0
        self._assumed: set[tuple[int, tuple[int, ...]]] = set()
        """Pairs that are being compared: a schema that holds itself is taken to be all right there."""

    def objections(self, new: Part, olds: Parts, path: str = "#") -> list[str]:
        """Why `new` does not admit what all of `olds` do; nothing when it does."""
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Invalid("the schemas are too complex to be compared")
        olds = tuple(self._flat(olds))
        if new.says_nothing or any(old.schema is False for old in olds):
            return []
        key = (id(new.schema), tuple(sorted(id(old.schema) for old in olds)))
        if key in self._assumed:
            return []
        self._assumed.add(key)
        try:
            if any(old.schema == new.schema and old.resolver == new.resolver for old in olds):
                return []
            return self._compared(new, olds, path)
        finally:
            self._assumed.discard(key)

    def _flat(self, olds: Parts) -> Iterator[Part]:
        """References followed, and allOf taken apart."""
        pending, seen = list(olds), set()
        while pending:
            old = pending.pop()
            if id(old.schema) in seen:
                continue
            seen.add(id(old.schema))
            yield old
            if isinstance(ref := old.get("$ref"), str):
                pending.append(_referred(old, ref))
            pending += [old.at(one) for one in old.get("allOf") or ()]

    def _compared(self, new: Part, olds: Parts, path: str) -> list[str]:
        if new.schema is False:
            return [f"{path}: no value is admitted any more"]
        found = list(self._plain(new, olds, path))
        if not found:
            return []
        for old in olds:  # each branch of a choice by itself
            for word in ("anyOf", "oneOf"):
                branches = old.get(word)
                if branches:
                    rest = old.at({key: value for key, value in old.schema.items() if key != word})
                    others = tuple(one for one in olds if one is not old)
                    return [
                        why
                        for number, branch in enumerate(branches)
                        for why in self.objections(
                            new, (*others, rest, old.at(branch)), f"{path}({word}/{number})"
                        )
                    ]
        return found

    def _plain(self, new: Part, olds: Parts, path: str) -> Iterator[str]:
        if isinstance(ref := new.get("$ref"), str):
            yield from self.objections(_referred(new, ref), olds, path)
        for number, one in enumerate(new.get("allOf") or ()):
            yield from self.objections(new.at(one), olds, f"{path}/allOf/{number}")
        for word in ("anyOf", "oneOf"):
            branches = new.get(word)
            if branches and all(self.objections(new.at(one), olds, path) for one in branches):
                yield f"{path}/{word}: no branch admits what was admitted"
        values = _values(olds)
        if values is not None:
            refused = next((value for value in values if not _is_valid(new, value)), None)
            if refused is not None:
                yield f"{path}: {str(refused)[:60]!r} is admitted no more"
            return
        yield from self._of_types(new, olds, path)
        if "not" in new.schema and not any(
            "not" in (old.schema if isinstance(old.schema, dict) else ())
            and not self.objections(old.at(old.get("not")), (new.at(new.get("not")),), path)
            for old in olds
        ):
            yield f"{path}/not: it excludes more than before"
        known = SAYS_NOTHING | HANDLED | LOWER.keys() | UPPER.keys() | OF_TYPE.keys()
        for word in sorted(new.schema.keys() - known):
            if not any(isinstance(old.schema, dict) and old.get(word) == new.get(word) for old in olds):
                yield f"{path}/{word}: it was not there, or was another"

    def _of_types(self, new: Part, olds: Parts, path: str) -> Iterator[str]:
        old_types, new_types = _types(olds), _types((new,))
        lost = sorted(old_types - new_types - ({"integer"} if "number" in new_types else set()))
        if lost:
            yield f"{path}/type: {', '.join(lost)} admitted no more"
        for word in ("enum", "const"):
            if word in new.schema:
                yield f"{path}/{word}: it leaves a few values where there were others"
        for word, kind in {**LOWER, **UPPER, **OF_TYPE}.items():
            has_kind = kind in old_types or (kind == "number" and "integer" in old_types)
            if word in new.schema and has_kind and not _follows(word, new.get(word), olds):
                yield f"{path}/{word}: {str(new.get(word))[:60]} is stricter than before"
        if "object" in old_types:
            yield from self._of_object(new, olds, path)
        if "array" in old_types:
            yield from self._of_array(new, olds, path)

    # -- objects

    def _of_object(self, new: Part, olds: Parts, path: str) -> Iterator[str]:
        properties = new.get("properties") or {}
        required = {name for old in olds for name in _names(old.get("required"))}
        for name in _names(new.get("required")):
            given = properties.get(name)
            if name not in required and not (isinstance(given, dict) and "default" in given):
                yield f"{path}/required: {name} was not required, and has no default"
        for name, one in properties.items():
            yield from self.objections(new.at(one), _of_property(olds, name), f"{path}/properties/{name}")
        old_names = {name for old in olds for name in old.get("properties") or {}}
        old_patterns = {one for old in olds for one in old.get("patternProperties") or {}}
        patterns = new.get("patternProperties") or {}
        for pattern, one in patterns.items():
            where = f"{path}/patternProperties/{pattern}"
            for name in sorted(old_names - properties.keys()):
                if _matches(pattern, name):
                    yield from self.objections(new.at(one), _of_property(olds, name), where)
            yield from self.objections(new.at(one), _of_pattern(olds, pattern), where)
        rest = new.get("additionalProperties", True)
        if rest is True:
            return
        where = f"{path}/additionalProperties"
        for name in sorted(old_names - properties.keys()):
            if not any(_matches(pattern, name) for pattern in patterns):
                yield from self.objections(new.at(rest), _of_property(olds, name), f"{where} ({name})")
        for pattern in sorted(old_patterns - patterns.keys()):
            yield from self.objections(new.at(rest), _of_pattern(olds, pattern), where)
        yield from self.objections(new.at(rest), _of_others(olds), where)

    # -- arrays

    def _of_array(self, new: Part, olds: Parts, path: str) -> Iterator[str]:
        first, rest = _items(new)
        olds_items = [(old, *_items(old)) for old in olds]
        longest = max((len(old_first) for _, old_first, _ in olds_items), default=0)
        for number in range(max(len(first), longest)):
            wanted = first[number] if number < len(first) else rest
            given = tuple(
                old.at(old_first[number] if number < len(old_first) else old_rest)
                for old, old_first, old_rest in olds_items
            )
            yield from self.objections(new.at(wanted), given, f"{path}/items/{number}")
        given = tuple(old.at(old_rest) for old, _, old_rest in olds_items)
        yield from self.objections(new.at(rest), given, f"{path}/items")


def _referred(part: Part, ref: str) -> Part:
    found = part.resolver.lookup(ref)
    return Part(found.contents, found.resolver)


def _names(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _types(olds: Parts) -> set[str]:
    """Those that all of them admit."""
    found = set(TYPES)
    for old in olds:
        said = old.get("type")
        if said is not None:
            given = {said} if isinstance(said, str) else set(_names(said))
            found &= given | ({"integer"} if "number" in given else set())
    return found


def _values(olds: Parts) -> list[Any] | None:
    """All values that are admitted, where they are listed."""
    for old in olds:
        if isinstance(old.schema, dict) and "const" in old.schema:
            return [old.schema["const"]]
        if isinstance(old.get("enum"), list):
            return list(old.schema["enum"])
    return None


def _is_valid(new: Part, value: Any) -> bool:
    kind = validators.validator_for(new.schema, default=validators.Draft7Validator)
    return bool(kind(new.schema, _resolver=new.resolver).is_valid(value))


def _follows(word: str, value: Any, olds: Parts) -> bool:
    """Whether a bound holds already."""
    given = [old.get(word) for old in olds if isinstance(old.schema, dict) and word in old.schema]
    if word in LOWER:
        return (word.startswith("min") and word != "minimum" and value == 0) or any(
            one >= value for one in given
        )
    if word in UPPER:
        return any(one <= value for one in given)
    if word == "multipleOf":
        return any(one % value == 0 for one in given)
    return value is False or value in given


def _of_property(olds: Parts, name: str) -> Parts:
    """What the old schemas say together of one property."""
    found: list[Part] = []
    for old in olds:
        said = [old.at(one) for key, one in (old.get("properties") or {}).items() if key == name]
        said += [
            old.at(one)
            for pattern, one in (old.get("patternProperties") or {}).items()
            if _matches(pattern, name)
        ]
        if not said and "additionalProperties" in (old.schema if isinstance(old.schema, dict) else ()):
            said = [old.at(old.get("additionalProperties"))]
        found += said
    return tuple(found)


def _of_pattern(olds: Parts, pattern: str) -> Parts:
    """What they say of all properties of a pattern."""
    same = tuple(
        old.at(old.get("patternProperties")[pattern])
        for old in olds
        if pattern in (old.get("patternProperties") or {})
    )
    return same or _of_others(olds)


def _of_others(olds: Parts) -> Parts:
    """What each of these schemas says of properties that it does not name (`additionalProperties`). Where
    several schemas stand together, only one that names properties says anything."""
    speaking = [old for old in olds if any(old.get(word) is not None for word in OBJECT_SAYS)]
    return tuple(
        old.at(old.get("additionalProperties")) for old in speaking if "additionalProperties" in old.schema
    )


def _items(part: Part) -> tuple[list[Any], Any]:
    """The schemas of the first items, and that of the others."""
    if isinstance(prefix := part.get("prefixItems"), list):
        return prefix, part.get("items", True)
    items = part.get("items", True)
    if isinstance(items, list):
        return items, part.get("additionalItems", True)
    return [], items


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return False
