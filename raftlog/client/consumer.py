"""The consumer: what its user calls, and its life.

The parts: `reading` hands records out, `fetcher` gets them, `share` knows which partitions are read,
`commits` what is done with them, and `group` is the membership.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic

import trio

from raftlog.client.arguments import checked, flat
from raftlog.client.assignment import EARLIEST, LATEST, Decoder, Partition
from raftlog.client.assignors import Assignor
from raftlog.client.cluster import Cluster
from raftlog.client.commits import Commits, GroupMetadata
from raftlog.client.errors import ClientError, Closed, NotAssigned, timed_out
from raftlog.client.fetcher import Fetcher
from raftlog.client.group import Membership
from raftlog.client.kinds import K_co, V_co
from raftlog.client.metadata import TopicPartition
from raftlog.client.nursery import background
from raftlog.client.offsets import CommittedOffset, OffsetAndTimestamp, list_offsets
from raftlog.client.reading import Reading
from raftlog.client.record import Record
from raftlog.client.settings import ConsumerSettings
from raftlog.client.share import Pattern, Share
from raftlog.errors import ConfigError

CLOSE_SECONDS_MAX: Final = 5.0
"""How long leaving may take for the last commit and the goodbye to the group."""
CANCELLED_CLOSE_SECONDS_MAX: Final = 1.0
"""The same when leaving because of an exception or a cancellation."""


class RebalanceListener:
    """What to do when the group gives partitions or takes them. Override what you need.

    These run in a task of the consumer's; an exception ends the consumer and comes out of its `async with`.
    """

    async def on_assigned(self, consumer: Consumer[Any, Any], partitions: frozenset[TopicPartition]) -> None:
        """The consumer has these too now; `seek` works here."""

    async def on_revoked(self, consumer: Consumer[Any, Any], partitions: frozenset[TopicPartition]) -> None:
        """The consumer is about to give these up; `commit` works here."""

    async def on_lost(self, consumer: Consumer[Any, Any], partitions: frozenset[TopicPartition]) -> None:
        """Others have these already; a commit would fail."""
        await self.on_revoked(consumer, partitions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStatistics:
    """What a consumer has done so far; `buffered_bytes`, `assigned` and `silent_s` are as of now."""

    records: int
    fetches: int
    bytes_fetched: int
    buffered_bytes: int
    assigned: int
    commits: int
    rebalances: int
    silent_s: float
    """Seconds since the group's coordinator was asked last what it has answered. Beyond the session time-out
    others have the partitions. Infinite before the first answer, 0 without a group."""


@checked("running")
class Consumer(Generic[K_co, V_co]):
    """Reads records. Made by `Client.consumer`; lives inside its `async with`; `async for` gives the records.
    `Consumer[str, Order]` is one whose deserializers give a str and an Order; without them it gives bytes.

    Leaving the `async with` commits, if `enable_auto_commit`, and leaves the group. Leaving by an exception
    or by cancellation commits only what is done: the record or batch in hand comes again.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: ConsumerSettings,
        *,
        topics: Iterable[str] = (),
        pattern: Pattern | None = None,
        partitions: Iterable[TopicPartition | tuple[str, int]] = (),
        listener: RebalanceListener | None = None,
        assignor: Assignor | None = None,
    ) -> None:
        self.settings = settings
        self._cluster = cluster
        self._group = Membership(cluster, settings, assignor) if settings.group_id is not None else None
        self._fetcher = Fetcher(
            cluster,
            settings,
            fetch_committed=(lambda keys: self._commits_of().fetch(keys)) if self._group else None,
            in_hand=lambda partition: self._reading.is_of(partition),
        )
        decoder = Decoder(settings.key_deserializer, settings.value_deserializer)
        self._reading = Reading(self._fetcher, decoder)
        self._commits = Commits(cluster, self._group, self._fetcher.partitions) if self._group else None
        self._share = Share(
            cluster,
            settings,
            self._fetcher,
            self._reading,
            group=self._group,
            commits=self._commits,
            listener=_Told(listener or RebalanceListener(), self),
        )
        self._share.want(topics, pattern, partitions)
        self._closed = False

    # -- records out

    if not TYPE_CHECKING:  # so that mypy and pyright go on refusing a plain `for`

        def __iter__(self):
            raise TypeError("`for` does not read a consumer, `async for` does: async for record in consumer")

    def __aiter__(self) -> Consumer[K_co, V_co]:
        return self

    async def __anext__(self) -> Record[K_co, V_co]:
        """The next record, from whichever partition has one.

        Raises NoOffset, NotAuthorized and other errors of single partitions; the consumer goes on after them.
        Raises DeserializationError for a record that a deserializer does not take, as often as it is met:
        `seek` behind it to go on.
        Waits for ever if there are no records. A checkpoint once a batch, not once a record. Cancelled,
        no record is lost: the next call gives the same.
        """
        for record in self._reading.ready:
            return record
        while True:
            await self._wait_for_records(float("inf"), 1)
            if self._reading.take():
                return next(self._reading.ready)

    async def poll(
        self, max_records: int | None = None, *, max_wait_ms: float = 1000
    ) -> list[Record[K_co, V_co]]:
        """Up to `max_records` records (`max_poll_records` by default), as soon as there are so many, or those
        that there are after `max_wait_ms`; perhaps none.

        Errors and cancellation are those of `async for`.
        """
        wanted = self.settings.max_poll_records if max_records is None else max_records
        await self._wait_for_records(trio.current_time() + max_wait_ms / 1000, wanted)
        return self._reading.take_many(wanted)

    def batches(self, max_records: int | None = None, max_wait_ms: float = 1000) -> Batches[K_co, V_co]:
        """The records in lists, never empty: `async for batch in consumer.batches(100): ...`.

        A list comes as soon as there are `max_records` (`max_poll_records` by default), or with what there is
        after `max_wait_ms`, or with what comes next if there is nothing then. While it is worked on it is in
        hand: the consumer commits it by itself only when the next one is asked for.
        """
        return Batches(self, max_records, max_wait_ms)

    async def _wait_for_records(self, deadline: float, wanted: int) -> None:
        """Wait until `wanted` records can be handed out at once, or any at the deadline."""
        if self._closed:
            raise Closed("the consumer is closed")
        self._check_wanted()
        if self._share.is_polling:
            raise trio.BusyResourceError("another task is waiting for this consumer's records")
        fetcher, reading = self._fetcher, self._reading
        reading.come_back()
        self._share.user_waits()
        try:
            await trio.lowlevel.checkpoint()
            fetcher.pump()
            with trio.CancelScope(deadline=deadline):
                while reading.is_held or not self._enough(wanted):
                    await fetcher.arrived.wait()
            if fetcher.errors and not reading.available():
                raise fetcher.errors.popleft()
        finally:
            self._share.user_works()

    def _check_wanted(self) -> None:
        """Raise ConfigError when no records can come, whatever happens."""
        if self._share.wants_nothing:
            raise ConfigError(
                "this consumer reads nothing: name topics (client.consumer('orders')), a pattern or"
                " partitions, or call subscribe() or assign() before"
            )

    def _enough(self, wanted: int) -> bool:
        return bool(self._closed or self._fetcher.errors or self._reading.available() >= wanted)

    # -- positions

    async def wait_assigned(self, *, timeout_ms: float | None = None) -> frozenset[TopicPartition]:
        """Wait until partitions are assigned, and it is known where reading begins in each; which they are.

        What is written from then on is read, also with `auto_offset_reset="latest"`. A member of a group that
        has more members than partitions may get none. Raises RequestTimedOut after `timeout_ms`
        (`default_api_timeout_ms` by default), with the reason, and errors of single partitions, as reading
        does. Cancelled, nothing is lost.
        """
        limit = self._cluster.settings.default_api_timeout_ms if timeout_ms is None else timeout_ms
        self._check_wanted()
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.move_on_after(limit / 1000):
            while not self._share.is_settled:
                if self._closed:
                    raise Closed("the consumer is closed")
                if self._fetcher.errors:
                    raise self._fetcher.errors.popleft()
                await self._fetcher.arrived.wait()
            return self.assignment
        raise timed_out(f"no partitions within {limit:g} ms", self._why_unassigned())

    def _why_unassigned(self) -> ClientError | None:
        unplaced = [p.key for p in self._fetcher.partitions.values() if p.position is None]
        nobody = self._cluster.trouble.with_brokers()
        return (
            nobody
            or self._share.missing.reason
            or (self._cluster.why_not(*unplaced[0]) if unplaced else None)
        )

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that are read now."""
        return self._share.owned()

    def positions(self) -> dict[TopicPartition, int]:
        """The offset of the next record of each partition, where it is known."""
        return self._reading.positions()

    async def position(self, topic: str, partition: int) -> int:
        """The offset of the next record of a partition, looked up if need be.

        Raises RequestTimedOut after `default_api_timeout_ms`, NotAssigned when the partition is not assigned.
        """
        key = TopicPartition(topic, partition)
        limit = self._cluster.settings.default_api_timeout_ms / 1000
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.move_on_after(limit):
            while True:
                self._reading.settle()
                position = self._assigned(key).position
                if position is not None:
                    return position
                if self._fetcher.errors:
                    raise self._fetcher.errors.popleft()
                await self._fetcher.arrived.wait()
        raise timed_out(
            f"the position of {key!r} is not known within {limit:g} s", self._cluster.why_not(*key)
        )

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Go on at an offset of an assigned partition. Raises NotAssigned when it is not."""
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
        partition = self._assigned(key)
        self._reading.drop(key)
        return partition

    def _assigned(self, key: TopicPartition) -> Partition:
        partition = self._fetcher.partitions.get(key)
        if partition is None:
            now = ", ".join(map(repr, sorted(self.assignment))) or "nothing yet: await wait_assigned() first"
            raise NotAssigned(f"{key!r} is not assigned to this consumer; assigned is {now}")
        return partition

    def pause(self, *partitions: TopicPartition) -> None:
        """Hand out no records of these partitions, or of all, until `resume`. Raises NotAssigned."""
        for key in partitions or self.assignment:
            partition = self._assigned(key)
            self._reading.interrupt(key)
            partition.paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        """Hand out records of these partitions, or of all, again."""
        for key in partitions or self.assignment:
            self._assigned(key).paused = False
        self._fetcher.wake()
        self._fetcher.announce()

    @property
    def paused(self) -> frozenset[TopicPartition]:
        """The partitions that are paused."""
        return frozenset(key for key, p in self._fetcher.partitions.items() if p.paused)

    def lag(self) -> dict[TopicPartition, int]:
        """How many records lie before the end of each partition, as of the last fetch; those not fetched
        yet are missing."""
        self._reading.settle()
        return {key: lag for key, p in self._fetcher.partitions.items() if (lag := p.lag) is not None}

    async def beginning_offsets(self, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """The offset of the first record of these partitions, or of the assigned ones."""
        return await self._look_up(dict.fromkeys(partitions or self.assignment, EARLIEST))

    async def end_offsets(self, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """The offset behind the last record of these partitions, or of the assigned ones; with
        `isolation_level="read_committed"` where the first transaction begins that is still open."""
        return await self._look_up(dict.fromkeys(partitions or self.assignment, LATEST))

    async def offsets_for_times(
        self, times_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record of each partition at or after a time in milliseconds since the epoch, or None."""
        return await self._cluster.retrying(
            lambda: list_offsets(self._cluster, times_ms, isolation=self.settings.isolation),
            what="offsets by time",
        )

    async def _look_up(self, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        found = await self._cluster.retrying(
            lambda: list_offsets(self._cluster, wanted, isolation=self.settings.isolation), what="offsets"
        )
        return {key: place.offset for key, place in found.items() if place is not None}

    # -- commits

    async def commit(
        self, offsets: Mapping[TopicPartition, int | CommittedOffset] | None = None
    ) -> dict[TopicPartition, CommittedOffset]:
        """Commit that everything handed out is done, or the given offsets: those of the next records.

        Gives what was committed. Raises RebalanceNeeded when the group has given the partitions to others,
        RequestTimedOut after `default_api_timeout_ms`. Cancelled, it may be committed or not.
        """
        commits = self._commits_of()
        wanted = {
            key: offset if isinstance(offset, CommittedOffset) else CommittedOffset(offset)
            for key, offset in (self.positions() if offsets is None else offsets).items()
        }
        if wanted:
            await commits.commit(wanted)
        else:
            await trio.lowlevel.checkpoint()
        return wanted

    async def committed(self, *partitions: TopicPartition) -> dict[TopicPartition, CommittedOffset | None]:
        """Where the group goes on in these partitions, or in the assigned ones; None where it never was."""
        return await self._commits_of().committed(list(partitions or self.assignment))

    def group_metadata(self) -> GroupMetadata:
        """What `Transaction.send_offsets` needs; call it right after the records were handed out.

        Raises ConfigError without a group, and with `enable_auto_commit`: the consumer would commit what a
        transaction may abort. Raises RebalanceNeeded when the consumer is not a member.
        """
        commits = self._commits_of()
        if self.settings.enable_auto_commit:
            raise ConfigError("offsets in transactions need enable_auto_commit=False")
        return commits.group_metadata()

    def _commits_of(self) -> Commits:
        if self._closed:
            raise Closed("the consumer is closed")
        if self._commits is None:
            raise ConfigError("commits need a group: client.consumer(…, group=…)")
        return self._commits

    async def _keep_committing(self, commits: Commits) -> None:
        while True:
            await trio.sleep(self.settings.auto_commit_interval_ms / 1000)
            await commits.commit_changed(self._done())

    def _done(self) -> dict[TopicPartition, int]:
        """Where the user's work is done: all that was handed out, when the user waits for more."""
        return self.positions() if self._share.is_polling else self._reading.done_positions()

    # -- the subscription

    def subscribe(self, *topics: str | Iterable[str], pattern: Pattern | None = None) -> None:
        """Read other topics from now on, or those that match a pattern; the group shares them out anew."""
        self._share.subscribe(flat(topics), pattern)

    def assign(self, *partitions: TopicPartition | tuple[str, int]) -> None:
        """Read exactly these partitions from now on, whatever the group does."""
        self._share.assign(partitions)

    # -- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Consumer[K_co, V_co]]:
        """The consumer's life."""
        cluster, share, group = self._cluster, self._share, self._group
        cluster.on_update.add(share.metadata_changed)
        share.user_works()
        try:
            async with background() as nursery:
                share.begin()
                nursery.start_soon(self._fetcher.keep_fetching)
                nursery.start_soon(self._fetcher.keep_placing)
                if self._commits is not None and self.settings.enable_auto_commit:
                    nursery.start_soon(self._keep_committing, self._commits)
                if group is not None and share.is_grouped:
                    nursery.start_soon(group.run, share)
                failed = True
                try:
                    yield self
                    failed = False
                finally:
                    nursery.cancel_scope.cancel()
                    await self._say_goodbye(failed)
        finally:
            self._closed = True
            cluster.on_update.discard(share.metadata_changed)
            share.close()
            self._fetcher.close()
            if group is not None:
                group.close()

    async def _say_goodbye(self, failed: bool) -> None:
        """The last commit, and leaving the group: within bounds, even when cancelled."""
        limit = CANCELLED_CLOSE_SECONDS_MAX if failed else CLOSE_SECONDS_MAX
        with trio.CancelScope(shield=True, deadline=trio.current_time() + limit):
            if self._commits is not None and self.settings.enable_auto_commit:
                await self._commits.commit_changed(self._done() if failed else self.positions())
            if self._group is not None:
                await self._group.leave()

    def statistics(self) -> ConsumerStatistics:
        """A snapshot of the counters."""
        fetcher = self._fetcher
        return ConsumerStatistics(
            records=self._reading.handed_out,
            fetches=fetcher.fetches,
            bytes_fetched=fetcher.bytes_fetched,
            buffered_bytes=fetcher.buffered,
            assigned=len(fetcher.partitions),
            commits=self._commits.made if self._commits is not None else 0,
            rebalances=self._group.rebalances if self._group is not None else 0,
            silent_s=self._group.silent_s if self._group is not None else 0.0,
        )

    def __repr__(self) -> str:
        what = self.settings.group_id or "(no group)"
        state = "closed" if self._closed else "open"
        return f"<Consumer {what} {state} assigned={sorted(self.assignment)}>"


class _Told:
    """A listener with its consumer."""

    def __init__(self, listener: RebalanceListener, consumer: Consumer[Any, Any]) -> None:
        self._listener = listener
        self._consumer = consumer

    async def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        await self._listener.on_assigned(self._consumer, partitions)

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        await self._listener.on_revoked(self._consumer, partitions)

    async def lost(self, partitions: frozenset[TopicPartition]) -> None:
        await self._listener.on_lost(self._consumer, partitions)


class Batches(Generic[K_co, V_co]):
    """What `Consumer.batches` gives: an iterator without an end, which may be left and used again."""

    def __init__(self, consumer: Consumer[K_co, V_co], max_records: int | None, max_wait_ms: float) -> None:
        self._consumer = consumer
        self._max_records = max_records
        self._max_wait_ms = max_wait_ms

    def __aiter__(self) -> Batches[K_co, V_co]:
        return self

    async def __anext__(self) -> list[Record[K_co, V_co]]:
        max_wait_ms = self._max_wait_ms
        while not (batch := await self._consumer.poll(self._max_records, max_wait_ms=max_wait_ms)):
            await self._consumer._wait_for_records(float("inf"), 1)
            max_wait_ms = 0  # it has waited already
        return batch
