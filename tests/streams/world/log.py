"""Brokers in memory, as far as a worker sees them: topics, transactions, one group at a time.

What is decided here is what a Kafka broker decides: offsets, the last stable offset, aborted records, fencing
by epoch and by generation. Nothing is asynchronous: delays and lost answers are the client's (`client.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from raftlog.client.metadata import TopicPartition
from raftlog.client.offsets import CommittedOffset

Headers = tuple[tuple[str, bytes | None], ...]

OPEN, COMMITTED, ABORTED, MARKER = "open", "committed", "aborted", "marker"


class Fenced(Exception):
    """Another producer has the transactional id."""


class NotAMember(Exception):
    """The generation is over."""


@dataclass(slots=True)
class Entry:
    """One offset of a partition."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers
    state: str


@dataclass(slots=True)
class Transaction:
    """What one transactional id has open."""

    epoch: int
    entries: list[tuple[TopicPartition, Entry]] = field(default_factory=list)
    offsets: dict[TopicPartition, CommittedOffset] = field(default_factory=dict)
    since: float | None = None


class Log:
    """All topics."""

    def __init__(self) -> None:
        self.topics: dict[str, list[list[Entry]]] = {}
        self.committed: dict[TopicPartition, CommittedOffset] = {}
        self.transactions: dict[str, Transaction] = {}
        self.counts: Counter[str] = Counter()

    def create(self, topic: str, partitions: int) -> None:
        """A topic, unless it is there."""
        self.topics.setdefault(topic, [[] for _ in range(partitions)])

    def append(self, key: TopicPartition, entry: Entry) -> int:
        """One more entry; its offset."""
        partition = self.topics[key.topic][key.partition]
        partition.append(entry)
        return len(partition) - 1

    def end(self, key: TopicPartition, *, committed: bool) -> int:
        """The high watermark, or the last stable offset."""
        entries = self.topics[key.topic][key.partition]
        if committed:
            for offset, entry in enumerate(entries):
                if entry.state == OPEN:
                    return offset
        return len(entries)

    def read(self, key: TopicPartition, offset: int, *, committed: bool) -> Iterator[tuple[int, Entry]]:
        """What a consumer is given from an offset on."""
        entries = self.topics[key.topic][key.partition]
        for at in range(offset, self.end(key, committed=committed)):
            entry = entries[at]
            if entry.state != MARKER and not (committed and entry.state == ABORTED):
                yield at, entry

    # -- transactions

    def begin_life(self, name: str) -> int:
        """InitProducerId: the next epoch; what the last one has open is aborted."""
        before = self.transactions.get(name)
        if before is not None:
            self.finish(name, before.epoch, commit=False)
        epoch = before.epoch + 1 if before is not None else 0
        self.transactions[name] = Transaction(epoch)
        return epoch

    def open_in(self, name: str, epoch: int, now: float) -> Transaction:
        """The transaction that takes a record now."""
        found = self.transactions[name]
        if found.epoch != epoch:
            raise Fenced(name)
        if found.since is None:
            found.since = now
        return found

    def finish(self, name: str, epoch: int, *, commit: bool) -> None:
        """EndTxn, with its markers: all or nothing."""
        found = self.transactions[name]
        if found.epoch != epoch:
            raise Fenced(name)
        for key in {key for key, _ in found.entries}:
            self.append(key, Entry(None, None, 0, (), MARKER))
        for _, entry in found.entries:
            entry.state = COMMITTED if commit else ABORTED
        if commit:
            self.committed.update(found.offsets)
        if found.since is not None:
            self.counts["committed" if commit else "aborted"] += 1
        found.entries, found.offsets, found.since = [], {}, None

    def is_pending(self, keys: Iterable[TopicPartition]) -> bool:
        """Whether an open transaction has offsets of these: what is committed is not known yet."""
        return any(key in found.offsets for found in self.transactions.values() for key in keys)

    def time_out(self, now: float, limit: float) -> None:
        """What is open for too long is aborted, and its producer fenced."""
        for name, found in self.transactions.items():
            if found.since is not None and now - found.since > limit:
                self.finish(name, found.epoch, commit=False)
                found.epoch += 1
                self.counts["timed out"] += 1

    def commit(self, offsets: Mapping[TopicPartition, CommittedOffset]) -> None:
        """OffsetCommit."""
        self.committed.update(offsets)
