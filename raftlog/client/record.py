"""A record as a consumer hands it out."""

from __future__ import annotations

from typing import Generic, NamedTuple

from raftlog.client.kinds import K_co, V_co
from raftlog.records.record import Headers


class Record(NamedTuple, Generic[K_co, V_co]):
    """A record that was read. `timestamp` is in milliseconds since the epoch; `key` and `value` are bytes or
    None, or what the deserializers made of what is not None; `headers` are in the order they were sent."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: K_co | None
    value: V_co | None
    headers: Headers
