"""What a commit of a worker's tasks is.

At least once: outputs are sent as they come; a commit flushes them and the changelogs, then says how far each
writer is, and then commits the offsets. Exactly once: outputs wait for the commit, which is one transaction
with the changelogs and the offsets (KIP-447).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import trio

from raftlog.client.consumer import Consumer
from raftlog.client.delivery import Delivery
from raftlog.client.errors import CommitUnknown, RebalanceNeeded, RecordTooLarge
from raftlog.client.metadata import TopicPartition
from raftlog.client.offsets import CommittedOffset
from raftlog.client.partitioner import murmur2_partition
from raftlog.client.producer import Producer
from raftlog.client.transactional import Transaction
from raftlog.streams.errors import refused_for_good
from raftlog.streams.outputs import Output, Prepared
from raftlog.streams.task import Task
from raftlog.streams.telling import ALL_PARTITIONS
from raftlog.streams.topology import App

log: Final = logging.getLogger("raftlog.streams")

UNSETTLED_SECONDS_MAX: Final = 600.0
"""A worker that does not hear for so long whether its commit has succeeded ends, for somebody to look."""
SETTLE_PAUSE_SECONDS: Final = 0.2
DOUBT_SHARE: Final = 0.8
"""Of the session time-out without an answer of the group: others may soon have this worker's tasks."""
DOUBT_PAUSE_SECONDS: Final = 0.1
KEYS_CACHED_MAX: Final = 65_536
"""Keys whose partition is kept: some 10 MB of short ones. The client keeps 4,096, which the keys of a store
pass through in turn, so that each is hashed once a commit."""
partition_of: Final = lru_cache(maxsize=KEYS_CACHED_MAX)(murmur2_partition)
Sent = tuple[bytes | None, bytes | None, int]
"""Key, value and time of a record."""
Ends = dict[tuple[str, int], tuple[str, int]]
"""By changelog and partition: the topic's id, and the offset behind what was written."""


