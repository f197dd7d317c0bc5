"""The reading half of a consumer: finds out where each partition is, and fetches ahead.

One fetch is under way to each leader, with every partition of its that has room; answers go into the
partitions' buffers, which are bounded in bytes. Sending is synchronous, from answers' callbacks and from
whoever takes records, so a fetch costs no task switch of its own.

It must not know groups, nor what is committed, beyond asking for a starting point.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final

import trio

from raftlog.client.assignment import EARLIEST, LATEST, NEVER, Partition
from raftlog.client.backoff import Backoff, pause_after
from raftlog.client.cluster import LEADER_PATIENCE_S, Cluster
from raftlog.client.errors import ClientError, Disconnected, NoOffset, broker_error, is_retriable
from raftlog.client.group_protocol import by_topic
from raftlog.client.isolation import READ_COMMITTED
from raftlog.client.metadata import TopicPartition
from raftlog.client.offsets import CommittedOffset, list_offsets
from raftlog.client.settings import ConsumerSettings
from raftlog.errors import InvalidInput
from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode

FETCH_VERSION_MAX: Final = 12
"""From version 13 on topics are named by id; until then by name."""
RESETS: Final = {"earliest": EARLIEST, "latest": LATEST}
ERRORS_MAX: Final = 64
"""Errors that wait for the user's next call; later ones say the same."""

NO_OFFSET_CURE: Final = "seek to where it should begin, or set auto_offset_reset"

NAMED_MAX: Final = 3
"""Partitions in the line that says where a new group begins."""

log = logging.getLogger("raftlog.client")

FetchCommitted = Callable[[list[TopicPartition]], Awaitable[dict[TopicPartition, CommittedOffset | None]]]


