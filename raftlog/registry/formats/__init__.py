"""The three kinds of schemas: what is valid, which texts are the same schema, what can be read with what.

Each module has `canonical` and `objections`; they and the libraries that they stand on are imported when a
schema of their kind is met. All of it runs in the process of `raftlog.registry.reader`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

MODULES: Final = {"AVRO": "avro", "JSON": "json_schema", "PROTOBUF": "protobuf"}


class Invalid(ValueError):
    """The text is no schema of its kind; the message says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """A schema's text, and those that it refers to, as (name, text): each after those that it refers to
    itself."""

    text: str
    references: tuple[tuple[str, str], ...] = ()


class Format(Protocol):
    def canonical(self, source: Source, *, normalize: bool) -> str:
        """The text that is stored. Texts that differ in nothing but layout have one; with `normalize`, those
        too that differ in what no reader can tell. Raises Invalid."""
        ...

    def objections(self, reader: Source, writer: Source) -> Sequence[str]:
        """Why data of the writer's schema cannot be read with the reader's; nothing when it can."""
        ...


def format_of(kind: str) -> Format:
    """Raises KeyError for a kind that is unknown."""
    module: Any = importlib.import_module(f"raftlog.registry.formats.{MODULES[kind]}")
    return module  # type: ignore[no-any-return]


def parse_json(text: str) -> Any:
    """Raises Invalid, for NaN too and numbers that no double holds, which JSON does not have."""

    def refuse(constant: str) -> Any:
        raise Invalid(f"{constant} is no JSON")

    def number(digits: str) -> float:
        value = float(digits)
        if value in (float("inf"), float("-inf")):
            raise Invalid(f"{digits[:40]} is too large a number")
        return value

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=number)
        text.encode()
    except RecursionError:
        raise Invalid("it is nested too deeply") from None
    except ValueError as error:
        raise Invalid(str(error)) from error
    return value


def to_json(value: object, *, sort: bool = False) -> str:
    """Raises Invalid for text that no encoding has, such as half of a surrogate pair."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"a character has no UTF-8: {error}") from error
    return text
