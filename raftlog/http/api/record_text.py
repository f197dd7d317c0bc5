"""Records as JSON: what is text is text, the rest is hex, and a list has the beginning of each only."""

from __future__ import annotations

from typing import Any, Final

from raftlog.client.record import Record
from raftlog.http.messages import bad_request

SHOWN_BYTES: Final = 2048
WHOLE_BYTES_MAX: Final = 1 << 20
HEADERS_SHOWN: Final = 100
HEADER_COST: Final = 64
"""Bytes of objects that a header or a record takes beside what is in it."""
Plain = dict[str, Any]


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


class Filter:
    """Which records are wanted: those that hold a text, as it is. Data, never code: nothing is compiled."""

    def __init__(self, text: str, places: str) -> None:
        self._wanted = text.encode()
        self._places = tuple(places.split(","))
        for place in self._places:
            if place not in ("key", "value") and not place.startswith("header:"):
                raise bad_request(f"in names key, value or header:NAME, not {place[:40]!r}")

    def takes(self, record: Record) -> bool:
        return not self._wanted or any(self._wanted in data for data in self._read(record))

    def _read(self, record: Record) -> list[bytes]:
        found: list[bytes | None] = []
        for place in self._places:
            if place == "key":
                found.append(record.key)
            elif place == "value":
                found.append(record.value)
            else:
                name = place.partition(":")[2]
                found += [value for key, value in record.headers if key == name]
        return [data for data in found if data is not None]
