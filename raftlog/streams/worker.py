"""A worker: the tasks that an app's group gives to this process, and the I/O that they need.

One loop reads, has the tasks process, sends and commits; a task being restored is not in it yet. The group's
callbacks and a commit never run at the same time: a lock is between them.

When a commit (`committing.py`) fails in any way, all tasks are dropped from memory and begin again from what
is committed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection
from contextlib import nullcontext
from typing import Final

import trio

from raftlog.client.client import Client, open_client
from raftlog.client.consumer import Consumer, RebalanceListener
from raftlog.client.errors import (
    ClientError,
    CommitUnknown,
    DeliveryError,
    ProducerFailed,
    RebalanceNeeded,
    TransactionAborted,
    may_pass,
)
from raftlog.client.metadata import TopicPartition
from raftlog.client.nursery import background
from raftlog.streams.assign import Place, StreamsAssignor, Told
from raftlog.streams.awaiting import awaited
from raftlog.streams.committing import Commits
from raftlog.streams.errors import (
    NotEncoded,
    RecordFailed,
    StreamsError,
    TopologyError,
    commits_no_more,
    refused_for_good,
)
from raftlog.streams.feeding import Feed
from raftlog.streams.lookups import Lookups
from raftlog.streams.plan import Plan, plan
from raftlog.streams.restorer import Restorer
from raftlog.streams.restoring import OnLost
from raftlog.streams.seating import Losses, OnSourceLost, Seat, Seating
from raftlog.streams.serving import Http, open_server
from raftlog.streams.standbys import Standbys
from raftlog.streams.task import Task
from raftlog.streams.topics import Topics, prepare
from raftlog.streams.topology import App

log: Final = logging.getLogger("raftlog.streams")

RUN_RECORDS_MAX: Final = 500
"""Records between two looks at the event loop, for heartbeats."""
CHANGES_MAX: Final = 200_000
"""Changed keys, or outputs that wait, before a commit comes early: some 64 MiB of small ones."""
FLUSH_SECONDS: Final = 10.0
"""Between two writes of committed state to the disk. A restart reads the changelog from there on."""
ASK_SECONDS: Final = 1.0
"""Between two looks, when there are no records, whether a window of a part that comes after is open."""
STOP_SECONDS_MAX: Final = 10.0
"""How long a worker that is cancelled may take for its last commit and its goodbye."""
TRANSACTION_TIMEOUT_MS: Final = 10_000
"""An open transaction of a worker that died holds up its successor for so long."""


async def run(
    app: App,
    brokers: str | Client = "localhost:9092",
    *,
    state: str = "streams-state",
    name: str = "worker",
    instance: str | None = None,
    on_changelog_lost: OnLost = "fail",
    on_source_lost: OnSourceLost = "fail",
    http: Http | None = None,
) -> None:
    """Run an app's worker until it is cancelled: `trio.run(rs.run, app, "localhost:9092")`.

    `brokers` are addresses, or a client, whose `async with` must outlive this call when it is cancelled.
    `state` is the folder of its stores, `name` tells workers apart: of two with one name, with
    "exactly_once", the second fences the first. With `instance`, a name in the group that outlives restarts,
    the worker keeps its tasks while it is away for less than its session (45 s): it does not leave the group
    when it ends. `on_changelog_lost` says what becomes of state on disk whose changelog was made anew;
    `on_source_lost`, of offsets that are below the start of their topic, at the start or because a worker
    that runs has fallen behind the topic's retention: "skip" goes on there. With `http` the worker answers
    questions about its stores.

    Raises OSError when nobody can listen at `http`, TopologyError when the topics do not fit, or one has
    grown, RecordFailed for a record that cannot be processed, once all before it is committed, StateError,
    and ClientError. Cancelled, it commits, and leaves the group.
    """
    losses = Losses(on_changelog_lost, on_source_lost)
    life = trio.CancelScope(shield=True)
    async with background() as nursery:
        with life:
            async with open_client(brokers) if isinstance(brokers, str) else nullcontext(brokers) as client:
                worker = Worker(app, client, state=state, name=name, instance=instance, losses=losses)
                nursery.start_soon(_stop_when_cancelled, worker, life)
                if http is not None:
                    nursery.start_soon(open_server(worker, http).run)
                await worker.run()
        nursery.cancel_scope.cancel()


async def _stop_when_cancelled(worker: Worker, life: trio.CancelScope) -> None:
    """Have a worker that is cancelled commit and leave its group, for which it needs all of its tasks."""
    try:
        await trio.sleep_forever()
    finally:
        worker.stop()
        life.deadline = trio.current_time() + STOP_SECONDS_MAX


class Worker:
    """The tasks of one process."""

    def __init__(
        self,
        app: App,
        client: Client,
        *,
        state: str,
        name: str,
        losses: Losses,
        instance: str | None = None,
    ) -> None:
        self.plan: Plan = plan(app)
        self.app = app
        self.seats: dict[Place, Seat] = {}
        self._client = client
        self._state = os.path.join(state, app.name, name)
        self._name = name
        self._instance = instance
        self._losses = losses
        self._lock = trio.Lock()
        self._exactly_once = app.guarantee == "exactly_once"
        self._feed = Feed(self.plan, self.seats)
        self._worked: set[Task] = set()
        """Those that have something to commit."""
        self._later = False
        """Time has gone on since the last commit, and maybe nothing else has happened."""
        self._stopping = False
        self._topics: Topics
        self._counts: dict[int, int] = {}
        self._grown: TopologyError | None = None
        self._consumer: Consumer
        self._commits: Commits
        self._ran: frozenset[Place] = frozenset()
        self._seating: Seating
        self._standbys: Standbys
        self._lookups: Lookups
        self._nursery: trio.Nursery
        self._commit_at = self._flush_at = 0.0
        self._ask_at = 0.0
        self._told_keyless: set[int] = set()

    @property
    def tasks(self) -> list[Task]:
        """Those that run."""
        return [seat.task for seat in self.seats.values() if seat.task is not None]

    def restoring(self, part: int) -> Collection[int]:
        """The partitions of a part whose tasks are not running yet."""
        return [seat.place[1] for seat in self.seats.values() if seat.task is None and seat.place[0] == part]

    def count(self, part: int) -> int | None:
        """How many partitions a part has; None while that is not known."""
        return self._counts.get(part)

    def stop(self) -> None:
        """Have `run` come to its end."""
        self._stopping = True
        self._feed.wake()

    async def run(self) -> None:
        """As `run` says, until `stop`."""
        self._topics = await prepare(self.plan, self._client.admin)
        self._counts = self._topics.counts
        ids = self._topics.changelog_ids
        self._standbys = Standbys(self.plan, self._client, self._state, ids, lambda: assignor.rejoin())
        assignor = StreamsAssignor(self.plan, self.app.standbys, self._tell, self._listen)
        transactional = f"{self.app.name}-{self._name}" if self._exactly_once else None
        async with (
            self._client.producer(
                transactional_id=transactional, transaction_timeout_ms=TRANSACTION_TIMEOUT_MS, linger_ms=5
            ) as producer,
            background() as self._nursery,
        ):
            self._lookups = Lookups(self._nursery, self._feed.wake)
            try:
                async with self._client.consumer(
                    *self.plan.sources,
                    *self.plan.repartitions,
                    group=self.app.name,
                    group_instance_id=self._instance,
                    listener=_Listener(self),
                    assignor=assignor if self.app.standbys else None,
                    auto_offset_reset="none",  # each task says where it begins
                    enable_auto_commit=False,
                    partition_assignment_strategy=("range",),
                    isolation_level="read_committed" if self._exactly_once else "read_uncommitted",
                ) as self._consumer:
                    self._feed.consumer = self._consumer
                    self._commits = Commits(self.app, producer, self._consumer, ids)
                    restorer = Restorer(self._client, ids, self._losses.changelog)
                    self._seating = Seating(
                        self.plan, self._consumer, restorer, self._counts, self._state, self._losses
                    )
                    self._nursery.start_soon(self._standbys.run)
                    log.info("%s of app %s: %s", self._name, self.app.name, ", ".join(self.plan.sources))
                    try:
                        await self._loop()
                    finally:  # before the consumer closes: they would fail by that
                        for seat in self.seats.values():
                            seat.scope.cancel()
            finally:
                self._nursery.cancel_scope.cancel()
                for seat in list(self.seats.values()):
                    self._leave(seat)

    # -- the loop

    async def _loop(self) -> None:
        self._commit_at = trio.current_time() + self.app.commit_ms / 1000
        self._flush_at = trio.current_time() + FLUSH_SECONDS
        while not self._stopping:
            if self.tasks and await self._commits.wait_in_doubt():
                continue
            batches = await self._feed.poll((self._commit_at - trio.current_time()) * 1000)
            async with self._lock:
                self._worked |= self._feed.deal_out(batches)
                for seat, key in self._feed.take_refused():
                    await self._seating.find_again(seat, key)
                await self._process()
                if trio.current_time() >= self._commit_at or self._is_full():
                    await self._commit()
        async with self._lock:
            await self._commit()
            self._flush()
        if self._grown is not None:
            raise self._grown

    async def _process(self) -> None:
        now_ms = int(time.time() * 1000)
        at_end = self._feed.at_end(now_ms)
        for task in self.tasks:
            before = task.watermark
            caught_up = {t for t in task.inputs if TopicPartition(t, task.partition) in at_end}
            task.advance(now_ms, caught_up)
            self._lookups.go_on(task)
            try:
                while done := task.run(RUN_RECORDS_MAX):
                    self._worked.add(task)
                    await self._commits.send(task, task.take_outputs())
                    await trio.lowlevel.checkpoint()
                    if done < RUN_RECORDS_MAX:
                        break
                task.advance(now_ms, caught_up)
            except RecordFailed:
                self._worked.add(task)
                had_checks = self._seating.checks
                await self._commit()
                if self._seating.checks == had_checks:
                    raise
                return  # one before it has set what cannot be kept: the tasks begin again, and find that one
            self._lookups.go_on(task)
            if task.telling.moved or task.changed > 0:
                self._worked.add(task)
            self._later = self._later or task.watermark > before
            await self._commits.send(task, task.take_outputs())
            self._feed.hold_back(task)

    def _is_full(self) -> bool:
        return sum(task.changed for task in self.tasks) + self._commits.waiting > CHANGES_MAX

    # -- commits

    async def _commit(self) -> None:
        """Commit all tasks, or begin all of them again. The lock is held."""
        self._commit_at = trio.current_time() + self.app.commit_ms / 1000
        tasks = self.tasks
        telling = self._worked | (await self._awaited() if self._later else set())
        if not telling or not tasks:
            return
        self._worked, self._later = set(), False
        for task in tasks:
            task.telling.is_quiet = task not in telling
        try:
            for task in tasks:
                for _ in task.emit():
                    await self._lookups.finish(task)
            prepared = {task: task.prepare() for task in tasks}
            for task in tasks:
                await self._commits.send(task, task.take_outputs())
            ends = await self._commits.write(prepared)
        except NotEncoded as error:
            if self._seating.checks:
                raise
            log.warning(
                "app %s: %s. Its tasks begin again from the last commit, to find the record that set it; "
                "from now on this worker looks at each",
                *(self.app.name, error),
            )
            self._seating.checks = True
            self._begin_again()
            return
        except ProducerFailed as error:
            raise commits_no_more(self._name, error) from error
        except (RebalanceNeeded, DeliveryError, TransactionAborted, CommitUnknown) as error:
            if not may_pass(error):
                raise refused_for_good(self.app.name, error) from error
            log.warning(
                "a commit of app %s failed, its tasks begin again from the last one: %s", self.app.name, error
            )
            self._begin_again()
            return
        for task in tasks:
            self._tell_keyless(task)
            task.committed(
                {topic: at for (topic, partition), at in ends.items() if partition == task.partition}
            )
        if trio.current_time() >= self._flush_at:
            self._flush()

    async def _awaited(self) -> set[Task]:
        """The tasks whose time alone is a reason to commit: a part that comes after has a window open."""
        if trio.current_time() < self._ask_at:
            return set()
        self._ask_at = trio.current_time() + ASK_SECONDS
        tasks = [task for task in self.tasks if any(sink.repartition for sink in task.part.sinks)]
        if not tasks:
            return set()
        committed = await self._client.admin.group_offsets(self.app.name)
        return awaited(self.plan, tasks, self._counts, committed)

    def _tell_keyless(self, task: Task) -> None:
        """Warn once of each step that leaves out records: else nobody would know why it counts nothing."""
        for node, why in task.telling.keyless.items():
            if node.number not in self._told_keyless:
                self._told_keyless.add(node.number)
                log.warning(
                    "app %s, step %d (%s): %s, and is left out. Produce with keys, or choose one by "
                    ".key_by(…) before this step. More of them are counted, and not told of",
                    *(self.app.name, node.number, node.describe(), why),
                )

    def _flush(self) -> None:
        self._flush_at = trio.current_time() + FLUSH_SECONDS
        for task in self.tasks:
            task.flush()

    # -- tasks come and go

    async def given(self, partitions: frozenset[TopicPartition]) -> None:
        """The group gave partitions. A task begins when it has all of its own. When a topic has grown since
        this worker started, its keys may have moved: the worker ends."""
        held = self._consumer.assignment
        self._consumer.pause(*partitions)
        for part in self.plan.parts:
            grown = {
                k.topic for k in held if k.topic in part.topics and k.partition >= self._counts[part.number]
            }
            if grown:
                self._grown = TopologyError(
                    f"{', '.join(sorted(grown))} has more partitions than when this worker started: start it "
                    "again. It goes on where state is behind a repartition topic, and says what to do where "
                    "keys have moved"
                )
                self.stop()
            for partition in range(self._counts[part.number]):
                keys = frozenset(TopicPartition(topic, partition) for topic in part.topics)
                place = part.number, partition
                if keys <= held and place not in self.seats:
                    self._standbys.leave(place)
                    self._sit_down(Seat(place, keys))

    async def taken(self, partitions: frozenset[TopicPartition], *, lost: bool) -> None:
        """The group takes partitions: commit, if there is time, and forget."""
        async with self._lock:
            if not lost:
                await self._commit()
            running = frozenset(seat.place for seat in self.seats.values() if seat.task is not None)
            self._ran = frozenset() if lost else running
            for seat in list(self.seats.values()):
                if seat.partitions & partitions:
                    if not lost and seat.task is not None:
                        seat.task.flush()
                    self._leave(seat)

    def _tell(self) -> Told:
        """What the group's leader is to know."""
        return Told(self._ran, self._standbys.reached)

    def _listen(self, standbys: frozenset[Place], warming: frozenset[Place]) -> None:
        """What the group's leader has told."""
        self._ran = frozenset()
        self._standbys.want(standbys, warming)

    def _sit_down(self, seat: Seat) -> None:
        self.seats[seat.place] = seat
        self._nursery.start_soon(self._begin, seat)

    def _leave(self, seat: Seat) -> None:
        self.seats.pop(seat.place, None)
        seat.scope.cancel()
        if seat.task is not None:
            self._commits.forget(seat.task)
            self._worked.discard(seat.task)
            self._lookups.forget(seat.task)
        if seat.database is not None:
            self._standbys.note(seat.place, seat.database)
            seat.database = None
        if seat.task is not None:
            seat.task.close()
            seat.task = None
        if seat.folder is not None:
            seat.folder.close()
            seat.folder = None

    def _begin_again(self) -> None:
        """All tasks, from what is committed. Rows that a commit has ended go to the disk first."""
        held = self._consumer.assignment
        for seat in list(self.seats.values()):
            if seat.task is not None:
                seat.task.flush()
                self._leave(seat)
                if seat.partitions <= held:
                    self._consumer.pause(*seat.partitions)
                    self._sit_down(Seat(seat.place, seat.partitions))

    async def _begin(self, seat: Seat) -> None:
        """Restore a task, and let it run."""
        with seat.scope:
            try:
                await self._seating.fill(seat)
            except RebalanceNeeded:
                return
            except ClientError as error:
                raise StreamsError(
                    f"task {seat.place} of app {self.app.name} cannot begin: {error}"
                ) from error

    def __repr__(self) -> str:
        return f"<Worker {self._name} of {self.app.name} tasks={len(self.tasks)}/{len(self.seats)}>"


class _Listener(RebalanceListener):
    """The group's callbacks, for a worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def on_assigned(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> None:
        await self._worker.given(partitions)

    async def on_revoked(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> None:
        await self._worker.taken(partitions, lost=False)

    async def on_lost(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> None:
        await self._worker.taken(partitions, lost=True)
