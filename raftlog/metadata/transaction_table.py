"""The table of transactional ids: each as one value, encoded once.

Besides the values it knows which of them are in a transaction, which wait for markers, and which groups have
offsets staged, so that nobody has to look through all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

import cbor2

from raftlog.metadata import codec
from raftlog.metadata.offset_table import CommittedOffset
from raftlog.types import BEFORE_ALL, RaftIndex

NO_PRODUCER: Final = -1
NO_EPOCH: Final = -1

TopicPartition = tuple[bytes, int]
"""A topic's id and a partition's number: a topic that is made again with its name is another."""
StagedKey = tuple[str, str, int]
"""Group, topic, partition."""


class TransactionState(Enum):
    """Where a transactional id stands; the values are what clients are shown."""

    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"

    @property
    def is_prepared(self) -> bool:
        """It is decided, and partitions wait for their markers."""
        return self in (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionalId:
    """What the cluster knows of a transactional id."""

    producer_id: int
    epoch: int
    last_epoch: int = NO_EPOCH
    """The epoch from which its producer went on to this one: it may ask once more."""
    previous_producer_id: int = NO_PRODUCER
    """The producer id from which it went on, its epochs being used up."""
    next_producer_id: int = NO_PRODUCER
    """The producer id under which it goes on when its prepared transaction is complete, at epoch 0."""
    timeout_ms: int
    state: TransactionState = TransactionState.EMPTY
    partitions: Mapping[TopicPartition, None] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    staged: Mapping[StagedKey, CommittedOffset] = field(default_factory=dict)
    """Offsets that count once the transaction is committed."""
    begun_at: RaftIndex = BEFORE_ALL
    """The entry that began the transaction: what tells it from an earlier one at the same epoch."""
    decided_at: RaftIndex = BEFORE_ALL
    """The entry that decided the last transaction. It is in the markers."""
    started_ms: int = -1
    """When the transaction began, by its coordinator's clock; -1 outside of one."""
    updated_ms: int
    _encoded: bytes = field(default=b"", init=False, repr=False, compare=False)

    def encoded(self, name: str) -> bytes:
        """The row in an image. Kept, for the next one: an id that changes is another value."""
        if not self._encoded:
            row = [
                name,
                self.producer_id,
                self.epoch,
                self.last_epoch,
                self.previous_producer_id,
                self.timeout_ms,
                self.state.value,
                [list(partition) for partition in self.partitions],
                list(self.groups),
                [[*key, *offset] for key, offset in self.staged.items()],
                self.begun_at,
                self.decided_at,
                self.started_ms,
                self.updated_ms,
            ]
            if self.next_producer_id != NO_PRODUCER:  # what builds before KIP-890 do not know
                row.append(self.next_producer_id)
            object.__setattr__(self, "_encoded", cbor2.dumps(row))
        return self._encoded

    @property
    def producer(self) -> tuple[int, int]:
        """The producer id and epoch that its producer has, or has been told that it has from now on."""
        if self.next_producer_id != NO_PRODUCER:
            return self.next_producer_id, 0
        return self.producer_id, self.epoch

    @property
    def came_from(self) -> tuple[int, int]:
        """The producer id and epoch from which its producer went on: whoever has them may ask once more."""
        has_moved = self.previous_producer_id != NO_PRODUCER
        return self.previous_producer_id if has_moved else self.producer_id, self.last_epoch

    @property
    def cost(self) -> int:
        """About what `encoded` has to do, in rows."""
        return 1 if self._encoded else 2 + (len(self.partitions) + len(self.staged)) // 4

    def size(self, name: str) -> int:
        """About the bytes that it takes in an image, or more."""
        staged = sum(64 + 3 * (len(k[0]) + len(k[1]) + len(at.metadata)) for k, at in self.staged.items())
        return 128 + 3 * len(name) + 24 * len(self.partitions) + 3 * sum(map(len, self.groups)) + staged


