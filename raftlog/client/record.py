"""A record as a consumer hands it out."""

from __future__ import annotations

from typing import Any, NamedTuple

from raftlog.records.record import Headers


class Record(NamedTuple):
    """A record that was read. `timestamp` is in milliseconds since the epoch; `key` and `value` are bytes or
    None, or what the deserializers made of what is not None; `headers` are in the order they were sent."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: Any
    value: Any
    headers: Headers
