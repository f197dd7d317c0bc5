"""`generator`: numbered JSON records, for tutorials and tests. Its position is how many there were."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from raftlog.connect.contract import Batch, Position, Source, SourceRecord, Unit
from raftlog.connect.errors import PositionLost
from raftlog.connect.options import option

BATCH_SECONDS: Final = 0.1
"""A slow generator gives what is due so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    topic: str = option(doc="The topic to write to.")
    count: int = option(0, doc="How many records in all; 0 is without an end.", least=0)
    per_second: float = option(10.0, doc="How many a second; 0 is as fast as they are written.", least=0)
    batch: int = option(500, doc="Records that are written together at most.", least=1)
    keys: int = option(10, doc="How many keys there are, in turns; 0 is none.", least=0)


class Generator(Source):
    """Gives `{"number": N}`."""

    Config = GeneratorConfig
    config: GeneratorConfig

    async def units(self, stored: Mapping[Unit, Position]) -> Sequence[Unit]:
        """One."""
        return [Unit.of(generator=self.config.topic)]

    async def read(self, unit: Unit, position: Position | None) -> AsyncGenerator[Batch, None]:
        """From the next number on."""
        config = self.config
        number = position.get("number") if position is not None else 0
        if type(number) is not int or number < 0:
            raise PositionLost(f"the position of {unit} is {position}, and has no number: it is another's")
        due, since = float(number), trio.current_time()
        while not config.count or number < config.count:
            most = number + config.batch if not config.count else min(number + config.batch, config.count)
            if config.per_second:
                due += (trio.current_time() - since) * config.per_second
                since = trio.current_time()
                most = min(most, int(due))
            if most > number:
                yield Batch([self._record(each) for each in range(number, most)], {"number": most})
                number = most
            if config.per_second:
                await trio.sleep(max(BATCH_SECONDS, 1 / config.per_second))

    def _record(self, number: int) -> SourceRecord:
        key = b"key-%d" % (number % self.config.keys) if self.config.keys else None
        return SourceRecord(self.config.topic, json.dumps({"number": number}).encode(), key)
