"""How a task comes to its place in a worker: its folder, its state, and where it goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from raftlog.client.consumer import Consumer
from raftlog.client.errors import ClientError, NotAssigned, RebalanceNeeded, is_retriable
from raftlog.client.metadata import TopicPartition
from raftlog.streams.assign import Place
from raftlog.streams.database import Database
from raftlog.streams.errors import StateError
from raftlog.streams.folders import Folder, folder_of
from raftlog.streams.plan import Plan, SubTopology
from raftlog.streams.restorer import Restorer
from raftlog.streams.restoring import OnLost
from raftlog.streams.task import Task

log: Final = logging.getLogger("raftlog.streams")

OnSourceLost = Literal["fail", "skip"]
"""What becomes of a task whose committed offset is below the start of its topic."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What a worker does with a task whose changelog or input lacks records that the task needs."""

    changelog: OnLost = "fail"
    source: OnSourceLost = "fail"


@dataclass(eq=False)
class Seat:
    """A task's place in this worker; `task` is there once it is restored."""

    place: Place
    partitions: frozenset[TopicPartition]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    folder: Folder | None = None
    database: Database | None = None
    task: Task | None = None


class Seating:
    """Fills the seats of one worker, whose folder is `state`; `counts` are the tasks of each part."""

    def __init__(
        self,
        plan: Plan,
        consumer: Consumer,
        restorer: Restorer,
        counts: Mapping[int, int],
        state: str,
        losses: Losses,
    ) -> None:
        self._plan = plan
        self._consumer = consumer
        self._restorer = restorer
        self._counts = counts
        self._state = state
        self._losses = losses
        self.checks = False
        """Whether tasks look at once whether what a record sets can be kept; see Task."""

    async def fill(self, seat: Seat) -> None:
        """Restore a task, and have its partitions read. Raises StateError, StreamsError, ClientError: of
        these RebalanceNeeded when a partition is another's by now."""
        part, partition = self._plan.parts[seat.place[0]], seat.place[1]
        committed = {
            key.topic: (at.offset, at.metadata)
            for key, at in (await self._consumer.committed(*seat.partitions)).items()
            if at is not None
        }
        await trio.lowlevel.checkpoint_if_cancelled()  # a seat that was left must not lock the folder
        seat.folder = folder = Folder(folder_of(self._state, seat.place))
        database = seat.database = folder.open(spec.name for spec in part.stores)
        task = Task(
            self._plan,
            part,
            partition,
            database,
            writers=self._writers(part),
            now_ms=int(time.time() * 1000),
            checks=self.checks,
        )
        try:
            starts = await self._consumer.beginning_offsets(*seat.partitions)
            for restore in task.restores(committed):
                await self._restorer.restore(task, restore)
            ends = await self._consumer.end_offsets(*seat.partitions)
            await trio.lowlevel.checkpoint_if_cancelled()  # nor seek in what is another's by now
            task.start({key.topic: end for key, end in ends.items()})
            for key, start in starts.items():
                self._check_start(task, key, start, key.topic in committed)
            self._read_from(task, seat.partitions)
        except BaseException:
            seat.database = None
            task.close()
            raise
        seat.task = task

    def _read_from(self, task: Task, partitions: frozenset[TopicPartition]) -> None:
        """Have a task's partitions read from where it is. Raises RebalanceNeeded when the group has taken
        one: the consumer lets go of it first, and tells the worker then."""
        try:
            for key in partitions:
                self._consumer.seek(key.topic, key.partition, task.inputs[key.topic].position)
            self._consumer.resume(*partitions)
        except NotAssigned as error:
            raise RebalanceNeeded(f"{error}") from error

    def _check_start(self, task: Task, key: TopicPartition, start: int, is_committed: bool) -> None:
        each = task.inputs[key.topic]
        if each.position >= start:
            return
        if is_committed:
            self._lost(task, key, each.position, start)
        each.position = start

    async def find_again(self, seat: Seat, key: TopicPartition) -> None:
        """A task that runs cannot read on in a partition: it goes on where that begins, if `Losses` says so.
        Raises StateError, ClientError."""
        position = self._consumer.positions().get(key)
        try:
            start = (await self._consumer.beginning_offsets(key))[key]
            end = (await self._consumer.end_offsets(key))[key]
            if seat.task is None or position is None or start <= position <= end:
                return
            if position > end:
                raise StateError(
                    f"{key.topic}-{key.partition} ends at {end}, and the app was at {position}: the topic "
                    "was made anew, or has lost its end. Give the app a new name, or reset its group and "
                    "remove its state"
                )
            self._lost(seat.task, key, position, start)
            self._consumer.seek(key.topic, key.partition, start)
        except NotAssigned:
            pass  # it is another's by now
        except ClientError as error:
            if not is_retriable(error):
                raise
            # it is refused again, and looked at again

    def _lost(self, task: Task, key: TopicPartition, position: int, start: int) -> None:
        """What a task would have read next is gone. A table has the rows that are left."""
        if task.inputs[key.topic].source.table is not None:
            return
        lost = start - position
        if self._losses.source == "fail":
            raise StateError(
                f"{key.topic}-{key.partition} begins at {start}, and the app was at {position}: "
                f'{lost} records are lost to it. on_source_lost="skip" goes on with what there is'
            )
        log.error("%s-%d: %d records were gone before they were read", key.topic, key.partition, lost)
        task.dropped["gone before they were read"] += lost

    def _writers(self, part: SubTopology) -> dict[str, int]:
        return {
            source.topic: self._counts[self._plan.part_writing(source.topic).number]
            for source in part.sources
            if source.internal
        }

    def __repr__(self) -> str:
        return f"<Seating {self._state}>"
