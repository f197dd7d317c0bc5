"""The consumer: records out, positions kept, offsets committed.

Records come out of lists, a batch at a time, without a task switch; where each partition stands is worked
out from the list's iterator when somebody asks. Two positions matter: what was *handed out*, which `commit`
commits, and what is *done*: handed out, and the user came back for more. Committing by itself, the consumer
commits what is done, so a crash repeats records rather than skips them.

The user's code stands still while it waits here for records; only then are partitions taken away.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from typing import Final

import trio

from raftlog.client.assignment import EARLIEST, LATEST, Decoder, Partition, Record
from raftlog.client.cluster import Cluster
from raftlog.client.errors import (
    BrokerError,
    ClientError,
    Closed,
    Disconnected,
    RebalanceNeeded,
    RequestTimedOut,
)
from raftlog.client.fetcher import Fetcher
from raftlog.client.group import Membership
from raftlog.client.metadata import TopicPartition
from raftlog.client.nursery import background
from raftlog.client.offsets import (
    CommittedOffset,
    OffsetAndTimestamp,
    commit_offsets,
    fetch_committed,
    list_offsets,
)
from raftlog.client.settings import ConsumerSettings
from raftlog.errors import ConfigError, InvalidInput
from raftlog.protocol.errors import ErrorCode

CLOSE_SECONDS_MAX: Final = 5.0
"""How long leaving may take for the last commit and the goodbye to the group."""
CANCELLED_CLOSE_SECONDS_MAX: Final = 1.0
"""The same when leaving because of an exception or a cancellation."""

_LOST_GENERATION: Final = {
    ErrorCode.ILLEGAL_GENERATION,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.FENCED_INSTANCE_ID,
}
_OTHER_COORDINATOR: Final = {ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE}


class RebalanceListener:
    """What to do when the group gives partitions or takes them. Override what you need.

    These run in a task of the consumer's; an exception ends the consumer and comes out of its `async with`.
    """

    async def on_assigned(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> None:
        """The consumer has these too now; `seek` works here."""

    async def on_revoked(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> None:
        """The consumer is about to give these up; `commit` works here."""

    async def on_lost(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> None:
        """Others have these already; a commit would fail."""
        await self.on_revoked(consumer, partitions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStatistics:
    """What a consumer has done so far; `buffered_bytes` and `assigned` are as of now."""

    records: int
    fetches: int
    bytes_fetched: int
    buffered_bytes: int
    assigned: int
    commits: int
    rebalances: int


class Consumer:
    """Reads records. Made by `Client.consumer`; lives inside its `async with`; `async for` gives the records.

    Leaving the `async with` commits, if `enable_auto_commit`, and leaves the group. Leaving by an exception
    or by cancellation commits only what is done: the record or batch in hand comes again.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: ConsumerSettings,
        *,
        topics: Iterable[str] = (),
        pattern: str | re.Pattern[str] | None = None,
        partitions: Iterable[TopicPartition | tuple[str, int]] = (),
        listener: RebalanceListener | None = None,
    ) -> None:
        self.settings = settings
        self._cluster = cluster
        self._listener = listener or RebalanceListener()
        self._topics = frozenset(topics)
        self._pattern = re.compile(pattern) if pattern is not None else None
        self._manual = frozenset(TopicPartition(*one) for one in partitions)
        if sum(map(bool, (self._topics, self._pattern, self._manual))) > 1:
            raise ConfigError("a consumer takes topics, or a pattern, or partitions: one of the three")
        self._group: Membership | None = None
        if settings.group_id is not None:
            self._group = Membership(cluster, settings, self)
        self._fetcher = Fetcher(
            cluster,
            settings,
            fetch_committed=self._committed_once if self._group else None,
            in_hand=lambda partition: partition is self._current and length_hint(self._ready) > 0,
        )
        self._decoder = Decoder(settings.key_deserializer, settings.value_deserializer)
        # The list that is being handed out, of whom it is, and the offset behind it.
        self._ready: Iterator[Record] = iter(())
        self._current: Partition | None = None
        self._records: list[Record] = []
        self._behind = 0
        self._era = 0
        self._in_hand: dict[TopicPartition, int] = {}
        self._handed_out = 0
        self._polling = False
        self._polled = trio.Event()
        self._floor_taken = False
        self._left_seen = 0
        self._progress_at = 0.0
        self._committed: dict[TopicPartition, int] = {}
        self._commits = 0
        self._closed = False
        self._matched: tuple[str, ...] = ()

    # -- records out

    def __aiter__(self) -> Consumer:
        return self

    async def __anext__(self) -> Record:
        """The next record, from whichever partition has one.

        Raises NoOffset, NotAuthorized and other errors of single partitions; the consumer goes on after them.
        Waits for ever if there are no records. A checkpoint once a batch, not once a record. Cancelled,
        no record is lost: the next call gives the same.
        """
        for record in self._ready:
            return record
        while True:
            await self._wait_for_records(float("inf"), 1)
            if self._take():
                return next(self._ready)

    async def poll(self, max_records: int | None = None, *, max_wait_ms: float = 1000) -> list[Record]:
        """Up to `max_records` records (`max_poll_records` by default), as soon as there are so many, or those
        that there are after `max_wait_ms`; perhaps none.

        Errors and cancellation are those of `async for`.
        """
        wanted = self.settings.max_poll_records if max_records is None else max_records
        await self._wait_for_records(trio.current_time() + max_wait_ms / 1000, wanted)
        return self._take_many(wanted)

    def batches(self, max_records: int | None = None, max_wait_ms: float = 1000) -> Batches:
        """The records in lists, never empty: `async for batch in consumer.batches(100): ...`.

        A list comes as soon as there are `max_records` (`max_poll_records` by default), or with what there is
        after `max_wait_ms`. While it is worked on it is in hand: the consumer commits it by itself only when
        the next one is asked for.
        """
        return Batches(self, max_records, max_wait_ms)

    async def _wait_for_records(self, deadline: float, wanted: int) -> None:
        """Wait until `wanted` records can be handed out at once, or any at the deadline."""
        if self._closed:
            raise Closed("the consumer is closed")
        if self._polling:
            raise trio.BusyResourceError("another task is waiting for this consumer's records")
        self._settle()
        self._in_hand.clear()
        self._polling = True
        self._polled.set()
        fetcher = self._fetcher
        try:
            await trio.lowlevel.checkpoint()
            fetcher.pump()
            with trio.CancelScope(deadline=deadline):
                while self._floor_taken or not self._enough(wanted):
                    await fetcher.arrived.wait()
            if fetcher.errors and not self._available():
                raise fetcher.errors.popleft()
        finally:
            self._polling = False
            self._polled = trio.Event()
            self._left_seen, self._progress_at = -1, trio.current_time()

    def _enough(self, wanted: int) -> bool:
        return bool(self._closed or self._fetcher.errors or self._available() >= wanted)

    def _available(self) -> int:
        """About how many records can be handed out at once."""
        partitions = self._fetcher.partitions.values()
        return length_hint(self._ready) + sum(p.records_buffered for p in partitions if not p.paused)

    def _take(self) -> bool:
        """Make the next batch with records the one that is handed out."""
        if self._floor_taken:
            return False
        self._settle()
        while (partition := self._fetcher.next_partition()) is not None:
            try:
                records, behind = self._decoder.next_records(partition)
            except InvalidInput as error:
                raise Disconnected(f"damaged records of {partition.key!r}: {error}") from error
            self._handed_out += len(records)
            if records:
                self._current, self._records, self._behind = partition, records, behind
                self._era = partition.era
                self._ready = iter(records)
                self._fetcher.pump()
                return True
            partition.position = behind
        self._fetcher.pump()
        return False

    def _take_many(self, wanted: int) -> list[Record]:
        """Up to so many records that are there, as one piece of work in hand."""
        taken: list[Record] = []
        while len(taken) < wanted and (length_hint(self._ready) or self._take()):
            self._settle()
            if self._current is not None and self._current.position is not None:
                self._in_hand.setdefault(self._current.key, self._current.position)
            taken += islice(self._ready, wanted - len(taken))
        return taken

    def _settle(self) -> None:
        """Bring the position of the partition that is being handed out up to date."""
        if self._current is not None and self._current.era == self._era:
            left = length_hint(self._ready)
            self._current.position = self._records[-left].offset if left else self._behind

    def _cut(self) -> None:
        """Take back what is decoded and not handed out; it will be fetched again."""
        self._settle()
        partition, self._current = self._current, None
        self._ready = iter(())
        if partition is not None and partition.position is not None:
            partition.seek(partition.position)

    def _done_positions(self) -> dict[TopicPartition, int]:
        """Before the record or batch that the user holds; behind it when the user waits for more."""
        done = self.positions()
        if self._polling:
            return done
        held = dict(self._in_hand)
        if not held and self._current is not None:
            index = len(self._records) - length_hint(self._ready) - 1
            if index >= 0:
                held[self._current.key] = self._records[index].offset
        done.update({key: offset for key, offset in held.items() if key in done})
        return done

    # -- positions

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that are read now."""
        return frozenset(self._fetcher.partitions)

    def positions(self) -> dict[TopicPartition, int]:
        """The offset of the next record of each partition, where it is known."""
        self._settle()
        partitions = self._fetcher.partitions
        return {key: p.position for key, p in partitions.items() if p.position is not None}

    async def position(self, topic: str, partition: int) -> int:
        """The offset of the next record of a partition, looked up if need be.

        Raises RequestTimedOut after `default_api_timeout_ms`, KeyError when the partition is not assigned.
        """
        key = TopicPartition(topic, partition)
        limit = self._cluster.settings.default_api_timeout_ms / 1000
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.move_on_after(limit):
            while True:
                self._settle()
                position = self._fetcher.partitions[key].position
                if position is not None:
                    return position
                if self._fetcher.errors:
                    raise self._fetcher.errors.popleft()
                await self._fetcher.arrived.wait()
        raise RequestTimedOut(f"the position of {key!r} is not known within {limit:g} s")

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Go on at an offset of an assigned partition. Raises KeyError when it is not assigned."""
        if offset < 0:
            raise ValueError(f"offset {offset}: use seek_to_beginning or seek_to_end")
        self._seekable(TopicPartition(topic, partition)).seek(offset)
        self._fetcher.wake()

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go to the first record of these partitions, or of all."""
        self._seek_to(dict.fromkeys(partitions or self.assignment, EARLIEST))

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go behind the last record of these partitions, or of all, as it is when that is looked up."""
        self._seek_to(dict.fromkeys(partitions or self.assignment, LATEST))

    def seek_to_time(self, timestamp_ms: int, *partitions: TopicPartition) -> None:
        """Go to the first record at or after a time in milliseconds since the epoch, or to the end."""
        self._seek_to(dict.fromkeys(partitions or self.assignment, timestamp_ms))

    def _seek_to(self, resets: Mapping[TopicPartition, int]) -> None:
        for key, reset in resets.items():
            self._seekable(key).seek_to(reset)
        self._fetcher.place()

    def _seekable(self, key: TopicPartition) -> Partition:
        if self._current is not None and self._current.key == key:
            self._cut()
        self._in_hand.pop(key, None)
        return self._fetcher.partitions[key]

    def pause(self, *partitions: TopicPartition) -> None:
        """Hand out no records of these partitions, or of all, until `resume`."""
        for key in partitions or self.assignment:
            if self._current is not None and self._current.key == key:
                self._cut()
            self._fetcher.partitions[key].paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        """Hand out records of these partitions, or of all, again."""
        for key in partitions or self.assignment:
            self._fetcher.partitions[key].paused = False
        self._fetcher.wake()
        self._fetcher.announce()

    @property
    def paused(self) -> frozenset[TopicPartition]:
        """The partitions that are paused."""
        return frozenset(key for key, p in self._fetcher.partitions.items() if p.paused)

    def lag(self) -> dict[TopicPartition, int]:
        """How many records lie before the end of each partition, as of the last fetch; those not fetched
        yet are missing."""
        self._settle()
        return {key: lag for key, p in self._fetcher.partitions.items() if (lag := p.lag) is not None}

    async def beginning_offsets(self, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """The offset of the first record of these partitions, or of the assigned ones."""
        return await self._look_up(dict.fromkeys(partitions or self.assignment, EARLIEST))

    async def end_offsets(self, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """The offset behind the last record of these partitions, or of the assigned ones."""
        return await self._look_up(dict.fromkeys(partitions or self.assignment, LATEST))

    async def offsets_for_times(
        self, times_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record of each partition at or after a time in milliseconds since the epoch, or None."""
        return await self._cluster.retrying(
            lambda: list_offsets(self._cluster, times_ms), what="offsets by time"
        )

    async def _look_up(self, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        found = await self._cluster.retrying(lambda: list_offsets(self._cluster, wanted), what="offsets")
        return {key: place.offset for key, place in found.items() if place is not None}

    # -- commits

    async def commit(
        self, offsets: Mapping[TopicPartition, int | CommittedOffset] | None = None
    ) -> dict[TopicPartition, CommittedOffset]:
        """Commit that everything handed out is done, or the given offsets: those of the next records.

        Gives what was committed. Raises RebalanceNeeded when the group has given the partitions to others,
        RequestTimedOut after `default_api_timeout_ms`. Cancelled, it may be committed or not.
        """
        group = self._member_of()
        wanted = {
            key: offset if isinstance(offset, CommittedOffset) else CommittedOffset(offset)
            for key, offset in (self.positions() if offsets is None else offsets).items()
        }
        if not wanted:
            await trio.lowlevel.checkpoint()
            return wanted
        held = {key: self._fetcher.partitions.get(key) for key in wanted}

        async def attempt() -> None:
            # Lost and given back meanwhile: it is read again from the commit before, which must stay.
            if any(self._fetcher.partitions.get(key) is not partition for key, partition in held.items()):
                raise RebalanceNeeded(f"commit of group {group.group!r}: partitions have changed hands")
            await self._commit_once(group, wanted)

        await self._cluster.retrying(attempt, what=f"commit of group {group.group!r}")
        return wanted

    async def committed(self, *partitions: TopicPartition) -> dict[TopicPartition, CommittedOffset | None]:
        """Where the group goes on in these partitions, or in the assigned ones; None where it never was."""
        self._member_of()
        keys = list(partitions or self.assignment)
        return await self._cluster.retrying(lambda: self._committed_once(keys), what="committed offsets")

    def _member_of(self) -> Membership:
        if self._closed:
            raise Closed("the consumer is closed")
        if self._group is None:
            raise ConfigError("commits need a group: client.consumer(…, group=…)")
        return self._group

    async def _commit_once(
        self, group: Membership, offsets: Mapping[TopicPartition, CommittedOffset]
    ) -> None:
        member = group.member
        if not member.joined and not self._manual:
            raise RebalanceNeeded(f"commit of group {group.group!r}: this consumer is not a member now")
        try:
            await commit_offsets(
                self._cluster,
                await group.coordinator(),
                group.group,
                offsets,
                generation=member.generation,
                member_id=member.member_id,
                instance_id=member.instance_id,
                lane=group.commit_lane,
            )
        except BrokerError as error:
            if error.code in _OTHER_COORDINATOR:
                group.coordinator_failed()
            if error.code is ErrorCode.REBALANCE_IN_PROGRESS and offsets.keys() <= self.assignment:
                raise Disconnected("the group is rebalancing") from error  # try again in the new generation
            if error.code in _LOST_GENERATION or error.code is ErrorCode.REBALANCE_IN_PROGRESS:
                group.request_rejoin()
                raise RebalanceNeeded(f"commit of group {group.group!r}: {error}") from error
            raise
        except ClientError:
            group.coordinator_failed()
            raise
        self._commits += 1
        self._committed.update({key: place.offset for key, place in offsets.items()})

    async def _committed_once(
        self, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, CommittedOffset | None]:
        group = self._member_of()
        try:
            coordinator = await group.coordinator()
            found = await fetch_committed(
                self._cluster, coordinator, group.group, partitions, lane=group.commit_lane
            )
        except ClientError:
            group.coordinator_failed()
            raise
        self._committed.update({key: place.offset for key, place in found.items() if place is not None})
        return found

    async def _commit_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit by itself what has changed; what fails now is tried again later, or is no longer ours."""
        changed = {
            key: CommittedOffset(offset)
            for key, offset in positions.items()
            if self._committed.get(key) != offset
        }
        if changed and self._group is not None and self.settings.enable_auto_commit:
            try:
                await self._commit_once(self._group, changed)
            except ClientError:
                pass

    async def _keep_committing(self) -> None:
        while True:
            await trio.sleep(self.settings.auto_commit_interval_ms / 1000)
            await self._commit_positions(self._done_positions())

    # -- the subscription

    def subscribe(self, *topics: str, pattern: str | re.Pattern[str] | None = None) -> None:
        """Read other topics from now on, or those that match a pattern; the group shares them out anew."""
        if bool(topics) == (pattern is not None) or self._manual:
            raise ConfigError("a consumer takes topics, or a pattern, or partitions: one of the three")
        self._topics = frozenset(topics)
        self._pattern = re.compile(pattern) if pattern is not None else None
        self._watch()
        self._metadata_changed()
        if self._group is not None:
            self._group.request_rejoin()

    def assign(self, *partitions: TopicPartition | tuple[str, int]) -> None:
        """Read exactly these partitions from now on, whatever the group does."""
        if self._topics or self._pattern is not None:
            raise ConfigError("a consumer takes topics, or a pattern, or partitions: one of the three")
        self._manual = frozenset(TopicPartition(*one) for one in partitions)
        self._watch()
        self._let_go(self.assignment - self._manual)
        self._fetcher.add(sorted(self._manual))

    def wanted_topics(self) -> tuple[str, ...]:
        """The topics that the subscription names or matches now."""
        if self._pattern is None:
            return tuple(sorted(self._topics))
        views = self._cluster.metadata.topics.values()
        internal = not self.settings.exclude_internal_topics
        return tuple(
            sorted(
                v.name for v in views if self._pattern.fullmatch(v.name) and (internal or not v.is_internal)
            )
        )

    def _watch(self) -> None:
        named = self._topics | {key.topic for key in self._manual}
        self._cluster.watch(self, None if self._pattern is not None else named)

    def _metadata_changed(self) -> None:
        wanted = self.wanted_topics()
        if self._group is None or self._manual:
            self._read_all(wanted)
        elif wanted != self._matched:
            self._matched = wanted
            self._group.request_rejoin()
        else:
            self._group.topics_changed()
        self._fetcher.wake()

    def _read_all(self, wanted: Iterable[str]) -> None:
        """Without a group, all partitions of the topics are ours."""
        if self._manual:
            return
        topics = self._cluster.metadata.topics
        keys = {TopicPartition(t, p) for t in wanted if t in topics for p in range(len(topics[t].partitions))}
        gone = {key for key in self.assignment - keys if key.topic not in wanted}
        self._let_go(gone)
        self._fetcher.add(sorted(keys - self.assignment))

    def _let_go(self, partitions: Iterable[TopicPartition]) -> None:
        partitions = frozenset(partitions)
        if self._current is not None and self._current.key in partitions:
            self._cut()
        for key in partitions:
            self._in_hand.pop(key, None)
            self._committed.pop(key, None)
        self._fetcher.remove(partitions)

    # -- what the group asks

    def owned(self) -> frozenset[TopicPartition]:
        """The partitions that the group has given us."""
        return self.assignment

    def poll_overdue(self, now: float) -> bool:
        """Whether the user's code holds a record for longer than max.poll.interval.ms."""
        left = length_hint(self._ready)
        if self._polling or left != self._left_seen:
            self._left_seen, self._progress_at = left, now
        return now - self._progress_at > self.settings.max_poll_interval_ms / 1000

    async def until_polling(self) -> None:
        """Wait until the user's code is between two records."""
        while not self._polling:
            await self._polled.wait()

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Let partitions go, once the user's code is between two records."""
        going = frozenset(partitions) & self.assignment
        if not going:
            return
        self._cut()
        await self.until_polling()
        self._floor_taken = True
        try:
            positions = {key: offset for key, offset in self.positions().items() if key in going}
            await self._commit_positions(positions)
            await self._listener.on_revoked(self, going)
        finally:
            self._let_go(going)
            self._floor_taken = False
            self._fetcher.announce()

    async def assign_more(self, partitions: Iterable[TopicPartition]) -> None:
        """Take partitions."""
        coming = frozenset(partitions)
        self._fetcher.add(sorted(coming))
        await self._listener.on_assigned(self, coming)

    async def lose(self, partitions: Iterable[TopicPartition]) -> None:
        """Others have these partitions already."""
        going = frozenset(partitions) & self.assignment
        if going:
            self._let_go(going)
            await self._listener.on_lost(self, going)

    # -- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Consumer]:
        """The consumer's life."""
        cluster = self._cluster
        cluster.on_update.add(self._metadata_changed)
        self._progress_at = trio.current_time()
        grouped = self._group is not None and not self._manual
        try:
            async with background() as nursery:
                self._watch()
                self._metadata_changed()
                self._fetcher.add(sorted(self._manual))
                nursery.start_soon(self._fetcher.keep_fetching)
                nursery.start_soon(self._fetcher.keep_placing)
                if self._group is not None and self.settings.enable_auto_commit:
                    nursery.start_soon(self._keep_committing)
                if self._group is not None and grouped:
                    nursery.start_soon(self._group.run)
                failed = True
                try:
                    yield self
                    failed = False
                finally:
                    nursery.cancel_scope.cancel()
                    await self._say_goodbye(failed)
        finally:
            self._closed = True
            cluster.on_update.discard(self._metadata_changed)
            cluster.unwatch(self)
            self._fetcher.close()
            if self._group is not None:
                cluster.unwatch(self._group)
                self._group.close()

    async def _say_goodbye(self, failed: bool) -> None:
        """The last commit, and leaving the group: within bounds, even when cancelled."""
        limit = CANCELLED_CLOSE_SECONDS_MAX if failed else CLOSE_SECONDS_MAX
        with trio.CancelScope(shield=True, deadline=trio.current_time() + limit):
            positions = self._done_positions() if failed else self.positions()
            await self._commit_positions(positions)
            if self._group is not None:
                await self._group.leave()

    def statistics(self) -> ConsumerStatistics:
        """A snapshot of the counters."""
        fetcher = self._fetcher
        return ConsumerStatistics(
            records=self._handed_out - length_hint(self._ready),
            fetches=fetcher.fetches,
            bytes_fetched=fetcher.bytes_fetched,
            buffered_bytes=fetcher.buffered,
            assigned=len(fetcher.partitions),
            commits=self._commits,
            rebalances=self._group.rebalances if self._group is not None else 0,
        )

    def __repr__(self) -> str:
        what = self.settings.group_id or "(no group)"
        state = "closed" if self._closed else "open"
        return f"<Consumer {what} {state} assigned={sorted(self.assignment)}>"


class Batches:
    """What `Consumer.batches` gives: an iterator without an end, which may be left and used again."""

    def __init__(self, consumer: Consumer, max_records: int | None, max_wait_ms: float) -> None:
        self._consumer = consumer
        self._max_records = max_records
        self._max_wait_ms = max_wait_ms

    def __aiter__(self) -> Batches:
        return self

    async def __anext__(self) -> list[Record]:
        while True:
            batch = await self._consumer.poll(self._max_records, max_wait_ms=self._max_wait_ms)
            if batch:
                return batch
