"""Records as JSON: what is text is text, the rest is hex, and a list has the beginning of each only."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from raftlog.client.record import Record
from raftlog.http.messages import bad_request

SHOWN_BYTES: Final = 2048
WHOLE_BYTES_MAX: Final = 1 << 20
HEADERS_SHOWN: Final = 100
HEADER_COST: Final = 64
"""Bytes of objects that a header or a record takes beside what is in it."""
JSON_BYTES_MAX: Final = 64 << 10
"""Of a value that is parsed to look for a field, in one go: a millisecond or two, eight at most."""
FIELD_DEPTH_MAX: Final = 20
Plain = dict[str, Any]

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def record_row(record: Record, shown: int = SHOWN_BYTES) -> Plain:
    return {
        "partition": record.partition,
        "offset": str(record.offset),
        "timestamp": str(record.timestamp),
        "key": data_of(record.key, shown),
        "value": data_of(record.value, shown),
        "headers": [[name, data_of(value, shown)] for name, value in record.headers[:HEADERS_SHOWN]],
        "header_count": len(record.headers),
    }


def size_of(record: Record) -> int:
    """About what a record takes in memory."""
    headers = sum(HEADER_COST + len(name) + len(value or b"") for name, value in record.headers)
    return HEADER_COST + len(record.key or b"") + len(record.value or b"") + headers


def data_of(data: bytes | None, shown: int = SHOWN_BYTES) -> Plain | None:
    """A key, a value or a header. The cut does not go through a character."""
    if data is None:
        return None
    head = bytes(data[:shown])
    is_cut = len(data) > shown
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if is_cut and error.start >= len(head) - 3:
            text = head[: error.start].decode("utf-8")
        else:
            return {"size": len(data), "as": "hex", "text": head.hex(), "cut": is_cut}
    return {"size": len(data), "as": "utf8", "text": text, "cut": is_cut}


def bytes_of(value: object, what: str) -> bytes | None:
    """The other way: `{"as": "utf8", "text": …}`, or hex; null is null. Raises Refusal."""
    match value:
        case None:
            return None
        case {"as": "utf8", "text": str(text)}:
            return text.encode("utf-8", "surrogatepass")
        case {"as": "hex", "text": str(text)}:
            try:
                return bytes.fromhex(text)
            except ValueError as error:
                raise bad_request(f"the {what} is no hex: {error}") from error
        case _:
            raise bad_request(f'the {what} is null or {{"as": "utf8" or "hex", "text": "…"}}')


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a JSON value and what it has to be: `total>17.12`, `customer.name=Ann`, `tags.0~blue`."""

    path: tuple[str, ...]
    operator: str
    wanted: str

    @classmethod
    def parse(cls, text: str) -> Field:
        """Raises Refusal."""
        for place, char in enumerate(text):
            if char in "=<>~!":
                operator = text[place : place + 2] if text[place : place + 2] in ("!=", "<=", ">=") else char
                path = tuple(text[:place].strip().removeprefix("$.").split("."))
                if operator != "!" and path != ("",) and len(path) <= FIELD_DEPTH_MAX:
                    return cls(path, operator, text[place + len(operator) :].strip())
                break
        raise bad_request("json is a field, one of = != < <= > >= ~ and a value: total>17.12")

    def is_in(self, value: bytes | None) -> bool:
        """False for what is no JSON, or too large to be parsed while others wait."""
        if value is None or len(value) > JSON_BYTES_MAX:
            return False
        try:
            found: Any = json.loads(value, parse_float=Decimal)
        except (ValueError, RecursionError):
            return False
        for name in self.path:
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isascii() and name.isdigit() and len(name) < 9:
                place = int(name)
                if place >= len(found):
                    return False
                found = found[place]
            else:
                return False
        return self._holds(found)

    def _holds(self, found: Any) -> bool:
        wanted = self.wanted.removeprefix('"').removesuffix('"')
        if self.operator == "~":
            return wanted in found if isinstance(found, str) else False
        if isinstance(found, int | Decimal) and not isinstance(found, bool):
            try:
                number = Decimal(wanted)
            except ArithmeticError:
                return self.operator == "!="
            return _COMPARE[self.operator](Decimal(found), number)
        text = found if isinstance(found, str) else json.dumps(found, default=str)
        return _COMPARE[self.operator](text, wanted)


class Filter:
    """Which records are wanted: those that hold a text, as it is. Data, never code: nothing is compiled."""

    def __init__(self, text: str, places: str, field: str = "") -> None:
        self._field = Field.parse(field) if field else None
        self._wanted = text.encode()
        self._places = tuple(places.split(","))
        for place in self._places:
            if place not in ("key", "value", "headers") and not place.startswith("header:"):
                raise bad_request(f"in names key, value, headers or header:NAME, not {place[:40]!r}")

    @property
    def takes_all(self) -> bool:
        return not self._wanted and self._field is None

    def takes(self, record: Record) -> bool:
        if self._wanted and not any(self._wanted in data for data in self._read(record)):
            return False
        return self._field is None or self._field.is_in(record.value)

    def _read(self, record: Record) -> list[bytes]:
        found: list[bytes | None] = []
        for place in self._places:
            if place == "key":
                found.append(record.key)
            elif place == "value":
                found.append(record.value)
            elif place == "headers":
                for header, value in record.headers:
                    found += [header.encode(), value]
            else:
                name = place.partition(":")[2]
                found += [value for key, value in record.headers if key == name]
        return [data for data in found if data is not None]