class Transactions:
    """All transactional ids."""

    def __init__(self) -> None:
        self._ids: dict[str, TransactionalId] = {}
        self._ongoing: dict[str, None] = {}
        self._prepared: dict[str, None] = {}
        self._staging: dict[str, dict[str, None]] = {}  # group → transactional ids
        self.bytes = 0
        """About what they take in an image."""

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transactions) and self._ids == other._ids

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Transactions {len(self._ids)} ongoing={len(self._ongoing)} prepared={len(self._prepared)}>"

    def get(self, name: str) -> TransactionalId | None:
        return self._ids.get(name)

    @property
    def ongoing(self) -> Iterator[str]:
        """The ids with an open transaction."""
        return iter(self._ongoing)

    @property
    def prepared(self) -> Iterator[str]:
        """The ids whose transaction is decided, and whose markers are to be written."""
        return iter(self._prepared)

    def unstable(self, group: str) -> set[tuple[str, int]]:
        """The (topic, partition) for which the group has offsets staged."""
        return {
            (topic, partition)
            for name in self._staging.get(group, ())
            for of, topic, partition in self._ids[name].staged
            if of == group
        }

    def staging(self, group: str) -> list[str]:
        """The ids that have offsets of the group staged."""
        return list(self._staging.get(group, ()))

    def is_staged(self, group: str) -> bool:
        """Whether anything is staged of a group."""
        return group in self._staging

    def unstage(self, group: str, partitions: Iterable[tuple[str, int]] | None = None) -> None:
        """Forget what is staged of a group, of all partitions or of these (topic, partition): it was
        committed otherwise since, or is not wanted any more."""
        if group not in self._staging:
            return
        gone = None if partitions is None else set(partitions)
        for name in self.staging(group):
            known = self._ids[name]
            staged = {
                (of, topic, partition): row
                for (of, topic, partition), row in known.staged.items()
                if of != group or (gone is not None and (topic, partition) not in gone)
            }
            if len(staged) < len(known.staged):
                self.put(name, replace(known, staged=staged))

    def topic_deleted(self, topic: str) -> None:
        """What is staged of a topic goes with it: another may get its name."""
        for group in list(self._staging):
            self.unstage(group, [at for at in self.unstable(group) if at[0] == topic])

    def put(self, name: str, value: TransactionalId) -> None:
        self.pop(name)
        self._ids[name] = value
        self.bytes += value.size(name)
        if value.state is TransactionState.ONGOING:
            self._ongoing[name] = None
        elif value.state.is_prepared:
            self._prepared[name] = None
        for group, _, _ in value.staged:
            self._staging.setdefault(group, {})[name] = None

    def pop(self, name: str) -> TransactionalId | None:
        known = self._ids.pop(name, None)
        if known is None:
            return None
        self.bytes -= known.size(name)
        self._ongoing.pop(name, None)
        self._prepared.pop(name, None)
        for group in {group for group, _, _ in known.staged}:
            names = self._staging[group]
            del names[name]
            if not names:
                del self._staging[group]
        return known

    def canonical(self) -> bytes:
        """Equal tables are equal bytes. All of it at once."""
        return b"".join(value.encoded(name) for name, value in sorted(self._ids.items()))

    def begin_image(self) -> TransactionsEncoding:
        return TransactionsEncoding(list(self._ids.items()))


class TransactionsEncoding:
    """The table on its way into an image, as it was when that was begun."""

    def __init__(self, ids: list[tuple[str, TransactionalId]]) -> None:
        self._left = ids
        self._rows: list[bytes] = []

    def encode_some(self, cost_max: int) -> int:
        while self._left and cost_max > 0:
            name, value = self._left.pop()
            cost_max -= value.cost
            self._rows.append(value.encoded(name))
        return 0 if self._left else max(cost_max, 1)

    def take_image(self) -> list[bytes]:
        assert not self._left, len(self._left)
        return codec.array_of(self._rows)
