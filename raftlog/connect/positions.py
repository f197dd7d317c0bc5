"""Where sources are: a compacted topic, in the format that Kafka Connect keeps its own in.

A record's key is `["CONNECTOR", {partition}]`, its value the position, both JSON. A source's positions are
written in the transaction of the records before them, and read when nobody else can write them any more:
after the connector's producer has fenced the one before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Final, Literal

import trio

from raftlog.client.client import Client
from raftlog.connect.contract import Offsets, Position, Unit, to_json
from raftlog.connect.errors import ConnectError, PositionLost
from raftlog.connect.topics import read_all

log: Final = logging.getLogger("raftlog.connect")

TOPIC: Final = "connect-offsets"
DELETIONS_SECONDS: Final = 3600.0
"""How long deletions are sure to be seen: topics keep them for `delete.retention.ms`, a day."""
POSITION_BYTES_MAX: Final = 256 << 10


class Positions:
    """Those of one connector."""

    def __init__(
        self, client: Client, topic: str, connector: str, on_lost: Literal["fail", "start"] = "fail"
    ) -> None:
        self.topic = topic
        self._client = client
        self._connector = connector
        self._on_lost = on_lost
        self._known: dict[Unit, Position] = {}
        self._read_to: Offsets | None = None
        self._read_at = 0.0
        self._keys: dict[Unit, bytes] = {}
        """As they are in the topic: another worker may write JSON in another way, and there is one a key."""

    @property
    def stored(self) -> Mapping[Unit, Position]:
        """What is known, by unit."""
        return self._known

    async def load(self) -> None:
        """Read all that is there now. Raises PositionLost for what cannot be read, ConnectError when nothing
        comes: a transaction that is left open is waited for."""
        self._known.clear()
        self._read_to = None
        self._read_to = await read_all(self._client, self.topic, self._take)
        self._read_at = trio.current_time()

    async def load_more(self) -> None:
        """Read what has come since the last time: all, the first time, when the topic was made anew, and when
        so long has passed that deletions may be gone from it. Raises as `load`."""
        now = trio.current_time()
        if self._read_to is None or now - self._read_at > DELETIONS_SECONDS:
            return await self.load()
        try:
            self._read_to = await read_all(self._client, self.topic, self._take, self._read_to)
            self._read_at = now
        except PositionLost:
            await self.load()

    def _take(self, key: bytes | None, value: bytes | None) -> None:
        try:
            connector, partition = json.loads(key or b"")
            if connector != self._connector:
                return
            unit = Unit(to_json(partition))
        except (ValueError, TypeError, RecursionError):
            return  # whose it is nobody knows
        self._keys[unit] = key or b""
        if value is None:
            self._known.pop(unit, None)
            return
        try:
            position = json.loads(value)
            if not isinstance(position, dict):
                raise ValueError("it is no JSON object")
        except (ValueError, RecursionError) as error:
            if self._on_lost == "start":
                log.warning("%s: the position of %s cannot be read, it begins anew", self._connector, unit)
                self._known.pop(unit, None)
                return
            raise PositionLost(
                f"the position of {unit} in {self.topic} cannot be read ({error}): write a right one, or set "
                'on_position_lost = "start" to read it from its beginning'
            ) from None
        self._known[unit] = position

    def record(self, unit: Unit, position: Position) -> tuple[bytes, bytes]:
        """Key and value that say where a unit is. Raises ConnectError for a position that is too large."""
        key = self._keys.get(unit) or to_json([self._connector, unit.partition]).encode()
        value = to_json(position).encode()
        if len(value) > POSITION_BYTES_MAX:
            raise ConnectError(
                f"the position of {unit} has {len(value)} bytes, and {POSITION_BYTES_MAX} is the most"
            )
        return key, value

    def moved(self, unit: Unit, position: Position) -> None:
        """It is written."""
        self._known[unit] = position

    def __repr__(self) -> str:
        return f"<Positions {self._connector} units={len(self._known)}>"
