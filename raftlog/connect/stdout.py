"""`stdout`: prints records, for tutorials and to look into a pipeline. At least once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect.contract import Offsets, Sink
from raftlog.connect.options import option
from raftlog.connect.progress import Progress
from raftlog.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class StdoutConfig:
    format: str = option(
        "{value}", doc="A line, with {topic}, {partition}, {offset}, {timestamp}, {key} and {value}."
    )

    def __post_init__(self) -> None:
        try:
            self.format.format(topic="", partition=0, offset=0, timestamp=0, key="", value="")
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"format = {self.format!r}: {error}; it has topic, partition, offset, …"
            ) from None


class Stdout(Sink):
    """Prints records."""

    Config = StdoutConfig
    config: StdoutConfig

    def __init__(self, config: StdoutConfig, name: str) -> None:
        super().__init__(config, name)
        self._progress = Progress()

    async def open(self, partitions: frozenset[TopicPartition]) -> Offsets:
        """The target knows nothing."""
        return {}

    async def write(self, records: Sequence[Record]) -> None:
        """Print: in a thread, since who reads it may be slow."""
        await trio.to_thread.run_sync(print, "\n".join(map(self._line, records)))
        self._progress.took(records)

    def _line(self, record: Record) -> str:
        return self.config.format.format(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp=record.timestamp,
            key=(record.key or b"").decode("utf-8", "replace"),
            value=(record.value or b"").decode("utf-8", "replace"),
        )

    async def skip(self, record: Record) -> None:
        """Not to be printed."""
        self._progress.took([record])

    async def flush(self) -> Offsets:
        """What was printed."""
        sys.stdout.flush()
        return self._progress.offsets

    async def close(self, partitions: frozenset[TopicPartition]) -> None:
        """Others print them."""
        self._progress.forget(partitions)
