"""What a setting is: its name, type, default, range and meaning; parsing one value.

A value is text outside (files, the environment, the wire) and typed inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

Value = bool | int | float | str | tuple[str, ...] | None
Scope = Literal["broker", "topic"]

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1
DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000


class ConfigType(Enum):
    """The types of DescribeConfigs; the values are its numbers (KIP-569)."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


_BITS: Final = {ConfigType.SHORT: 16, ConfigType.INT: 32, ConfigType.LONG: 64}


class BadValue(ValueError):
    """A value that a key does not take; the text is the reason alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """One row of the table.

    `minimum` and `maximum` are inclusive. `check` gets the parsed value and returns why it is not
    taken, or None. `synonyms` are the broker keys that a topic key's default comes from, the first one
    set wins, each with what its unit is multiplied by; for a broker key they are other names of it.
    """

    name: str
    type: ConfigType
    default: Value
    doc: str
    scope: Scope = "broker"
    minimum: int | float | None = None
    maximum: int | float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Value], str | None] | None = None
    synonyms: tuple[tuple[str, int], ...] = ()
    ignored: bool = False
    """Taken so that tools work, without effect; `doc` says why."""

    @property
    def sensitive(self) -> bool:
        """Whether the value is never shown."""
        return self.type is ConfigType.PASSWORD

    @property
    def valid_values(self) -> str:
        """The range or the choices, for people; empty when everything goes."""
        if self.choices:
            return ", ".join(self.choices)
        low = "" if self.minimum is None else f"{self.minimum}"
        high = "" if self.maximum is None else f"{self.maximum}"
        if low and high:
            return f"{low} to {high}"
        return f"at least {low}" if low else f"at most {high}" if high else ""

    def parse(self, text: str) -> Value:
        """The typed value; raises BadValue with the reason."""
        value = self._parse_type(text.strip())
        self._check_range(value)
        return value

    def format(self, value: Value) -> str | None:
        """The text that parses to `value`; None for no value."""
        if value is None:
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        return ",".join(value) if isinstance(value, tuple) else str(value)

    def _parse_type(self, text: str) -> Value:
        match self.type:
            case ConfigType.BOOLEAN:
                if text.lower() not in ("true", "false"):
                    raise BadValue("it is true or false")
                return text.lower() == "true"
            case ConfigType.INT | ConfigType.SHORT | ConfigType.LONG:
                return _parse_integer(text, _BITS[self.type])
            case ConfigType.DOUBLE:
                try:
                    number = float(text)
                except ValueError:
                    raise BadValue("it is a number") from None
                if number != number or number in (float("inf"), float("-inf")):
                    raise BadValue("it is a finite number")
                return number
            case ConfigType.LIST:
                return tuple(item.strip() for item in text.split(",") if item.strip())
            case _:
                return text

    def _check_range(self, value: Value) -> None:
        items = value if isinstance(value, tuple) else (value,)
        for item in items if self.choices else ():
            if item not in self.choices:
                raise BadValue(f"it is one of {', '.join(self.choices)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = self.minimum, self.maximum
            if (low is not None and value < low) or (high is not None and value > high):
                raise BadValue(f"it must be {self.valid_values}")
        if self.check is not None and (reason := self.check(value)) is not None:
            raise BadValue(reason)


def _parse_integer(text: str, bits: int) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    # 20 digits hold every i64: int() of a long text takes quadratic time
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
        raise BadValue("it is a whole number")
    number = int(text)
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise BadValue(f"it does not fit {bits} bits")
    return number


def key(name: str, kind: str, default: Value, doc: str, **rest: Any) -> ConfigKey:
    """A row of the table; `kind` is the name of its ConfigType."""
    return ConfigKey(name=name, type=ConfigType[kind], default=default, doc=doc, **rest)