class Fetcher:
    """The partitions of a consumer and the fetches for them."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ConsumerSettings,
        *,
        fetch_committed: FetchCommitted | None,
        in_hand: Callable[[Partition], bool],
    ) -> None:
        self.partitions: dict[TopicPartition, Partition] = {}
        self.arrived = trio.Event()
        self.errors: deque[ClientError] = deque(maxlen=ERRORS_MAX)
        self.bytes_fetched = 0
        self.fetches = 0
        self._cluster = cluster
        self._settings = settings
        self._fetch_committed = fetch_committed
        self._in_hand = in_hand
        self._isolation = settings.isolation
        self._lane = cluster.connections.new_lane("fetch")
        self._turns: deque[Partition] = deque()
        self._asked: dict[int, tuple[float, list[Partition]]] = {}
        self._looked_at = float("-inf")
        self._wake = trio.Event()
        self._unplaced = trio.Event()
        self._timer = trio.CancelScope()
        self._closed = False
        self._begun: dict[TopicPartition, int] = {}
        """Partitions in which the group has no offset yet, with their era: these begin where
        `auto_offset_reset` says."""
        self._has_said_where = False

    # -- the assignment

    def add(self, keys: Iterable[TopicPartition]) -> None:
        """Begin to read partitions, from where the group or `auto_offset_reset` says."""
        for key in keys:
            if key not in self.partitions:
                partition = Partition(key)
                partition.wants_committed = self._fetch_committed is not None
                self.partitions[key] = partition
                self._turns.append(partition)
        self.place()
        self._wake.set()

    def remove(self, keys: Iterable[TopicPartition]) -> None:
        """Stop reading partitions; what was fetched of them is dropped."""
        for key in keys:
            partition = self.partitions.pop(key, None)
            self._begun.pop(key, None)
            if partition is not None:
                partition.era += 1
                partition.drop()
                self._turns.remove(partition)

    def place(self) -> None:
        """Some partition needs to find out where it starts."""
        self._unplaced.set()

    def announce(self) -> None:
        """Wake whoever waits for records, to look again."""
        arrived, self.arrived = self.arrived, trio.Event()
        arrived.set()

    def next_partition(self) -> Partition | None:
        """A partition with records to hand out, each in its turn."""
        turns = self._turns
        for _ in range(len(turns)):
            partition = turns[0]
            turns.rotate(-1)
            if partition.batches and not partition.paused:
                return partition
        return None

    def return_turn(self) -> None:
        """The partition that `next_partition` gave is the next one once more."""
        self._turns.rotate(1)

    def fetch_again(self, partition: Partition) -> None:
        """What was fetched of a partition is of no use; it is asked for again, after a pause."""
        if partition.position is not None:
            partition.seek(partition.position)
            self._delay([partition])
            self._wake.set()

    @property
    def buffered(self) -> int:
        """Bytes that wait to be handed out."""
        return sum(partition.buffered for partition in self.partitions.values())

    # -- fetching

    def pump(self) -> None:
        """Ask every leader that is idle for what there is room for."""
        if self._closed:
            return
        settings, now = self._settings, trio.current_time()
        room = settings.prefetch_max_bytes - self.buffered
        share = max(
            settings.max_partition_fetch_bytes, settings.prefetch_max_bytes // (len(self._turns) or 1)
        )
        again = float("inf")
        lost = False
        leaders: dict[int, list[Partition]] = {}
        for partition in self._turns if room > 0 else ():
            if partition.paused or partition.fetching or partition.position is None:
                continue
            if partition.retry_at > now:
                again = min(again, partition.retry_at)
            elif partition.buffered < share:
                leader = self._cluster.metadata.leader(*partition.key)
                if leader is None:
                    lost = True
                elif leader not in self._asked:
                    leaders.setdefault(leader, []).append(partition)
        for leader, partitions in leaders.items():
            self._ask(leader, partitions, room)
        if lost:
            self._cluster.request_update()
        self._timer.deadline = min(again, self._leave_silent_leaders())

    def _leave_silent_leaders(self) -> float:
        """When to look at the leaders that have not answered yet; those that are overdue and lead no more
        are left."""
        look, now = float("inf"), trio.current_time()
        patience = LEADER_PATIENCE_S + self._settings.fetch_max_wait_ms / 1000
        for leader, (sent_at, partitions) in list(self._asked.items()):
            if sent_at + patience > now:
                look = min(look, sent_at + patience)
                continue
            leaders = {self._cluster.metadata.leader(*partition.key) for partition in partitions}
            if leaders - {leader, None}:
                self._cluster.connections.drop(leader, self._lane)
                continue
            if self._looked_at + LEADER_PATIENCE_S <= now:
                self._looked_at = now
                self._cluster.request_update()
            look = min(look, self._looked_at + LEADER_PATIENCE_S)
        return look

    def _ask(self, leader: int, partitions: list[Partition], room: int) -> None:
        connection = self._cluster.connections.maybe(leader, self._lane, self.wake)
        if connection is None:
            return
        settings = self._settings
        by_key = {partition.key: partition for partition in partitions}
        fields = {
            "replica_id": -1,
            "max_wait": int(settings.fetch_max_wait_ms),
            "min_bytes": settings.fetch_min_bytes,
            "max_bytes": max(1, min(settings.fetch_max_bytes, room)),
            "isolation_level": self._isolation,
            "session_id": 0,
            "session_epoch": -1,
            "topics": [
                {
                    "topic": topic,
                    "partitions": [self._wanted(by_key[TopicPartition(topic, number)]) for number in numbers],
                }
                for topic, numbers in by_topic(by_key).items()
            ],
            "forgotten_topics_data": [],
            "rack_id": "",  # or the leader would send us to a follower (KIP-392), where we never go
        }
        asked = [(partition, partition.era) for partition in partitions]
        try:
            version = connection.version_of(ApiKey.FETCH, most=FETCH_VERSION_MAX)
            deadline = self._cluster.request_deadline(settings.fetch_max_wait_ms)
            for partition in partitions:
                partition.fetching = True
            self._asked[leader] = (trio.current_time(), partitions)
            self.fetches += 1
            answered = partial(self._answered, leader, asked)
            connection.submit(ApiKey.FETCH, version, fields, deadline=deadline, on_answer=answered)
        except ClientError as error:
            self._answered(leader, asked, error)

    def _wanted(self, partition: Partition) -> dict[str, int]:
        view = self._cluster.metadata.partition(*partition.key)
        return {
            "partition": partition.key.partition,
            "current_leader_epoch": view.leader_epoch if view is not None else -1,
            "fetch_offset": partition.fetch_offset,
            "log_start_offset": -1,
            "partition_max_bytes": self._settings.max_partition_fetch_bytes,
        }

    def _answered(self, leader: int, asked: list[tuple[Partition, int]], answer: Any) -> None:
        asked_at, _ = self._asked.pop(leader, (NEVER, []))
        for partition, _ in asked:
            partition.fetching = False
        if isinstance(answer, ClientError):
            if is_retriable(answer):
                self._delay([partition for partition, _ in asked])
            else:
                self.fail(answer)
        elif int(getattr(answer, "error_code", 0)) != 0:
            self._delay([partition for partition, _ in asked])
        else:
            self._take(asked, answer, asked_at)
        self._wake.set()

    def _take(self, asked: list[tuple[Partition, int]], answer: Any, asked_at: float) -> None:
        # By object, not by key: a partition that was lost and given back meanwhile is another one.
        still = {partition.key: partition for partition, era in asked if partition.era == era}
        for topic in answer.responses:
            for one in topic.partitions:
                key = TopicPartition(str(topic.topic), int(one.partition_index))
                partition = self.partitions.get(key)
                if partition is None or partition is not still.get(key):
                    continue
                error = ErrorCode.of(int(one.error_code))
                if error is ErrorCode.NONE:
                    self._store(partition, one, asked_at)
                else:
                    self._refused(partition, error, one)

    def _store(self, partition: Partition, one: Any, asked_at: float) -> None:
        data = one.records or b""
        self.bytes_fetched += len(data)
        committed = self._isolation == READ_COMMITTED
        end = int(one.last_stable_offset if committed else one.high_watermark)
        named = one.aborted_transactions if committed else None
        aborted = [(int(t.producer_id), int(t.first_offset)) for t in named or ()]
        try:
            partition.add(data, end, int(getattr(one, "log_start_offset", -1)), aborted)
        except InvalidInput as error:
            failure = Disconnected(f"the broker sent damaged records of {partition.key!r}: {error}")
            failure.__cause__ = error
            self.fail(failure)
            self._delay([partition])
            return
        partition.asked_at = asked_at
        if data:
            if not self._in_hand(partition):
                partition.pass_gap()
            self.announce()

    def _refused(self, partition: Partition, error: ErrorCode, one: Any) -> None:
        if error is ErrorCode.OFFSET_OUT_OF_RANGE:
            self._out_of_range(partition)
            return
        hint = getattr(one, "current_leader", None)
        hinted = hint is not None and self._cluster.metadata.learn_leader(
            *partition.key, int(hint.leader_id), int(hint.leader_epoch)
        )
        if not error.retriable:
            self.fail(broker_error(error, f"fetch of {partition.key!r}"))
        if not hinted:
            self._delay([partition])
            self._cluster.request_update()

    def _out_of_range(self, partition: Partition) -> None:
        reset = RESETS.get(self._settings.auto_offset_reset)
        if reset is None:
            self.fail(
                NoOffset(
                    f"offset {partition.fetch_offset} of {partition.key!r} is out of range,"
                    f" and auto.offset.reset is none: {NO_OFFSET_CURE}",
                    topic=partition.key.topic,
                    partition=partition.key.partition,
                )
            )
            self._delay([partition])
        elif partition.batches or self._in_hand(partition):  # what was fetched is handed out first
            self._delay([partition])
        else:
            partition.seek_to(reset)
            self.place()

    def _delay(self, partitions: list[Partition]) -> None:
        client, now = self._cluster.settings, trio.current_time()
        for partition in partitions:
            pause = pause_after(
                partition.failures, client.retry_backoff_ms, client.retry_backoff_max_ms, self._cluster.rng
            )
            partition.failures += 1
            partition.retry_at = now + pause / 1000

    def fail(self, error: ClientError) -> None:
        """Raise it where the user asks for records next."""
        self.errors.append(error)
        self.announce()

    # -- the tasks

    def wake(self) -> None:
        """Look again what to fetch."""
        self._wake.set()

    async def keep_fetching(self) -> None:
        """The task that pumps when something has changed."""
        while True:
            self.pump()
            with self._timer:
                await self._wake.wait()
            self._wake = trio.Event()
            self._timer = trio.CancelScope()

    async def keep_placing(self) -> None:
        """The task that finds out where partitions start."""
        client = self._cluster.settings
        backoff = Backoff(client.retry_backoff_ms, client.retry_backoff_max_ms, self._cluster.rng)
        while True:
            await self._unplaced.wait()
            self._unplaced = trio.Event()
            try:
                await self._place_once()
            except ClientError as error:
                if not is_retriable(error):
                    self.fail(error)
                self._cluster.request_update()
                self._unplaced.set()
                await trio.sleep(backoff.next())
            else:
                backoff.reset()

    async def _place_once(self) -> None:
        unplaced = [p for p in self.partitions.values() if p.position is None]
        await self._place_committed([p for p in unplaced if p.wants_committed])
        for partition in unplaced:
            if partition.position is None and partition.reset is None:
                self._place_by_policy(partition)
        wanted = {p.key: (p, p.era, p.reset) for p in unplaced if p.position is None and p.reset is not None}
        if wanted:
            resets = {key: reset for key, (_, _, reset) in wanted.items()}
            found = await list_offsets(
                self._cluster, resets, lane=self._lane + "-offsets", isolation=self._isolation
            )
            skipped: list[TopicPartition] = []
            for key, (partition, era, reset) in wanted.items():
                is_new = self._begun.pop(key, None) == era
                if partition.era == era:
                    place = found[key]
                    if place is None:  # no record is that late: the end
                        partition.seek_to(LATEST)
                        self._unplaced.set()
                    else:
                        partition.seek(place.offset)
                        if is_new and reset == LATEST and place.offset > 0:
                            skipped.append(key)
            self._say_where(skipped)
        self._wake.set()
        self.announce()

    def _say_where(self, skipped: list[TopicPartition]) -> None:
        """Once: a new group waits in silence at the end of a topic that has records."""
        if not skipped or self._has_said_where:
            return
        self._has_said_where = True
        named = ", ".join(map(repr, sorted(skipped)[:NAMED_MAX])) + (" …" if skipped[NAMED_MAX:] else "")
        log.warning(
            "group %r has committed nothing in %s yet and begins at the end: the records that are there are"
            " not read (auto_offset_reset is 'latest'; 'earliest' reads them)",
            self._settings.group_id,
            named,
        )

    async def _place_committed(self, partitions: list[Partition]) -> None:
        if not partitions or self._fetch_committed is None:
            return
        eras = [(partition, partition.era) for partition in partitions]
        committed = await self._fetch_committed([partition.key for partition in partitions])
        for partition, era in eras:
            if partition.era == era:
                partition.wants_committed = False
                place = committed.get(partition.key)
                if place is not None:
                    partition.seek(place.offset)

    def _place_by_policy(self, partition: Partition) -> None:
        reset = RESETS.get(self._settings.auto_offset_reset)
        if reset is not None:
            partition.seek_to(reset)
            if self._fetch_committed is not None:
                self._begun[partition.key] = partition.era
        elif partition.failures == 0:
            partition.failures = 1
            self.fail(
                NoOffset(
                    f"{partition.key!r} has no committed offset, and auto.offset.reset is none:"
                    f" {NO_OFFSET_CURE}",
                    topic=partition.key.topic,
                    partition=partition.key.partition,
                )
            )

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._cluster.connections.close_lane(self._lane)
        self._cluster.connections.close_lane(self._lane + "-offsets")
        self.announce()

    def __repr__(self) -> str:
        return f"<Fetcher partitions={len(self.partitions)} buffered={self.buffered}>"
