"""A record's value as a row of a table: for sinks that write tables."""

from __future__ import annotations

import json
from typing import Any, Final

from raftlog.client.record import Record
from raftlog.connect.errors import Refused

COLUMN_LENGTH_MAX: Final = 200
COLUMNS_MAX: Final = 500
PLACE: Final = ("_topic", "_partition", "_offset", "_timestamp", "_key")
"""Columns that say where a row is from."""


def row(record: Record, *, place: bool) -> dict[str, Any]:
    """Columns and values of a record that has a value: a JSON object's fields, as JSON has them, and with
    `place` where it is from. Raises Refused."""
    try:
        found = json.loads(record.value or b"")
    except (ValueError, RecursionError) as error:
        raise Refused(f"the value is no JSON: {error}") from error
    if not isinstance(found, dict) or not found:
        raise Refused("the value is no JSON object with fields")
    for name in found:
        if not name or "\0" in name or len(name) > COLUMN_LENGTH_MAX:
            raise Refused(f"a field is called {name[:40]!r}, and no column can be")
    return where(record) | found if place else found


def where(record: Record) -> dict[str, Any]:
    """Columns and values that say where a row is from."""
    key = None if record.key is None else record.key.decode("utf-8", "replace")
    place = (record.topic, record.partition, record.offset, record.timestamp, key)
    return dict(zip(PLACE, place, strict=True))


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
