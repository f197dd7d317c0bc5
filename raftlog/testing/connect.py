"""What every connector must keep, as tests: subclass them beside your connector, and pytest runs them.

    class TestCrmSink(SinkContract):
        exactly_once = True

        def make(self, folder):                 # the same target each time for the same folder
            return CrmSink(CrmConfig(path=str(folder / "crm")), "crm")

        def contents(self, folder):             # the values that are there, in order
            return read_lines(folder / "crm")

The tests run on Trio (pytest-trio, `trio_mode = true`), without a broker. A crash is an object that is
forgotten without a goodbye.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

import trio

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect.contract import Offsets, Position, Sink, Source, SourceRecord, Unit
from raftlog.connect.errors import Refused

PATIENCE_S: Final = 40.0
P0: Final = TopicPartition("things", 0)
P1: Final = TopicPartition("things", 1)


def record(key: TopicPartition, offset: int) -> Record:
    """The record of a partition at an offset; its value is a JSON object with one field."""
    value = json.dumps({"n": f"{key.partition}/{offset}"}).encode()
    return Record(key.topic, key.partition, offset, 1_000 + offset, b"k", value, ())


class SinkContract:
    """What a sink must keep. `exactly_once` is whether its target tells where it is."""

    exactly_once = False

    def make(self, folder: Path) -> Sink:
        """A sink, of the same target each time for the same folder."""
        raise NotImplementedError

    def contents(self, folder: Path) -> Sequence[bytes]:
        """The values that the target has, in the order of each partition."""
        raise NotImplementedError

    def refused(self, key: TopicPartition, offset: int) -> Record | None:
        """A record that the target will never take, or None when it takes all."""
        return None

    # -- what they stand on

    async def _flushed(self, sink: Sink, wanted: Offsets) -> None:
        with trio.fail_after(PATIENCE_S):
            while True:
                safe = await sink.flush()
                assert all(offset <= wanted[key] for key, offset in safe.items() if key in wanted), (
                    f"flush said {safe}, and what was written ends at {wanted}"
                )
                if wanted.items() <= safe.items():
                    return
                await trio.sleep(0.05)

    def _there(self, folder: Path, *, of: int) -> list[int]:
        """The offsets of a partition that are there."""
        places = [json.loads(value)["n"].split("/") for value in self.contents(folder)]
        return [int(offset) for partition, offset in places if int(partition) == of]

    async def _again(self, folder: Path, committed: Offsets, end: int) -> None:
        """As a worker would after a crash: from where the target says, or the group."""
        sink = self.make(folder)
        at = await sink.open(frozenset([P0]))
        start = at.get(P0, committed.get(P0, 0))
        await sink.write([record(P0, offset) for offset in range(start, end)])
        await self._flushed(sink, {P0: end})
        await sink.close(frozenset([P0]))
        await sink.aclose()

    async def _loses_nothing(self, sink: Sink, folder: Path) -> None:
        """It crashes with 20 records written, of which the group knows 10; the next one goes on to 30."""
        await self._crash(sink)
        await self._again(folder, {P0: 10}, 30)
        there = self._there(folder, of=0)
        assert sorted(set(there)) == list(range(30))
        if self.exactly_once:
            assert there == list(range(30))

    # -- the tests

    async def test_what_is_written_and_flushed_is_there_in_order(self, tmp_path: Path) -> None:
        """Of two partitions, in several writes."""
        sink = self.make(tmp_path)
        await sink.open(frozenset([P0, P1]))
        for first in range(0, 30, 10):
            await sink.write([record(key, n) for n in range(first, first + 10) for key in (P0, P1)])
        await self._flushed(sink, {P0: 30, P1: 30})
        await sink.close(frozenset([P0, P1]))
        await sink.aclose()
        assert self._there(tmp_path, of=0) == self._there(tmp_path, of=1) == list(range(30))

    async def test_all_that_a_transform_makes_of_a_record_is_there(self, tmp_path: Path) -> None:
        """Two of each, in one write: they have one offset."""
        sink = self.make(tmp_path)
        await sink.open(frozenset([P0]))
        for first in range(0, 30, 10):
            await sink.write([record(P0, n)._replace(offset=n // 2) for n in range(first, first + 10)])
            await self._flushed(sink, {P0: first // 2 + 5})
        await sink.close(frozenset([P0]))
        await sink.aclose()
        assert self._there(tmp_path, of=0) == list(range(30))

    async def test_a_crash_before_the_offsets_are_committed_loses_nothing(self, tmp_path: Path) -> None:
        """The target has what was flushed, the group knows of the first half only."""
        sink = self.make(tmp_path)
        await sink.open(frozenset([P0]))
        await sink.write([record(P0, offset) for offset in range(10)])
        await self._flushed(sink, {P0: 10})
        await sink.write([record(P0, offset) for offset in range(10, 20)])
        await self._flushed(sink, {P0: 20})
        await self._loses_nothing(sink, tmp_path)

    async def test_a_crash_before_a_flush_loses_nothing(self, tmp_path: Path) -> None:
        """What was written and not flushed may be there or not."""
        sink = self.make(tmp_path)
        await sink.open(frozenset([P0]))
        await sink.write([record(P0, offset) for offset in range(10)])
        await self._flushed(sink, {P0: 10})
        await sink.write([record(P0, offset) for offset in range(10, 20)])
        await self._loses_nothing(sink, tmp_path)

    async def test_a_partition_that_is_closed_is_forgotten(self, tmp_path: Path) -> None:
        """Its buffer is not written, and nothing is told of it; the other goes on."""
        sink = self.make(tmp_path)
        await sink.open(frozenset([P0, P1]))
        await sink.write([record(key, n) for n in range(5) for key in (P0, P1)])
        await sink.close(frozenset([P0]))
        await self._flushed(sink, {P1: 5})
        assert P0 not in await sink.flush()
        await sink.close(frozenset([P1]))
        await sink.aclose()
        assert self._there(tmp_path, of=1) == list(range(5))

    async def test_a_record_that_is_left_out_counts_as_written(self, tmp_path: Path) -> None:
        """A dead letter between others, and one at the end."""
        sink = self.make(tmp_path)
        await sink.open(frozenset([P0]))
        await sink.write([record(P0, 0)])
        await sink.skip(record(P0, 1))
        await sink.write([record(P0, 2)])
        await self._flushed(sink, {P0: 3})
        await sink.skip(record(P0, 3))
        await self._flushed(sink, {P0: 4})
        await sink.close(frozenset([P0]))
        await sink.aclose()
        assert self._there(tmp_path, of=0) == [0, 2]

    async def test_of_a_write_that_is_refused_nothing_is_there(self, tmp_path: Path) -> None:
        """So that the worker can give the good ones again, by halves."""
        bad = self.refused(P0, 7)
        if bad is None:
            return
        sink = self.make(tmp_path)
        await sink.open(frozenset([P0]))
        await sink.write([record(P0, offset) for offset in range(5)])
        await self._flushed(sink, {P0: 5})
        refused = False
        try:
            await sink.write([record(P0, 5), record(P0, 6), bad, record(P0, 8)])
            await sink.flush()
        except Refused:
            refused = True
        assert refused, "the target took what it is said to refuse"
        await sink.write([record(P0, 5), record(P0, 6)])
        await self._flushed(sink, {P0: 7})
        await sink.skip(bad)
        await sink.write([record(P0, 8)])
        await self._flushed(sink, {P0: 9})
        await sink.close(frozenset([P0]))
        await sink.aclose()
        assert self._there(tmp_path, of=0) == [0, 1, 2, 3, 4, 5, 6, 8]

    async def _crash(self, sink: Sink) -> None:
        """The process ends: descriptors and locks go, and nothing else is done. Override it when `aclose`
        would do more than that."""
        await sink.aclose()


class SourceContract:
    """What a source must keep."""

    def make(self, folder: Path) -> Source:
        """A source, of the same origin each time for the same folder."""
        raise NotImplementedError

    def feed(self, folder: Path, values: Sequence[str]) -> None:
        """Let the origin have more: each is a word, and must be the value of a record, or in it."""
        raise NotImplementedError

    def value(self, made: SourceRecord) -> str:
        """The word that was fed, of a record."""
        return (made.value or b"").decode()

    async def _read(
        self, source: Source, stored: dict[Unit, Position], count: int
    ) -> tuple[list[str], list[tuple[int, Unit, Position]]]:
        """So many records at least, and after how many of them each position came."""
        values: list[str] = []
        positions = []
        with trio.fail_after(PATIENCE_S):
            while not (units := await source.units(stored)):  # noqa: ASYNC110 - of the origin
                await trio.sleep(0.05)
            for unit in units:
                if len(values) >= count:
                    break
                async with aclosing(source.read(unit, stored.get(unit))) as batches:
                    async for batch in batches:
                        json.dumps(batch.position)
                        values += map(self.value, batch.records)
                        positions.append((len(values), unit, batch.position))
                        await source.committed(unit, batch.position)
                        if len(values) >= count:
                            break
        return values, positions

    async def _opened(self, folder: Path) -> Source:
        source = self.make(folder)
        await source.open()
        return source

    async def test_what_is_fed_is_read_once_in_order(self, tmp_path: Path) -> None:
        """From nothing."""
        words = [f"word-{n}" for n in range(20)]
        self.feed(tmp_path, words)
        source = await self._opened(tmp_path)
        values, _ = await self._read(source, {}, len(words))
        await source.aclose()
        assert values == words

    async def test_every_position_is_where_it_goes_on(self, tmp_path: Path) -> None:
        """A crash after any batch: what is written is not read again, what is not is."""
        words = [f"word-{n}" for n in range(10)]
        more = [f"more-{n}" for n in range(10)]
        self.feed(tmp_path, words)
        source = await self._opened(tmp_path)
        values, positions = await self._read(source, {}, len(words))
        await source.aclose()
        self.feed(tmp_path, more)
        assert values == words
        for after, unit, position in positions[-3:]:
            source = await self._opened(tmp_path)
            again, _ = await self._read(source, {unit: position}, 20 - after)
            await source.aclose()
            assert values[:after] + again == [*words, *more]
