"""Copies of tasks that run elsewhere: a worker follows their changelogs, so that it can take them over.

A copy is a task's folder that is kept up, and nothing else: when the task comes here, the copy is closed, and
the task begins from its folder as always, with little left to read. What goes wrong with a copy is no reason
for the worker to end: it is begun again, and the task would be restored without it.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from raftlog.client.client import Client
from raftlog.client.consumer import Consumer
from raftlog.client.errors import ClientError
from raftlog.client.metadata import TopicPartition
from raftlog.streams.assign import NEAR, Place
from raftlog.streams.database import Database, position_in
from raftlog.streams.errors import StreamsError
from raftlog.streams.folders import Folder, folder_of, place_of
from raftlog.streams.inputs import NO_TIME, read_metadata
from raftlog.streams.plan import Plan
from raftlog.streams.restoring import Changelog, begin
from raftlog.streams.task import Task
from raftlog.streams.ways import delays_of

log: Final = logging.getLogger("raftlog.streams")

POLL_RECORDS_MAX: Final = 5_000
FLUSH_RECORDS: Final = 50_000
"""Changes of all copies that wait in memory for the disk."""
FLUSH_SECONDS: Final = 10.0
FORGET_SECONDS: Final = 60.0
"""Between two looks at how far the windows of the tasks are: their owners forget those that are over, and
changelogs do not say so."""
PAUSE_SECONDS: Final = 5.0
_TIME: Final = struct.Struct(">q")


@dataclass(eq=False)
class Copy:
    """One task's folder, and where its changelogs have been read to."""

    place: Place
    folder: Folder
    database: Database
    task: Task
    stores: dict[TopicPartition, str] = field(default_factory=dict)
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    seen: dict[TopicPartition, int] = field(default_factory=dict)
    """When the rows were all that a changelog had then."""


