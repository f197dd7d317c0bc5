"""Transactional ids: who produces under them, what is in their transaction, how it was decided (KIP-98).

A command asks, and `apply` answers, in the order of the log: there is one copy of the state, and nothing is
under way between two. The decision is the entry that makes a transaction prepared; behind it stands which
partitions are to be told by a marker. Offsets of groups are here too, so they count from that entry on.

Must not know: clocks, partitions' logs, who writes the markers.

Invariants: what is decided stays decided; an epoch never goes back for one producer id; a transaction that is
prepared takes nothing more until it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

from raftlog.errors import InvalidInput
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.noun import Noun, Refusal, Refused, Result, Table
from raftlog.metadata.offset_table import CommittedOffset
from raftlog.metadata.offsets import OffsetCommit
from raftlog.metadata.producers import PRODUCER_ID_MAX
from raftlog.metadata.transaction_ends import (
    AbortTimedOut,
    CompleteTransaction,
    EndTransaction,
    EndTransactionAndEpoch,
)
from raftlog.metadata.transaction_steps import (
    NAME_BYTES_MAX,
    NEW_IDS_BYTES_MAX,
    Growing,
    IdsExpired,
    OfProducer,
    Stepped,
    TransactionsCommand,
    Verdict,
    abort_and_fence,
    is_last_epoch,
    take_producer_id,
)
from raftlog.metadata.transaction_table import NO_EPOCH, NO_PRODUCER, TransactionalId, TransactionState
from raftlog.types import RaftIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class InitProducer(Growing):
    """A producer takes over a transactional id, or goes on from its own epoch (KIP-360) if it names one.
    What was open is aborted at a higher epoch, so that whoever had it is fenced everywhere."""

    kind: ClassVar[str] = "init_producer"
    transactional_id: str
    timeout_ms: int
    producer_id: int = NO_PRODUCER
    epoch: int = NO_EPOCH
    at_ms: int

    def no_room(self, catalog: Catalog, size: int) -> str | None:
        """An application that starts again gets its id, however full it is."""
        table = catalog.transactions
        if table.get(self.transactional_id) is not None or table.bytes + size <= NEW_IDS_BYTES_MAX:
            return None
        return f"transactional ids of {table.bytes} bytes, {NEW_IDS_BYTES_MAX} is the most for another"

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        if not 0 < len(self.transactional_id.encode()) <= NAME_BYTES_MAX or self.timeout_ms <= 0:
            return Refused(Refusal.INVALID_VALUE, f"{self.transactional_id[:60]!r}, {self.timeout_ms} ms")
        if catalog.next_producer_id + 1 > PRODUCER_ID_MAX:
            return Refused(Refusal.INVALID_VALUE, "there are no producer ids left")
        table, name = catalog.transactions, self.transactional_id
        known = table.get(name)
        if known is None:
            new = TransactionalId(
                producer_id=take_producer_id(catalog),
                epoch=0,
                timeout_ms=self.timeout_ms,
                updated_ms=self.at_ms,
            )
            table.put(name, new)
            return Stepped(Verdict.DONE, new.producer_id, new.epoch)
        is_own = self.producer_id != NO_PRODUCER
        is_current = (self.producer_id, self.epoch) == known.producer
        is_repeat = is_own and (self.producer_id, self.epoch) == known.came_from
        if is_own and not is_current and not is_repeat:
            return Stepped(Verdict.FENCED)
        if known.state.is_prepared:
            return Stepped(Verdict.MUST_WAIT)
        if is_repeat and not is_current and not is_last_epoch(known.epoch - 1):
            return Stepped(Verdict.DONE, known.producer_id, known.epoch)
        last_epoch = self.epoch if is_own else NO_EPOCH
        if known.state is TransactionState.ONGOING:
            return abort_and_fence(catalog, name, known, index, last_epoch=last_epoch, at_ms=self.at_ms)
        if is_last_epoch(known.epoch):
            changed = replace(
                known,
                producer_id=take_producer_id(catalog),
                epoch=0,
                previous_producer_id=known.producer_id,
            )
        else:
            changed = replace(known, epoch=known.epoch + 1, previous_producer_id=NO_PRODUCER)
        changed = replace(
            changed,
            last_epoch=last_epoch,
            timeout_ms=self.timeout_ms,
            state=TransactionState.EMPTY,
            updated_ms=self.at_ms,
        )
        table.put(name, changed)
        return Stepped(Verdict.DONE, changed.producer_id, changed.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddToTransaction(OfProducer):
    """Partitions and groups become part of the producer's transaction, which begins with the first."""

    kind: ClassVar[str] = "add_to_transaction"
    transactional_id: str
    producer_id: int
    epoch: int
    partitions: tuple[tuple[bytes, int], ...] = ()
    groups: tuple[str, ...] = ()
    at_ms: int

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        table = catalog.transactions
        known = self.check(table.get(self.transactional_id))
        if isinstance(known, Stepped):
            return known
        if known.state.is_prepared:
            return Stepped(Verdict.MUST_WAIT)
        if known.state is not TransactionState.ONGOING:
            known = replace(
                known,
                state=TransactionState.ONGOING,
                partitions={},
                groups=(),
                begun_at=index,
                started_ms=self.at_ms,
            )
        partitions = {**known.partitions, **dict.fromkeys(self.partitions)}
        groups = tuple(dict.fromkeys((*known.groups, *self.groups)))
        changed = replace(known, partitions=partitions, groups=groups, updated_ms=self.at_ms)
        table.put(self.transactional_id, changed)
        return Stepped(Verdict.DONE, changed.producer_id, changed.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOffsets(OfProducer):
    """A group's offsets count when the transaction is committed, and never when it is not."""

    kind: ClassVar[str] = "stage_offsets"
    grows: ClassVar[str] = "offsets"
    transactional_id: str
    producer_id: int
    epoch: int
    group: str
    offsets: tuple[OffsetCommit, ...]
    at_ms: int

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        table = catalog.transactions
        known = self.check(table.get(self.transactional_id))
        if isinstance(known, Stepped):
            return known
        if known.state is not TransactionState.ONGOING or self.group not in known.groups:
            return Stepped(Verdict.WRONG_STATE)
        staged, unknown = dict(known.staged), []
        for topic, partition, offset, epoch, metadata in self.offsets:
            if 0 <= partition < catalog.partition_count(topic):
                row = CommittedOffset(offset, epoch, metadata, self.at_ms)
                staged[self.group, topic, partition] = row
            else:
                unknown.append((topic, partition))
        table.put(self.transactional_id, replace(known, staged=staged, updated_ms=self.at_ms))
        return Stepped(Verdict.DONE, known.producer_id, known.epoch, tuple(unknown))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireTransactionalIds(TransactionsCommand):
    """Forgets those of these ids that have been outside of a transaction since `before_ms`."""

    kind: ClassVar[str] = "expire_transactional_ids"
    transactional_ids: tuple[str, ...]
    before_ms: int

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        table, count = catalog.transactions, 0
        for name in self.transactional_ids:
            known = table.get(name)
            if known is None or known.state is TransactionState.ONGOING or known.state.is_prepared:
                continue
            if known.updated_ms < self.before_ms:
                table.pop(name)
                count += 1
        return IdsExpired(count)


def _following(more: list[object]) -> int:
    """What a row has beyond what builds before KIP-890 know: the next producer id."""
    match more:
        case []:
            return NO_PRODUCER
        case [int(producer_id)]:
            return producer_id
        case _:
            raise ValueError(f"{str(more)[:60]} behind it")


def _put(catalog: Catalog, plain: object) -> None:
    for row in plain if isinstance(plain, list) else [plain]:
        match row:
            case [
                str(name),
                int(producer_id),
                int(epoch),
                int(last_epoch),
                int(previous),
                int(timeout_ms),
                str(state),
                list(partitions),
                list(groups),
                list(staged),
                int(begun_at),
                int(decided_at),
                int(started_ms),
                int(updated_ms),
                *more,
            ] if len(more) <= 1:
                try:
                    value = TransactionalId(
                        producer_id=producer_id,
                        epoch=epoch,
                        last_epoch=last_epoch,
                        previous_producer_id=previous,
                        next_producer_id=_following(more),
                        timeout_ms=timeout_ms,
                        state=TransactionState(state),
                        partitions={(bytes(topic), int(number)): None for topic, number in partitions},
                        groups=tuple(map(str, groups)),
                        staged={
                            (group, topic, number): CommittedOffset(*offset)
                            for group, topic, number, *offset in staged
                        },
                        begun_at=RaftIndex(begun_at),
                        decided_at=RaftIndex(decided_at),
                        started_ms=started_ms,
                        updated_ms=updated_ms,
                    )
                except (TypeError, ValueError) as error:
                    raise InvalidInput(f"transactional id {name[:60]!r}: {error}") from error
                catalog.transactions.put(name, value)
            case _:
                raise InvalidInput(f"a transactional id is a row of fourteen or fifteen, not {str(row)[:60]}")


TRANSACTIONS: Final = Noun(
    commands=(
        InitProducer,
        AddToTransaction,
        StageOffsets,
        EndTransaction,
        EndTransactionAndEpoch,
        AbortTimedOut,
        CompleteTransaction,
        ExpireTransactionalIds,
    ),
    table=Table(
        begin=lambda catalog: catalog.transactions.begin_image(),
        canonical=lambda catalog: catalog.transactions.canonical(),
        put=_put,
        since_version=4,
        is_empty=lambda catalog: not catalog.transactions,
    ),
)
