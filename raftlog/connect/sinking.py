"""Runs a sink: gives it records, and commits what it says is safe.

The one loop calls the sink, and takes a lock for it that the group's callbacks take as well. Whatever goes
wrong, all partitions are closed, opened again and read from what is committed: so nothing is kept in memory
while a target is down. They are paused meanwhile, and the loop goes on polling, so that the member stays in
its group.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import trio

from raftlog.client.client import Client
from raftlog.client.consumer import Consumer, RebalanceListener
from raftlog.client.errors import ClientError, DeliveryError, NoOffset, RebalanceNeeded, is_retriable
from raftlog.client.metadata import TopicPartition
from raftlog.client.producer import Producer
from raftlog.client.record import Record
from raftlog.connect import deadletters, transforms
from raftlog.connect.contract import Offsets, Sink
from raftlog.connect.errors import ConnectError, PositionLost, Refused, Unavailable
from raftlog.connect.pipeline import SinkSettings, Spec
from raftlog.connect.retrying import Retrying
from raftlog.connect.status import Status

log: Final = logging.getLogger("raftlog.connect")

YIELD_RECORDS: Final = 500
"""Records that are transformed between two looks at the event loop."""
POLL_SECONDS_MAX: Final = 10.0
"""Of one wait for records: who does not poll is taken for dead by its group."""
STOP_SECONDS_MAX: Final = 5.0
"""How long a sink that is stopped may take for its last flush."""


class SinkRunner:
    """One sink, until it is cancelled."""

    def __init__(self, spec: Spec, client: Client, status: Status) -> None:
        assert isinstance(spec.settings, SinkSettings)
        self._spec = spec
        self._settings = spec.settings
        self._client = client
        self._status = status
        self._lock = trio.Lock()
        self._open: set[TopicPartition] = set()
        self._to_open: set[TopicPartition] = set()
        self._committed: Offsets = {}
        self._retrying = Retrying(spec.name, spec.errors.retry_s, status)
        self._pause_s = 0.0
        self._sink: Sink
        self._consumer: Consumer
        self._dlq: Producer | None = None

    async def run(self) -> None:
        """Read and write. Raises ConnectError and ClientError."""
        sink = self._spec.connector(self._spec.config, self._spec.name)
        assert isinstance(sink, Sink)
        self._sink = sink
        settings = self._settings
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._end)
            if self._spec.errors.dlq is not None:
                self._dlq = await stack.enter_async_context(self._client.producer())
            self._consumer = await stack.enter_async_context(
                self._client.consumer(
                    *settings.topics,
                    group=settings.group or f"connect-{self._spec.name}",
                    listener=_Listener(self),
                    auto_offset_reset="none",
                    enable_auto_commit=False,
                    isolation_level=settings.isolation,
                    session_timeout_ms=settings.session_timeout_ms,
                    heartbeat_interval_ms=min(3_000, settings.session_timeout_ms / 3),
                    prefetch_max_bytes=settings.buffer_bytes,
                    fetch_max_wait_ms=min(500, settings.batch_wait_ms),
                )
            )
            self._status.state = "RUNNING"
            try:
                await self._loop()
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS_MAX):
                    await self._stop()

    async def _stop(self) -> None:
        """A last flush. What fails now comes again at the next start."""
        async with self._lock:
            try:
                await self._flush()
            except (ConnectError, ClientError) as error:
                log.warning("connector %s: its last flush failed: %s", self._spec.name, error)
            await self._sink.close(frozenset(self._open))
            self._open.clear()

    async def _end(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS_MAX):
            await self._sink.aclose()

    # -- the loop

    async def _loop(self) -> None:
        while True:
            try:
                await self._wait()
                records = await self._consumer.poll(
                    self._settings.batch_records,
                    max_wait_ms=self._pause_s * 1000 or self._settings.batch_wait_ms,
                )
                async with self._lock:
                    # Of a partition that was lost meanwhile, and came again, all is read anew: so these are
                    # chosen before it is opened.
                    mine = [one for one in records if TopicPartition(one.topic, one.partition) in self._open]
                    await self._open_new()
                    if mine:
                        await self._put(mine)
                    await self._flush()
                self._pause_s = 0.0
                if mine:
                    self._retrying.worked()
            except (Unavailable, ClientError) as error:
                if not _may_pass(error):
                    raise
                async with self._lock:
                    await self._keep(error)
                    await self._begin_again()
                self._pause_s = self._retrying.failed(error)

    async def _wait(self) -> None:
        """A long pause, in which the group is heard. All partitions are paused, those that come as well."""
        until = trio.current_time() + self._pause_s
        while (left := until - trio.current_time()) > POLL_SECONDS_MAX:
            await self._consumer.poll(1, max_wait_ms=POLL_SECONDS_MAX * 1000)
        self._pause_s = max(0.0, left)

    async def _keep(self, error: Exception) -> None:
        """Commit what a sink has that cannot go on, so that it does not come again."""
        if isinstance(error, Unavailable) and error.safe:
            try:
                await self._commit(error.safe)
            except ClientError as failed:
                log.warning("connector %s: what is written comes again: %s", self._spec.name, failed)

    async def _begin_again(self) -> None:
        """Everything from what is committed."""
        await self._sink.close(frozenset(self._open))
        self._to_open |= self._open
        self._open.clear()
        held = self._consumer.assignment
        self._to_open &= held
        self._consumer.pause(*held)

    async def _open_new(self) -> None:
        """Have the sink open the partitions that have come, and read on where it says."""
        if not self._to_open:
            return
        wanted = frozenset(self._to_open)
        at = await self._sink.open(wanted)
        try:
            starts = await self._starts(wanted, at)
        except BaseException:
            await self._sink.close(wanted)
            raise
        held = wanted & self._consumer.assignment
        if held != wanted:  # the group has taken them, and its callback waits for the lock
            await self._sink.close(wanted - held)
            held &= self._consumer.assignment
        for key in held:
            self._consumer.seek(key.topic, key.partition, starts[key])
            self._committed[key] = starts[key]
            self._consumer.resume(key)
            self._open.add(key)
        self._to_open -= wanted

    async def _starts(self, wanted: frozenset[TopicPartition], at: Offsets) -> Offsets:
        """Where to read on: what the target says holds, then the group's offset."""
        committed = await self._consumer.committed(*wanted)
        begun: Offsets = {}
        begins: Offsets = {}
        ends: Offsets = {}
        for topic in {key.topic for key in wanted}:
            begins |= await self._client.admin.beginning_offsets(topic)
            ends |= await self._client.admin.end_offsets(topic)
        starts = {}
        for key in wanted:
            known = committed[key]
            offset = at.get(key, known.offset if known is not None else None)
            if offset is None:
                offset = begins[key] if self._settings.start == "earliest" else ends[key]
                begun[key] = offset
            if key in at and offset > ends[key]:
                # To go on, whatever on_lost says, were to leave out all that is below what the target has.
                raise PositionLost(
                    f"{key} ends at {ends[key]}, and the target has it up to offset {offset}: it is not the "
                    "log that was read. Give the connector a new name, and a new table or folder"
                )
            starts[key] = self._checked(key, offset, begins[key], ends[key])
        if begun and self._settings.start == "latest":
            # The end moves on. Kept now, it is where a failure, a crash and the next owner begin again.
            try:
                await self._consumer.commit(begun)
            except RebalanceNeeded as error:
                raise Unavailable(str(error)) from error  # nothing was read yet: it begins again
        return starts

    def _checked(self, key: TopicPartition, offset: int, begin: int, end: int) -> int:
        if begin <= offset <= end:
            return offset
        if offset < begin:
            told = (
                f"{key} begins at {begin}, and offset {offset} comes next: {begin - offset} are gone unread"
            )
        else:
            told = f"{key} ends at {end}, and offset {offset} comes next: it is not the log that was read"
        if self._settings.on_lost == "fail":
            raise PositionLost(f'{told}. on_lost = "skip" goes on at {begin}')
        log.error("connector %s: %s; it goes on at %d", self._spec.name, told, begin)
        self._status.notes["offsets lost"] = self._status.notes.get("offsets lost", 0) + max(
            0, begin - offset
        )
        return begin

    # -- records

    async def _put(self, records: Sequence[Record]) -> None:
        """Have records written. Those that are refused are found by halves."""
        try:
            if self._spec.transforms:
                await self._write_transformed(records)
            else:
                await self._sink.write(records)
            await self._flush()
            self._status.records += len(records)
            self._status.topics.update({record.topic for record in records})
        except Refused as refused:
            if len(records) > 1:
                half = len(records) // 2
                await self._put(records[:half])
                await self._put(records[half:])
            else:
                await self._dead_letter(records[0], refused)

    async def _write_transformed(self, records: Sequence[Record]) -> None:
        made: list[Record] = []
        for number, record in enumerate(records, 1):
            if number % YIELD_RECORDS == 0:
                await trio.lowlevel.checkpoint()
            made += self._transformed(record)
        if made:
            await self._sink.write(made)
        last = {(record.topic, record.partition): record for record in records}
        written = {(record.topic, record.partition): record.offset for record in made}
        for key, record in last.items():
            if written.get(key, -1) < record.offset:
                await self._sink.skip(record)  # a transform left it out; not before the others are written

    def _transformed(self, record: Record) -> list[Record]:
        """What the transforms make of a record. Each result keeps its topic, partition and offset: by these a
        sink knows what it has written."""
        made: list[Record] = transforms.apply(self._spec.transforms, record)
        place = record.topic, record.partition, record.offset
        if any((one.topic, one.partition, one.offset) != place for one in made):
            raise Refused("a transform of a sink may not change a record's topic, partition or offset")
        return made

    async def _dead_letter(self, record: Record, refused: Refused) -> None:
        where = f"{record.topic}-{record.partition} at offset {record.offset}"
        errors = self._spec.errors
        if not errors.leaves_out:
            raise ConnectError(f'{where}: {refused}. errors = {{ dlq = "TOPIC" }} goes on') from refused
        if self._dlq is not None and errors.dlq is not None:
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            told = deadletters.headers(self._spec.name, "TASK_PUT", refused, place)
            await self._dlq.send(errors.dlq, record.value, key=record.key, headers=(*record.headers, *told))
            self._status.dead_letters += 1
        else:
            self._status.left_out += 1
        log.warning("connector %s: %s: %s", self._spec.name, where, refused)
        await self._sink.skip(record)
        await self._flush()

    async def _flush(self) -> None:
        """Commit what is safe in the target, and nothing else."""
        await self._commit(await self._sink.flush())

    async def _commit(self, safe: Mapping[TopicPartition, int]) -> None:
        moved = {
            key: offset
            for key, offset in safe.items()
            if key in self._open and offset > self._committed.get(key, -1)
        }
        if not moved:
            return
        try:
            await self._consumer.commit(moved)
        except RebalanceNeeded as error:
            log.info("connector %s: %s", self._spec.name, error)
            return  # who has them now reads from the commit before, or from where the target says
        self._committed |= moved

    # -- partitions come and go

    async def given(self, partitions: frozenset[TopicPartition]) -> None:
        """The group gave partitions. The loop opens them."""
        if not partitions:
            return  # to pause none by name is to pause all
        self._consumer.pause(*partitions)
        self._consumer.seek_to_beginning(*partitions)  # anything that is there: the loop says where
        self._to_open |= partitions

    async def taken(self, partitions: frozenset[TopicPartition], *, lost: bool) -> None:
        """The group takes partitions: flush, if there is time, and forget."""
        async with self._lock:
            if not lost:
                try:
                    await self._flush()
                except (Unavailable, Refused, ClientError) as error:
                    log.warning("connector %s gives partitions up unflushed: %s", self._spec.name, error)
            await self._sink.close(partitions & self._open)
            self._open -= partitions
            self._to_open -= partitions
            for key in partitions:
                self._committed.pop(key, None)


def _may_pass(error: ConnectError | ClientError) -> bool:
    return isinstance(error, Unavailable | NoOffset | DeliveryError) or is_retriable(error)


class _Listener(RebalanceListener):
    def __init__(self, runner: SinkRunner) -> None:
        self._runner = runner

    async def on_assigned(self, consumer: Consumer[Any, Any], partitions: frozenset[TopicPartition]) -> None:
        self._runner._consumer = consumer
        await self._runner.given(partitions)

    async def on_revoked(self, consumer: Consumer[Any, Any], partitions: frozenset[TopicPartition]) -> None:
        await self._runner.taken(partitions, lost=False)

    async def on_lost(self, consumer: Consumer[Any, Any], partitions: frozenset[TopicPartition]) -> None:
        await self._runner.taken(partitions, lost=True)