class Standbys:
    """The copies of one worker. `on_warm` is called when those that it warms up are near."""

    def __init__(
        self,
        plan: Plan,
        client: Client,
        state: str,
        changelog_ids: Mapping[str, str],
        on_warm: Callable[[], None],
    ) -> None:
        self.reached = reached_on_disk(plan, state) if plan.app.standbys else {}
        """How far this worker's folders are, running or not: the offsets of a task's changelogs, summed."""
        self._plan = plan
        self._client = client
        self._state = state
        self._ids = changelog_ids
        self._on_warm = on_warm
        self._wanted: frozenset[Place] = frozenset()
        self._warming: frozenset[Place] = frozenset()
        self._copies: dict[Place, Copy] = {}
        self._following = trio.CancelScope()

    @property
    def places(self) -> frozenset[Place]:
        """The tasks that have a copy here now."""
        return frozenset(self._copies)

    def want(self, places: frozenset[Place], warming: frozenset[Place]) -> None:
        """Keep copies of these from now on, and of no others."""
        for place in self._copies.keys() - places:
            self._close(place)
        if places != self._wanted:
            log.info("standing by for %s", ", ".join(f"{a}-{b}" for a, b in sorted(places)) or "nothing")
        self._wanted, self._warming = places, warming
        self._following.cancel()

    def leave(self, place: Place) -> None:
        """The task comes here: let it have the folder."""
        if place in self._wanted:
            self._wanted -= {place}
            self._close(place)
            self._following.cancel()

    def note(self, place: Place, database: Database) -> None:
        """How far a folder is, when its task leaves it."""
        try:
            self.reached[place] = _sum_of(database.position())
        except StreamsError:  # it is damaged, and made anew when it is opened again
            self.reached[place] = 0

    async def run(self) -> None:
        """Follow, until cancelled."""
        try:
            while True:
                self._following = trio.CancelScope()
                with self._following:
                    if not self._wanted:
                        await trio.sleep_forever()
                    await self._follow()
        finally:
            for place in list(self._copies):
                self._close(place)

    async def _follow(self) -> None:
        """Once, until what is wanted changes, or something fails."""
        try:
            copies = [self._copies.get(place) or self._open(place) for place in sorted(self._wanted)]
            keys = [
                TopicPartition(restore.topic, copy.task.partition)
                for copy in copies
                for restore in copy.task.restores({})
            ]
            async with self._client.consumer(
                partitions=keys, isolation_level="read_committed", auto_offset_reset="earliest"
            ) as consumer:
                for copy in copies:
                    await self._place(consumer, copy)
                await self._keep_up(consumer)
        except (ClientError, StreamsError, OSError) as error:
            log.warning("standing by has failed, and begins again: %s", error)
            for place in list(self._copies):
                self._close(place)
            await trio.sleep(PAUSE_SECONDS)

    def _open(self, place: Place) -> Copy:
        part = self._plan.parts[place[0]]
        folder = Folder(folder_of(self._state, place))
        try:
            database = folder.open(spec.name for spec in part.stores)
            try:
                task = Task(self._plan, part, place[1], database, writers={}, now_ms=0)
            except BaseException:
                database.close()
                raise
        except BaseException:
            folder.close()
            raise
        copy = self._copies[place] = Copy(place, folder, database, task)
        return copy

    async def _place(self, consumer: Consumer, copy: Copy) -> None:
        """Seek to where the rows on disk are, or to the begin of a changelog that they do not fit."""
        ends, at_ms = {}, int(time.time() * 1000)
        for restore in copy.task.restores({}):
            key = TopicPartition(restore.topic, copy.task.partition)
            start = (await consumer.beginning_offsets(key))[key]
            if key.topic not in ends:
                ends.update(await self._client.admin.end_offsets(key.topic))
            await trio.lowlevel.checkpoint_if_cancelled()  # a copy that was closed has nothing to write
            found = begin(restore, Changelog(self._ids[key.topic], start, ends[key], at_ms), "rebuild")
            is_new = found.anew or restore.position == 0
            copy.seen[key] = at_ms if is_new else restore.seen_ms
            copy.task.begin(restore.store, found)
            copy.stores[key], copy.positions[key] = restore.store, found.position
            consumer.seek(*key, found.position)

    async def _keep_up(self, consumer: Consumer) -> None:
        copies = {key: copy for copy in self._copies.values() for key in copy.stores}
        waiting, flush_at = 0, trio.current_time() + FLUSH_SECONDS
        forget_at = trio.current_time()
        while True:
            records = await consumer.poll(POLL_RECORDS_MAX, max_wait_ms=500)
            await trio.lowlevel.checkpoint_if_cancelled()
            for record in records:
                key = TopicPartition(record.topic, record.partition)
                if record.key is not None:
                    copy = copies[key]
                    copy.task.restore(copy.stores[key], record.key, record.value, record.timestamp)
                    waiting += 1
            for key, position in consumer.positions().items():
                copies[key].positions[key] = position
            now, lag = trio.current_time(), consumer.lag()
            for copy in self._copies.values():
                self.reached[copy.place] = sum(copy.positions.values())
            if self._warming and all(
                lag.get(key, NEAR + 1) <= NEAR // len(self._copies[place].stores)
                for place in self._warming
                for key in self._copies[place].stores
            ):
                self._warming = frozenset()
                self._on_warm()
            for key in (key for key, behind in lag.items() if behind == 0):
                copies[key].seen[key] = int(time.time() * 1000)
            if waiting >= FLUSH_RECORDS or now >= flush_at:
                waiting, flush_at = 0, now + FLUSH_SECONDS
                for copy in self._copies.values():
                    self._flush(copy)
            if now >= forget_at:
                forget_at = now + FORGET_SECONDS
                await self._forget()

    async def _forget(self) -> None:
        """Windows that the owners have closed, as their commits say."""
        timed = {
            place: copy
            for place, copy in self._copies.items()
            if any(spec.lasts_ms is not None for spec in copy.task.part.stores)
        }
        if not timed:
            return
        committed = await self._client.admin.group_offsets(self._plan.app.name)
        await trio.lowlevel.checkpoint_if_cancelled()
        for copy in timed.values():
            part = copy.task.part
            found = [committed.get(TopicPartition(topic, copy.task.partition)) for topic in part.topics]
            told = [read_metadata(at.metadata) for at in found if at is not None]
            watermark = max((each.get("w", NO_TIME) for each in told), default=NO_TIME)
            watermark -= max(delays_of(part).values())
            self._flush(copy)
            ranges = {
                spec.name: [(b"", _TIME.pack(watermark - spec.lasts_ms + 1))]
                for spec in part.stores
                if spec.lasts_ms is not None and watermark >= spec.lasts_ms
            }
            copy.database.write({}, ranges, copy.database.position())

    def _flush(self, copy: Copy) -> None:
        for key, store in copy.stores.items():
            copy.task.restored(store, self._ids[key.topic], copy.positions[key], copy.seen[key])

    def _close(self, place: Place) -> None:
        copy = self._copies.pop(place, None)
        if copy is None:
            return
        try:
            self._flush(copy)
            self.note(place, copy.database)
        except (StreamsError, OSError) as error:
            log.warning("a copy of task %d-%d was not written: %s", *place, error)
        copy.task.close()
        copy.folder.close()

    def __repr__(self) -> str:
        return f"<Standbys of {self._plan.app.name} {sorted(self._copies)}>"


def reached_on_disk(plan: Plan, state: str) -> dict[Place, int]:
    """How far the folders are that a worker of this name has left."""
    found = {}
    for name in os.listdir(state) if os.path.isdir(state) else ():
        place = place_of(name)
        if place is not None and place[0] < len(plan.parts):
            found[place] = _sum_of(position_in(os.path.join(state, name, "store.db")))
    return found


def _sum_of(position: Mapping[str, Any]) -> int:
    return sum(at for _, at in position.get("changelogs", {}).values())
