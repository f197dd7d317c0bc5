"""A connector's options: a frozen dataclass says their names, types, defaults and what they mean.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        path: str = option(doc="The file.")
        lines_max: int = option(1000, doc="Lines of a batch.", least=1)

Values come from TOML with their types, or as text, from the environment and from Kafka Connect's JSON.
`${env:NAME}` and `${file:PATH}` inside of a text are replaced, also in lists and tables, and never shown.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from raftlog.client.settings import nearest
from raftlog.errors import ConfigError

C = TypeVar("C")
T = TypeVar("T")

_SECRET: Final = re.compile(r"\$\{(env|file):([^}]+)\}")
SECRET_BYTES_MAX: Final = 64 << 10
HIDDEN: Final = "[hidden]"
SHOWN_LENGTH_MAX: Final = 3
"""So much of a secret may stand in a mistake: less cannot be told from any other text."""


def option(
    default: Any = dataclasses.MISSING, *, doc: str, least: float | None = None, secret: bool = False
) -> Any:
    """A field of a Config. `least` is the smallest number; what is `secret` is never shown."""
    return dataclasses.field(default=default, metadata={"doc": doc, "least": least, "secret": secret})


def read(cls: type[C], given: Mapping[str, Any], where: str) -> C:
    """The options that were given. Raises ConfigError, with the nearest name for one that is unknown."""
    return build(cls, given, where, lambda made: made)


def build(cls: type[C], given: Mapping[str, Any], where: str, make: Callable[[C], T]) -> T:
    """What is made of the options that were given. Raises ConfigError, `make`'s as well, which shows nothing
    of what is secret: no text that was filled in, and no secret option, not in part either."""
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in given:
        if name not in fields:
            raise ConfigError(f"{where} has no option {name!r}{nearest(name, fields)}")
    hints = get_type_hints(cls)
    values = {}
    secrets: list[str] = []
    for name, field in fields.items():
        if name in given:
            values[name] = _convert(given[name], hints[name], field.metadata, f"{where}: {name}", secrets)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where} needs {name}: {field.metadata.get('doc', '')}")
    try:
        return make(cls(**values))
    except ConfigError as error:
        raise ConfigError(f"{where}: {_without(str(error), secrets)}") from None


def _without(told: str, secrets: Iterable[str]) -> str:
    """A text, without what it has in common with secrets: whole, escaped, cut, or in parts."""
    for secret in secrets:
        spellings = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]}
        shown, at = "", 0
        while at < len(told):
            end = at
            while end < len(told) and any(told[at : end + 1] in each for each in spellings):
                end += 1
            is_hidden = end - at > SHOWN_LENGTH_MAX or (end > at and told[at:end] == secret)
            shown += HIDDEN if is_hidden else told[at : at + 1]
            at = end if is_hidden else at + 1
        told = shown
    return told


def _convert(value: Any, hint: Any, metadata: Mapping[str, Any], what: str, secrets: list[str]) -> Any:
    """An option's value. Adds what is secret of it."""
    shown = HIDDEN if metadata.get("secret") else repr(value)
    value = _filled_in(value, what, secrets)
    if metadata.get("secret"):
        secrets += [value] if isinstance(value, str) else filter(None, map(str, value or ()))
    try:
        found = _as(value, hint)
    except (TypeError, ValueError):
        raise ConfigError(f"{what} = {shown}: it must be {_spoken(hint)}") from None
    least = metadata.get("least")
    if least is not None and found is not None and found < least:
        raise ConfigError(f"{what} = {shown}: it must be at least {least:g}")
    return found


def _as(value: Any, hint: Any) -> Any:
    """A value as its type. Raises TypeError or ValueError."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [one for one in inside if one is not type(None)]
        return None if value is None else _as(value, kinds[0])
    if origin is Literal:
        if value not in inside:
            raise ValueError
        return value
    if origin is tuple:
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise TypeError
        return tuple(_as(part, inside[0]) for part in parts if part != "")
    if origin is dict:
        if not isinstance(value, Mapping):
            raise TypeError
        return {str(key): _as(one, inside[1]) for key, one in value.items()}
    if hint is bool:
        if isinstance(value, str):
            return (
                {"true": True, "false": False}[value.lower()] if value.lower() in ("true", "false") else _no()
            )
        return value if isinstance(value, bool) else _no()
    if hint is int or hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        if hint is int and isinstance(value, float):
            raise ValueError
        return hint(value)
    return value if isinstance(value, str) else _no()


def _no() -> Any:
    raise TypeError


def _filled_in(value: Any, what: str, secrets: list[str]) -> Any:
    """A value with what its texts refer to, those in lists and tables as well. Raises ConfigError."""

    def secret(match: re.Match[str]) -> str:
        found = _secret(match, what)
        if found:
            secrets.append(found)
        return found

    match value:
        case str():
            return _SECRET.sub(secret, value)
        case list() | tuple():
            return [_filled_in(one, what, secrets) for one in value]
        case Mapping():
            return {key: _filled_in(one, what, secrets) for key, one in value.items()}
    return value


def _secret(match: re.Match[str], what: str) -> str:
    """What is in the environment or in a file; none that has no end, and holds up who reads it."""
    kind, name = match[1], match[2]
    if kind == "env":
        found = os.environ.get(name)
        if found is None:
            raise ConfigError(f"{what}: the environment has no {name}")
        return found
    try:
        with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{what}: {name} is no regular file")
            return file.read(SECRET_BYTES_MAX).decode().strip()
    except OSError as error:
        raise ConfigError(f"{what}: {name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{what}: {name} is no UTF-8") from None


def _spoken(hint: Any) -> str:
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _spoken(next(one for one in inside if one is not type(None)))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inside))
    if origin is tuple:
        return "a list of texts"
    if origin is dict:
        return "a table"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(hint, "a text")


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """An option, for people and for consoles."""

    name: str
    kind: str
    """As `must be …` says it."""
    required: bool
    default: Any
    doc: str
    choices: tuple[Any, ...]
    secret: bool


def describe(cls: type[Any]) -> list[Described]:
    """The options of a Config, in their order."""
    hints = get_type_hints(cls)
    return [
        Described(
            field.name,
            _spoken(hints[field.name]),
            field.default is dataclasses.MISSING,
            None if field.default is dataclasses.MISSING else field.default,
            field.metadata.get("doc", ""),
            get_args(hints[field.name]) if get_origin(hints[field.name]) is Literal else (),
            bool(field.metadata.get("secret")),
        )
        for field in dataclasses.fields(cls)
    ]
