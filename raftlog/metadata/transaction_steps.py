"""What the steps of a transaction have in common: how a producer is recognised, how a transaction is decided.

A producer that ends each of its transactions with an epoch of its own (KIP-890, the second protocol) is told
the next epoch by the decision. The markers carry that epoch, so that what is late of the transaction before
fits nowhere.

Must not know: clocks, partitions' logs, who writes the markers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import ClassVar, Final

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.features import TRANSACTION_EPOCHS_LEVEL
from raftlog.metadata.noun import Command, Result
from raftlog.metadata.transaction_table import (
    NO_EPOCH,
    NO_PRODUCER,
    TransactionalId,
    TransactionState,
)
from raftlog.types import RaftIndex

TRANSACTIONS_LEVEL: Final = 4
"""The metadata level from which on there are transactions."""

EPOCH_MAX: Final = 32_766
"""The last epoch that a producer is given; the one behind it is left to fence it. Then comes another id."""

ID_BYTES_MAX: Final = 512 * 1024
"""What one transactional id may take: a transaction over 20,000 partitions."""
TRANSACTIONS_BYTES_MAX: Final = 16 * 1024 * 1024
"""What all may take together. They have their part of a full catalog, so that producers can go on with it."""
NEW_IDS_BYTES_MAX: Final = 12 * 1024 * 1024
"""From then on there are no new ids: the rest is for the transactions of those that there are. 80,000 ids."""
NAME_BYTES_MAX: Final = 1_024
"""Of a transactional id. Kafka has no limit but that of a string."""


class Verdict(Enum):
    """What a step of a transaction came to."""

    DONE = auto()
    MUST_WAIT = auto()
    """The transaction before is decided, and not all of its markers are written. Nothing has changed."""
    ABORTING = auto()
    """The transaction that was open is being aborted first: ask again when that is complete."""
    UNKNOWN_ID = auto()
    """Nobody has the transactional id, or another producer."""
    FENCED = auto()
    """The producer has a successor."""
    WRONG_STATE = auto()
    """There is nothing that could be ended like this, or the group is not in the transaction."""


@dataclass(frozen=True, slots=True)
class Stepped(Result):
    """The producer id and epoch are those that hold after the step."""

    verdict: Verdict
    producer_id: int = NO_PRODUCER
    epoch: int = NO_EPOCH
    unknown: tuple[tuple[str, int], ...] = ()
    """Of staged offsets: the (topic, partition) that there are not."""


@dataclass(frozen=True, slots=True)
class IdsExpired(Result):
    count: int


class TransactionsCommand(Command):
    __slots__ = ()

    needs_level: ClassVar[int] = TRANSACTIONS_LEVEL
    changes_topology: ClassVar[bool] = False


class Growing(TransactionsCommand):
    """Takes room: refused before it is proposed when there is none."""

    __slots__ = ()

    transactional_id: str

    def no_room(self, catalog: Catalog, size: int) -> str | None:
        table = catalog.transactions
        known = table.get(self.transactional_id)
        own = 0 if known is None else known.size(self.transactional_id)
        if own + size > ID_BYTES_MAX:
            return f"a transaction of {own + size} bytes, {ID_BYTES_MAX} is the most"
        if table.bytes + size > TRANSACTIONS_BYTES_MAX:
            return f"transactions of {table.bytes} bytes, {TRANSACTIONS_BYTES_MAX} is the most"
        return None


class OfProducer(Growing):
    """A step that the producer of a transactional id takes."""

    __slots__ = ()

    producer_id: int
    epoch: int

    def check(self, known: TransactionalId | None) -> TransactionalId | Stepped:
        """The transactional id, if it is this producer's."""
        if known is None:
            return Stepped(Verdict.UNKNOWN_ID)
        if (self.producer_id, self.epoch) == known.producer:
            return known
        is_known = (
            0
            <= self.producer_id
            in (
                known.producer_id,
                known.next_producer_id,
                known.previous_producer_id,
            )
        )
        return Stepped(Verdict.FENCED if is_known else Verdict.UNKNOWN_ID)


def is_last_epoch(epoch: int) -> bool:
    """Whether a producer gets none behind it."""
    return epoch >= EPOCH_MAX


def take_producer_id(catalog: Catalog) -> int:
    """A producer id that nobody has had."""
    catalog.next_producer_id += 1
    return catalog.next_producer_id - 1


def abort_and_fence(
    catalog: Catalog, name: str, known: TransactionalId, index: RaftIndex, *, last_epoch: int, at_ms: int
) -> Stepped:
    """The markers carry the higher epoch, so that the partitions fence the producer themselves. Who has
    `last_epoch` may go on from it."""
    fenced = with_next_epoch(catalog, known, last_epoch)
    decide(catalog, name, fenced, index, commit=False, at_ms=at_ms)
    return Stepped(Verdict.ABORTING, fenced.producer_id, fenced.epoch)


def with_next_epoch(catalog: Catalog, known: TransactionalId, last_epoch: int) -> TransactionalId:
    """The epoch behind the last one only fences: then the producer goes on under another producer id, once
    the transaction is complete."""
    bumped = replace(known, epoch=known.epoch + 1, last_epoch=last_epoch)
    if catalog.metadata_level < TRANSACTION_EPOCHS_LEVEL:
        return bumped
    following = take_producer_id(catalog) if is_last_epoch(known.epoch) else NO_PRODUCER
    return replace(bumped, previous_producer_id=NO_PRODUCER, next_producer_id=following)


def decide(
    catalog: Catalog, name: str, known: TransactionalId, index: RaftIndex, *, commit: bool, at_ms: int
) -> None:
    """Commit or abort. Without partitions there is no marker to wait for."""
    if commit:
        for (group, topic, partition), row in known.staged.items():
            catalog.group_offsets.change(group, topic)[partition] = row
    state = TransactionState.PREPARE_COMMIT if commit else TransactionState.PREPARE_ABORT
    decided = replace(known, state=state, staged={}, decided_at=index, updated_ms=at_ms)
    catalog.transactions.put(name, decided if decided.partitions else completed(decided, at_ms))


def completed(known: TransactionalId, at_ms: int) -> TransactionalId:
    """The id when all that was prepared is done."""
    is_commit = known.state is TransactionState.PREPARE_COMMIT
    done = replace(
        known,
        state=TransactionState.COMPLETE_COMMIT if is_commit else TransactionState.COMPLETE_ABORT,
        partitions={},
        groups=(),
        started_ms=-1,
        updated_ms=at_ms,
    )
    if known.next_producer_id == NO_PRODUCER:
        return done
    return replace(
        done,
        producer_id=known.next_producer_id,
        epoch=0,
        previous_producer_id=known.producer_id,
        next_producer_id=NO_PRODUCER,
    )
