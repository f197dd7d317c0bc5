"""A record's value as a line of text: for sinks that write lines, or JSON.

A JSON value stays the text that it is, so that no number loses its digits.
"""

from __future__ import annotations

import json
from typing import Any, Final

from raftlog.client.record import Record
from raftlog.connect import rows
from raftlog.connect.contract import to_json
from raftlog.connect.errors import Refused

_FEEDS: Final = str.maketrans("\r\n", "  ")


def as_it_is(record: Record) -> bytes:
    """The value; a record without one is empty. Raises Refused for one that would be two lines."""
    value = record.value or b""
    if b"\n" in value:
        raise Refused("the value has a line feed, and this is a file of lines")
    return value


def as_json(record: Record, *, place: bool) -> bytes:
    """The value in one line of JSON; a record without one is `null`. With `place` the value is an object,
    which begins with where the record is from; of a record without a value there is nothing else. Raises
    Refused."""
    text = json_text(record.value)
    if not place:
        return text.encode()
    told = to_json(rows.where(record))[:-1]
    if record.value is None:
        return (told + "}").encode()
    if not text.startswith("{"):
        raise Refused("the value is no JSON object")
    fields = text[1:].lstrip()
    return f"{told}{'' if fields == '}' else ','}{fields}".encode()


def json_text(value: bytes | None) -> str:
    """A JSON value, without line feeds. Raises Refused."""
    if value is None:
        return "null"
    try:
        text = value.decode()
        json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the value is no JSON: {error}") from error
    return text.translate(_FEEDS).strip()  # a text within JSON has none


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