class Commits:
    """What one worker sends and commits."""

    def __init__(
        self, app: App, producer: Producer, consumer: Consumer, changelog_ids: Mapping[str, str]
    ) -> None:
        self._app = app
        self._once = app.guarantee == "exactly_once"
        self._producer = producer
        self._consumer = consumer
        self._changelog_ids = changelog_ids
        self._held_back: dict[Task, list[Output]] = {}

    @property
    def waiting(self) -> int:
        """How many outputs wait for the commit."""
        return sum(map(len, self._held_back.values()))

    def forget(self, task: Task) -> None:
        """A task ends without a commit: its outputs must not go out with another's offsets."""
        self._held_back.pop(task, None)

    async def write(self, prepared: Mapping[Task, Prepared]) -> Ends:
        """Commit. Raises RebalanceNeeded, DeliveryError, TransactionAborted: nothing counts, but that at
        least once what was sent may be there. Raises ProducerFailed when another has the name, TooSlowError
        when it is not known for very long what came of it."""
        return await (self._once_exactly(prepared) if self._once else self._at_least_once(prepared))

    async def send(self, task: Task, outputs: list[Output]) -> None:
        """Outputs of a task, in order. Raises StreamsError when one is larger than a producer sends."""
        if self._once:
            self._held_back.setdefault(task, []).extend(outputs)
            return
        try:
            await self._send_all(outputs)
        except RecordTooLarge as error:
            raise refused_for_good(self._app.name, error) from error

    async def _send_all(self, outputs: Iterable[Output]) -> None:
        producer, counts = self._producer, dict[str, int]()
        runs: defaultdict[tuple[str, int], list[Sent]] = defaultdict(list)
        for output in outputs:
            topic, key, value, timestamp, partition, headers = output
            if key is None or partition is not None or headers:
                await self._send_runs(runs)  # first: a watermark comes behind its records
                await self._send_one(output)
                continue
            count = counts.get(topic)
            if count is None:
                count = counts[topic] = await producer.partitions(topic)
            runs[topic, partition_of(key, count)].append((key, value, timestamp if timestamp > 0 else 0))
        await self._send_runs(runs)

    async def _send_one(self, output: Output) -> None:
        topic, key, value, timestamp, partition, headers = output
        places: Sequence[int | None] = (partition,)
        if partition == ALL_PARTITIONS:
            places = range(await self._producer.partitions(topic))
        for place in places:
            await self._producer.send_soon(
                topic,
                value,
                key=key,
                partition=place,
                timestamp_ms=max(timestamp, 0),
                headers=headers or None,
            )

    async def _send_runs(self, runs: dict[tuple[str, int], list[Sent]]) -> None:
        """What goes to each partition, in order."""
        for (topic, partition), records in runs.items():
            await self._producer.send_many_soon(topic, partition, records)
        runs.clear()

    @property
    def is_in_doubt(self) -> bool:
        """At least once, whether somebody else may be writing the changelogs of this worker's tasks. A worker
        that was stopped or cut off for longer than its session would set back what its successor has counted,
        and no broker refuses that."""
        if self._once:
            return False
        session = self._consumer.settings.session_timeout_ms / 1000
        return self._consumer.statistics().silent_s > DOUBT_SHARE * session

    async def wait_in_doubt(self) -> bool:
        """Whether it is in doubt; then a moment has passed, in which the group may have answered."""
        if not self.is_in_doubt:
            return False
        await trio.sleep(DOUBT_PAUSE_SECONDS)
        return True

    async def _at_least_once(self, prepared: Mapping[Task, Prepared]) -> Ends:
        if self.is_in_doubt:
            raise RebalanceNeeded("the group's coordinator has not answered for most of a session")
        last = await self._send_changes(prepared)
        await self._producer.flush()
        for task in prepared:
            await self.send(task, task.telling.take(task.watermark))
        await self._consumer.commit(_offsets(prepared))
        return await self._ends(last)

    async def _once_exactly(self, prepared: Mapping[Task, Prepared]) -> Ends:
        group = self._consumer.group_metadata()
        held_back, self._held_back = self._held_back, {}
        transaction = None
        try:
            async with self._producer.transaction() as transaction:
                for task in prepared:
                    await self._send_all((*held_back.get(task, ()), *task.telling.take(task.watermark)))
                last = await self._send_changes(prepared)
                await transaction.send_offsets(_offsets(prepared), group)
        except CommitUnknown:
            assert transaction is not None, "a transaction that is unsettled is settled below"
            await self._settle(transaction)
        return await self._ends(last)

    async def _settle(self, transaction: Transaction) -> None:
        """Find out whether a commit has succeeded: until then nobody, this worker included, is told where to
        go on."""
        with trio.fail_after(UNSETTLED_SECONDS_MAX):
            while True:
                try:
                    return await transaction.settle()
                except CommitUnknown as error:
                    log.warning("app %s: %s", self._app.name, error)
                    await trio.sleep(SETTLE_PAUSE_SECONDS)

    async def _send_changes(self, prepared: Mapping[Task, Prepared]) -> dict[tuple[str, int], Delivery]:
        """The last record of each changelog's partition."""
        last = {}
        for task, each in prepared.items():
            for topic, changes in each.changes.items():
                delivery = await self._producer.send_many_soon(topic, task.partition, changes)
                assert delivery is not None, f"no changes for {topic}"
                last[topic, task.partition] = delivery
        return last

    async def _ends(self, last: Mapping[tuple[str, int], Delivery]) -> Ends:
        ids = self._changelog_ids
        found = {}
        for (topic, partition), delivery in last.items():
            written = await delivery.wait()
            if written.offset >= 0:  # else a repeat was found, and the broker did not know where
                found[topic, partition] = ids[topic], written.offset + 1
        return found


def _offsets(prepared: Mapping[Task, Prepared]) -> dict[TopicPartition, CommittedOffset]:
    return {
        TopicPartition(topic, task.partition): CommittedOffset(offset, metadata=metadata)
        for task, each in prepared.items()
        for topic, (offset, metadata) in each.offsets.items()
    }
