"""Runs a source: reads its units, writes their records and positions, and tells it what is written.

A unit's next batch is asked for when the one before is in the log. What several units have ready goes into
one transaction; when that fails it is tried again with the same records, and no position moves meanwhile. At
least once, records are acknowledged before the position is sent.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import trio

from raftlog.client.client import Client
from raftlog.client.errors import ClientError, CommitUnknown, ProducerFailed, ProducerFenced, may_pass
from raftlog.client.nursery import background
from raftlog.client.producer import Producer
from raftlog.client.transactional import Transaction
from raftlog.connect import deadletters, transforms
from raftlog.connect.contract import Batch, Position, Source, SourceRecord, Unit
from raftlog.connect.errors import ConnectError, PositionLost, Refused, Unavailable
from raftlog.connect.pipeline import SourceSettings, Spec
from raftlog.connect.positions import Positions
from raftlog.connect.retrying import Retrying
from raftlog.connect.status import Status

log: Final = logging.getLogger("raftlog.connect")

UNITS_MAX: Final = 256
"""Units that are read at once: each may have a batch in memory."""
TOGETHER_MAX: Final = 32
"""Batches of one transaction."""
TOGETHER_BYTES: Final = 8 << 20
"""Or fewer, when they are large: the transaction must end before its time is over."""
UNITS_SECONDS: Final = 1.0
"""Between two looks for units."""
TRANSACTION_TIMEOUT_MS: Final = 10_000
"""An open transaction of a worker that died holds up its successor for so long."""
SETTLE_PAUSE_SECONDS: Final = 0.2
YIELD_RECORDS: Final = 500
"""Records that are transformed between two looks at the event loop."""


@dataclass(eq=False)
class _Ready:
    """A batch on its way."""

    unit: Unit
    records: list[SourceRecord]
    position: Position
    count: int
    size: int
    """Bytes of keys and values."""
    written: trio.Event = field(default_factory=trio.Event)


class SourceRunner:
    """One source, until it is cancelled."""

    def __init__(self, spec: Spec, client: Client, positions_topic: str, status: Status) -> None:
        assert isinstance(spec.settings, SourceSettings)
        self._spec = spec
        self._settings = spec.settings
        self._client = client
        self._status = status
        self._once = spec.settings.guarantee == "exactly_once"
        self._positions = Positions(client, positions_topic, spec.name, spec.settings.on_position_lost)
        self._reading: set[Unit] = set()
        self._out, self._in = trio.open_memory_channel[_Ready](0)
        self._source: Source
        self._producer: Producer

    def _retrying(self) -> Retrying:
        return Retrying(self._spec.name, self._spec.errors.retry_s, self._status)

    async def run(self) -> None:
        """Read and write. Raises ConnectError and ClientError."""
        source = self._spec.connector(self._spec.config, self._spec.name)
        assert isinstance(source, Source)
        self._source = source
        try:
            async with self._client.producer(
                transactional_id=f"connect-{self._spec.name}" if self._once else None,
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
                linger_ms=5,
            ) as self._producer:
                await self._positions.load()  # whoever wrote them before is fenced now
                await self._open()
                self._status.state = "RUNNING"
                async with background() as nursery:
                    nursery.start_soon(self._keep_looking, nursery)
                    await self._keep_writing()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await source.aclose()

    async def _open(self) -> None:
        retrying = self._retrying()
        while True:
            try:
                return await self._source.open()
            except Unavailable as error:
                await trio.sleep(retrying.failed(error))

    # -- reading

    async def _keep_looking(self, nursery: trio.Nursery) -> None:
        """Begin with units as they appear."""
        retrying = self._retrying()
        while True:
            try:
                units = await self._source.units(self._positions.stored)
                retrying.worked()
            except Unavailable as error:
                await trio.sleep(retrying.failed(error))
                continue
            for unit in units:
                if unit in self._reading:
                    continue
                if len(self._reading) >= UNITS_MAX:
                    raise ConnectError(
                        f"there are more than {UNITS_MAX} units to read at once: share them out among "
                        "several connectors"
                    )
                self._reading.add(unit)
                nursery.start_soon(self._read, unit)
            await trio.sleep(UNITS_SECONDS)

    async def _read(self, unit: Unit) -> None:
        """A unit, to its end; after trouble anew from what is written. One that has ended is read on when
        the next look finds it: what is deleted may come again."""
        retrying = self._retrying()
        begins_anew = False
        while True:
            position = None if begins_anew else self._positions.stored.get(unit)
            try:
                async with aclosing(self._source.read(unit, position)) as batches:
                    async for batch in batches:
                        await self._pass_on(unit, batch)
                        retrying.worked()
                        begins_anew = False
                self._reading.discard(unit)
                return
            except Unavailable as error:
                await trio.sleep(retrying.failed(error))
            except PositionLost as error:
                if position is None or self._settings.on_position_lost == "fail":
                    raise
                log.error("connector %s: %s; it begins anew", self._spec.name, error)
                begins_anew = True

    async def _pass_on(self, unit: Unit, batch: Batch) -> None:
        records: list[SourceRecord] = []
        for number, record in enumerate(batch.records, 1):
            if number % YIELD_RECORDS == 0:
                await trio.lowlevel.checkpoint()
            try:
                records += transforms.apply(self._spec.transforms, record)
            except Refused as refused:
                records += self._bad(unit, record, refused)
        size = sum(len(record.value or b"") + len(record.key or b"") for record in records)
        ready = _Ready(unit, records, batch.position, len(batch.records), size)
        await self._out.send(ready)
        await ready.written.wait()
        await self._source.committed(unit, batch.position)

    def _bad(self, unit: Unit, record: SourceRecord, refused: Refused) -> list[SourceRecord]:
        """What becomes of a record that a transform does not take."""
        errors = self._spec.errors
        if not errors.leaves_out:
            raise ConnectError(f"a record of {unit} for {record.topic}: {refused}") from refused
        if errors.dlq is None:
            self._status.left_out += 1
            return []
        self._status.dead_letters += 1
        told = deadletters.headers(self._spec.name, "TRANSFORMATION", refused, {"unit": unit.text})
        return [record._replace(topic=errors.dlq, partition=None, headers=(*record.headers, *told))]

    # -- writing

    async def _keep_writing(self) -> None:
        while True:
            together = [await self._in.receive()]
            size = together[0].size
            while len(together) < TOGETHER_MAX and size < TOGETHER_BYTES:
                try:
                    together.append(self._in.receive_nowait())
                except trio.WouldBlock:
                    break
                size += together[-1].size
            await self._write(together)
            for ready in together:
                self._positions.moved(ready.unit, ready.position)
                self._status.records += ready.count
                self._status.topics.update({record.topic for record in ready.records})
                ready.written.set()

    async def _write(self, together: list[_Ready]) -> None:
        """Write batches and positions, however often it takes. Raises what will not pass."""
        retrying = self._retrying()
        while True:
            try:
                await (self._write_once(together) if self._once else self._write_at_least_once(together))
                return retrying.worked()
            except ProducerFailed as error:
                raise _commits_no_more(error) from error
            except ClientError as error:
                # What may be written is not written again: this run does not know any more where it is. A
                # worker that another has taken over from is told so by its next try.
                if isinstance(error, CommitUnknown) or not may_pass(error):
                    raise
                await trio.sleep(retrying.failed(error))

    async def _write_once(self, together: list[_Ready]) -> None:
        transaction = None
        try:
            async with self._producer.transaction() as transaction:
                for ready in together:
                    await self._send(ready.records)
                await self._send_positions(together)
        except CommitUnknown:
            assert transaction is not None, "what is unsettled was begun"
            await self._settle(transaction)

    async def _settle(self, transaction: Transaction) -> None:
        """Find out whether a commit has succeeded: until then nothing is read on."""
        told = "the brokers do not answer"
        with trio.move_on_after(max(60.0, self._spec.errors.retry_s)):
            while True:
                try:
                    return await transaction.settle()
                except CommitUnknown as error:
                    told = str(error)
                    log.warning("connector %s: %s", self._spec.name, error)
                    await trio.sleep(SETTLE_PAUSE_SECONDS)
        raise ConnectError(
            f"whether the last batch is written is not known, the next start finds out: {told}"
        )

    async def _write_at_least_once(self, together: list[_Ready]) -> None:
        for ready in together:
            await self._send(ready.records)
        await self._producer.flush()
        await self._send_positions(together)
        await self._producer.flush()

    async def _send(self, records: list[SourceRecord]) -> None:
        for record in records:
            await self._producer.send_soon(
                record.topic,
                record.value,
                key=record.key,
                partition=record.partition,
                timestamp_ms=record.timestamp,
                headers=record.headers or None,
            )

    async def _send_positions(self, together: list[_Ready]) -> None:
        for ready in together:
            key, value = self._positions.record(ready.unit, ready.position)
            await self._producer.send_soon(self._positions.topic, value, key=key)


def _commits_no_more(error: ProducerFailed) -> ConnectError:
    if not isinstance(error, ProducerFenced):
        return ConnectError(f"nothing can be written any more: {error}")
    if error.timed_out:
        return ConnectError(
            "a batch took so long to write that the brokers have aborted it, as when the machine sleeps"
        )
    return ConnectError("another worker runs this connector, and has taken over: stop one of them")
