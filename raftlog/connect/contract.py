"""What a connector is: a source that gives records, or a sink that takes them.

A connector knows its own side alone. It sees no broker, and no offset is its to commit: the worker does that,
in the order that loses nothing. `raftlog.testing.connect` has the tests that every connector must pass.

All methods run on Trio. One that blocks belongs into `trio.to_thread.run_sync`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.records.record import Headers

Position = Mapping[str, Any]
"""Where a source is in a unit, as JSON: only the source knows what it means."""
Offsets = dict[TopicPartition, int]
"""By partition, the offset of the next record."""
BATCH_BYTES: Final = 1 << 20
"""What a batch of a source should have at most: it is in memory as a whole, and holds up others."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a source reads apart from the rest: a file, a table. It keeps its name over restarts."""

    text: str
    """Its partition, as Kafka Connect calls it: a JSON object with sorted keys."""

    @classmethod
    def of(cls, **partition: Any) -> Unit:
        """`Unit.of(filename="/var/log/app.log")`."""
        return cls(to_json(partition))

    @property
    def partition(self) -> dict[str, Any]:
        """What it was made of."""
        found: dict[str, Any] = json.loads(self.text)
        return found

    def __str__(self) -> str:
        return self.text


class SourceRecord(NamedTuple):
    """A record as a source gives it. Without `timestamp` (milliseconds since the epoch) it is now; without
    `partition` the key decides."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    timestamp: int | None = None
    headers: Headers = ()
    partition: int | None = None


class Batch(NamedTuple):
    """Records of a unit, and the position behind them. They are written together, or not at all."""

    records: Sequence[SourceRecord]
    position: Position


class Source:
    """Gives records. `Config` is a frozen dataclass whose fields are the connector's options."""

    Config: ClassVar[type]

    def __init__(self, config: Any, name: str) -> None:
        """`name` is the connector's in its pipeline: it tells apart what several write into one target."""
        self.config = config
        self.name = name

    async def open(self) -> None:
        """Called once, first. Raises Unavailable, or ConnectError for what will not pass."""

    async def units(self, stored: Mapping[Unit, Position]) -> Sequence[Unit]:
        """What there is to read now; asked again every second. `stored` has the position of each unit that
        was ever read, this run's included."""
        raise NotImplementedError

    def read(self, unit: Unit, position: Position | None) -> AsyncGenerator[Batch, None]:
        """An async generator of a unit's batches behind a position; None is where the unit begins.

        It waits while there is nothing, and ends when there will never be more; while `units` still gives the
        unit, it is asked again, and ends at once. A batch is asked for when the one before is written; one of
        more than BATCH_BYTES holds up others. Raises Unavailable, after which the unit is read anew from what
        is written, and PositionLost.
        """
        raise NotImplementedError

    async def committed(self, unit: Unit, position: Position) -> None:
        """All up to here is in the log for good: what was read may be acknowledged, or deleted."""

    async def aclose(self) -> None:
        """Called once, last."""


class Sink:
    """Takes records. `Config` is a frozen dataclass whose fields are the connector's options.

    After Unavailable the worker closes all partitions and opens them again: the sink forgets what it has not
    flushed.
    """

    Config: ClassVar[type]

    def __init__(self, config: Any, name: str) -> None:
        """`name` is the connector's in its pipeline: it tells apart what several write into one target."""
        self.config = config
        self.name = name

    async def open(self, partitions: frozenset[TopicPartition]) -> Offsets:
        """The sink has these partitions too now. Where the target knows how far it has them, that is given
        and holds; for the others the group's offsets do. Raises Unavailable."""
        raise NotImplementedError

    async def write(self, records: Sequence[Record]) -> None:
        """Take records, in the order of their partitions; they may be kept in memory until `flush`. What a
        transform made of one record has one offset, and is given in one call: it is safe when all of it is.

        Raises Unavailable, and Refused when the target will never take one of these, here or in the `flush`
        that follows. Then it has none of them, and has forgotten them: the worker gives them again in parts.
        """
        raise NotImplementedError

    async def skip(self, record: Record) -> None:
        """A record that the sink is not to write: a dead letter. It counts as written."""
        raise NotImplementedError

    async def flush(self) -> Offsets:
        """Make what was taken durable in the target. Gives the offset behind what is, by partition; nothing
        else is ever committed. Called also while nothing comes, at least once a second."""
        raise NotImplementedError

    async def close(self, partitions: frozenset[TopicPartition]) -> None:
        """Another has these partitions now: forget what is not flushed of them, and write nothing of it."""

    async def aclose(self) -> None:
        """Called once, last."""


def to_json(value: Any) -> str:
    """JSON in one way of writing it: keys sorted, no spaces. It is UTF-8, or ASCII when it has a text that
    UTF-8 cannot say, such as a file's name in another encoding."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    return text
