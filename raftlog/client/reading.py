"""What a consumer hands out: the list that its user is in, and where each partition stands.

Records come out of lists, a batch at a time, without a task switch; where a partition stands is worked out
from the list's iterator when somebody asks. Two positions matter: what was *handed out*, which `commit`
commits, and what is *done*: handed out, and the user came back for more. Committing by itself, the consumer
commits what is done, so a crash repeats records rather than skips them.

Synchronous: it neither waits nor asks a broker.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from operator import length_hint
from typing import Any

from raftlog.client.assignment import Decoder, Partition, next_columns
from raftlog.client.errors import ClientError, Disconnected
from raftlog.client.fetcher import Fetcher
from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.errors import InvalidInput
from raftlog.records.record import Columns


class Reading:
    """The records that a consumer's user is in the middle of."""

    def __init__(self, fetcher: Fetcher, decoder: Decoder) -> None:
        self.ready: Iterator[Record[Any, Any]] = iter(())
        """Records that can be handed out at once."""
        self.is_held = False
        """The group is taking partitions away: nothing is handed out."""
        self._fetcher = fetcher
        self._decoder = decoder
        # Of the list that `ready` goes through: whose it is, and the offset behind it.
        self._current: Partition | None = None
        self._records: list[Record[Any, Any]] = []
        self._behind = 0
        self._era = 0
        self._in_hand: dict[TopicPartition, int] = {}
        self._taken = 0

    @property
    def left(self) -> int:
        """Records that can be handed out at once."""
        return length_hint(self.ready)

    @property
    def handed_out(self) -> int:
        """Records that the user has got."""
        return self._taken - self.left

    def available(self) -> int:
        """About how many records can be handed out without waiting."""
        partitions = self._fetcher.partitions.values()
        return self.left + sum(p.records_buffered for p in partitions if not p.paused)

    def is_of(self, partition: Partition) -> bool:
        """Whether the user has records of a partition before them."""
        return partition is self._current and self.left > 0

    # -- records out

    def come_back(self) -> None:
        """The user wants more: what was in hand is done."""
        self.settle()
        self._in_hand.clear()
        if not self.left:
            self._current = None

    def following(self) -> Partition | None:
        """The partition that `take` goes on with."""
        partition = None if self.is_held else self._fetcher.next_partition()
        if partition is not None:
            self._fetcher.return_turn()
        return partition

    def take(self) -> bool:
        """Make the next batch with records the list that is handed out; False when there is none.

        Raises Disconnected for damaged records, which are fetched again, and DeserializationError.
        """
        if self.is_held:
            return False
        self.settle()
        while (partition := self._fetcher.next_partition()) is not None:
            try:
                records, behind = self._decoder.next_records(partition)
            except InvalidInput as error:
                raise self._damaged(partition, error) from error
            self._taken += len(records)
            if records:
                self._current, self._records, self._behind = partition, records, behind
                self._era = partition.era
                self.ready = iter(records)
                self._fetcher.pump()
                return True
            partition.position = behind
        self._fetcher.pump()
        return False

    def take_many(self, wanted: int) -> list[Record[Any, Any]]:
        """Up to so many records that are there, as one piece of work in hand.

        Raises what `take` raises, but only before the first record: what is taken is given, and the next call
        begins with the partition that is in trouble.
        """
        taken: list[Record[Any, Any]] = []
        while len(taken) < wanted:
            try:
                if not (self.left or self.take()):
                    break
            except ClientError:
                if not taken:
                    raise
                self._fetcher.return_turn()
                break
            self.settle()
            if self._current is not None and self._current.position is not None:
                self._in_hand.setdefault(self._current.key, self._current.position)
            taken += islice(self.ready, wanted - len(taken))
        return taken

    def take_batches(self, wanted: int, keys_only: Collection[str]) -> list[tuple[TopicPartition, Columns]]:
        """The records of whole batches, until they are as many as wanted, as one piece of work in hand.
        `keys_only` are topics of whose records nobody looks at values and headers.

        Raises Disconnected for damaged records, but only before the first batch. What is left of a list that
        is handed out is fetched again.
        """
        if self.left:
            self.cut()
        taken: list[tuple[TopicPartition, Columns]] = []
        while wanted > 0 and not self.is_held:
            partition = self._fetcher.next_partition()
            if partition is None:
                break
            key, position = partition.key, partition.position
            try:
                columns, behind = next_columns(partition, keys_only=key.topic in keys_only)
            except InvalidInput as error:
                if not taken:
                    raise self._damaged(partition, error) from error
                self._fetcher.return_turn()
                break
            if position is not None:
                self._in_hand.setdefault(key, position)
            partition.position = behind
            if count := len(columns.offsets):
                taken.append((key, columns))
                self._taken += count
                wanted -= count
        self._fetcher.pump()
        return taken

    def _damaged(self, partition: Partition, error: InvalidInput) -> Disconnected:
        self._fetcher.fetch_again(partition)
        return Disconnected(f"damaged records of {partition.key!r}: {error}")

    # -- where it stands

    def settle(self) -> None:
        """Bring the position of the partition that is being handed out up to date."""
        if self._current is not None and self._current.era == self._era:
            left = self.left
            if left:
                self._current.position = self._records[-left].offset
            else:
                self._current.position = max(self._behind, self._current.position or 0)
                self._current.pass_gap()

    def cut(self) -> None:
        """Take back what is decoded and not handed out; it will be fetched again."""
        self.settle()
        partition, self._current = self._current, None
        self._taken -= self.left
        self.ready = iter(())
        if partition is not None and partition.position is not None:
            partition.seek(partition.position)

    def interrupt(self, key: TopicPartition) -> None:
        """Hand out nothing more of what was fetched of a partition."""
        if self._current is not None and self._current.key == key:
            self.cut()

    def drop(self, key: TopicPartition) -> None:
        """The same, and what is in hand of it does not count any more."""
        self.interrupt(key)
        self._in_hand.pop(key, None)

    def positions(self) -> dict[TopicPartition, int]:
        """The offset of the next record of each partition, where it is known."""
        self.settle()
        partitions = self._fetcher.partitions
        return {key: p.position for key, p in partitions.items() if p.position is not None}

    def lag_since(self, since: float) -> dict[TopicPartition, int]:
        """The lag of the partitions whose leader was asked since then, and has answered."""
        self.settle()
        partitions = self._fetcher.partitions
        return {
            key: lag for key, p in partitions.items() if p.asked_at >= since and (lag := p.lag) is not None
        }

    def done_positions(self) -> dict[TopicPartition, int]:
        """The same, but before the record or the list that the user holds."""
        done = self.positions()
        held = dict(self._in_hand)
        if not held and self._current is not None:
            index = len(self._records) - self.left - 1
            if index >= 0:
                held[self._current.key] = self._records[index].offset
        done.update({key: offset for key, offset in held.items() if key in done})
        return done

    def __repr__(self) -> str:
        return f"<Reading {self._current!r} left={self.left}>"
