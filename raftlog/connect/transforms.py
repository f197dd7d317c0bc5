"""What happens to a record between its connector and the log. A transform is a function of a record that
gives a record, several, or None. Records are named tuples: `record._replace(value=…)` is how to change one.

`type = "parse"` and `"key"` are built in; `type = "mycompany.logs:mask_cards"` is anybody's function.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from raftlog.connect.errors import Refused
from raftlog.connect.options import build, option
from raftlog.errors import ConfigError

Transform = Callable[[Any], Any]

NOT_PARSED: Final = "raftlog.not-parsed"
"""The header of a record that `parse` has left as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parse:
    """A text becomes a JSON object of the pattern's named groups."""

    pattern: str = option(doc="A regular expression with named groups, for the whole value.")
    on_error: Literal["keep", "drop", "fail"] = option(
        "fail", doc="What becomes of a value that does not match: keep it, with a header; drop it; fail."
    )

    def function(self) -> Transform:
        try:
            pattern = re.compile(self.pattern, re.DOTALL)
        except re.error as error:
            raise ConfigError(f"pattern = {self.pattern!r}: {error}") from None
        if not pattern.groupindex:
            raise ConfigError(f"pattern = {self.pattern!r}: it has no named group, (?P<name>…)")

        def parse(record: Any) -> Any:
            match = pattern.fullmatch((record.value or b"").decode("utf-8", "replace"))
            if match is not None:
                return record._replace(value=json.dumps(match.groupdict()).encode())
            if self.on_error == "fail":
                raise Refused(f"the value does not match {self.pattern!r}")
            if self.on_error == "drop":
                return None
            return record._replace(headers=(*record.headers, (NOT_PARSED, b"")))

        return parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The key becomes a field of the value, which is a JSON object."""

    field: str = option(doc="The field. A text becomes the key as it is, anything else as JSON.")

    def function(self) -> Transform:
        def key(record: Any) -> Any:
            try:
                found = json.loads(record.value or b"null")[self.field]
            except (ValueError, TypeError, KeyError) as error:
                raise Refused(f"the value is no JSON object with a field {self.field!r}") from error
            return record._replace(key=(found if isinstance(found, str) else json.dumps(found)).encode())

        return key


_BUILT_IN: Final[dict[str, type[Parse] | type[Key]]] = {"parse": Parse, "key": Key}


def make(given: Sequence[Mapping[str, Any]], where: str) -> tuple[Transform, ...]:
    """The transforms of a connector. Raises ConfigError."""
    return tuple(_make(one, f"{where}: transform {number}") for number, one in enumerate(given, 1))


def _make(given: Mapping[str, Any], where: str) -> Transform:
    options = dict(given)
    kind = options.pop("type", None)
    if not isinstance(kind, str):
        raise ConfigError(f'{where} needs type = "{", ".join(_BUILT_IN)} or module:function"')
    if kind in _BUILT_IN:
        try:
            return build(_BUILT_IN[kind], options, where, lambda made: made.function())
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}" if where not in str(error) else str(error)) from None
    module, _, name = kind.partition(":")
    if not name:
        raise ConfigError(
            f"{where}: type = {kind!r} is none of {', '.join(_BUILT_IN)}, and no module:function"
        )
    if options:
        raise ConfigError(f"{where}: a function of your own takes no options, and has {', '.join(options)}")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}: type = {kind!r} cannot be loaded: {error}") from None
    if not callable(found):
        raise ConfigError(f"{where}: {kind} is no function")
    return found  # type: ignore[no-any-return]


def apply(transforms: Iterable[Transform], record: Any) -> list[Any]:
    """What becomes of a record. Raises Refused for any exception of a transform's."""
    records = [record]
    for transform in transforms:
        made: list[Any] = []
        for one in records:
            try:
                result = transform(one)
                if result is None:
                    continue
                # A record is a tuple itself: several come in a list, or from a generator, which runs here.
                several = [result] if isinstance(result, type(record)) else list(result)
            except Refused:
                raise
            except Exception as error:
                raise Refused(f"a transform raised {type(error).__name__}: {error}") from error
            for each in several:
                if not isinstance(each, type(record)):
                    raise Refused(
                        f"a transform gave {type(each).__name__}, which is no {type(record).__name__}"
                    )
            made += several
        records = made
    return records
