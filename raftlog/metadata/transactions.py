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
from enum import Enum, auto
from typing import ClassVar, Final

from raftlog.errors import InvalidInput
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.noun import Command, Noun, Refusal, Refused, Result, Table
from raftlog.metadata.offset_table import CommittedOffset
from raftlog.metadata.offsets import OffsetCommit
from raftlog.metadata.producers import PRODUCER_ID_MAX
from raftlog.metadata.transaction_table import NO_EPOCH, NO_PRODUCER, TransactionalId, TransactionState
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


class _TransactionsCommand(Command):
    __slots__ = ()

    needs_level: ClassVar[int] = TRANSACTIONS_LEVEL
    changes_topology: ClassVar[bool] = False


class _Growing(_TransactionsCommand):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class InitProducer(_Growing):
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
                producer_id=_next_producer_id(catalog),
                epoch=0,
                timeout_ms=self.timeout_ms,
                updated_ms=self.at_ms,
            )
            table.put(name, new)
            return Stepped(Verdict.DONE, new.producer_id, new.epoch)
        is_own = self.producer_id != NO_PRODUCER
        is_current = (self.producer_id, self.epoch) == (known.producer_id, known.epoch)
        has_moved = known.previous_producer_id != NO_PRODUCER
        came_from = known.previous_producer_id if has_moved else known.producer_id
        is_repeat = is_own and (self.producer_id, self.epoch) == (came_from, known.last_epoch)
        if is_own and not is_current and not is_repeat:
            return Stepped(Verdict.FENCED)
        if known.state.is_prepared:
            return Stepped(Verdict.MUST_WAIT)
        if is_repeat and not is_current and known.epoch <= EPOCH_MAX:
            return Stepped(Verdict.DONE, known.producer_id, known.epoch)
        last_epoch = self.epoch if is_own else NO_EPOCH
        if known.state is TransactionState.ONGOING:
            fenced = replace(known, last_epoch=last_epoch)
            return _abort_and_fence(catalog, name, fenced, index, self.at_ms)
        if known.epoch >= EPOCH_MAX:
            changed = replace(
                known,
                producer_id=_next_producer_id(catalog),
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


class _OfProducer(_Growing):
    """A step that the producer of a transactional id takes."""

    __slots__ = ()

    producer_id: int
    epoch: int

    def _check(self, known: TransactionalId | None) -> TransactionalId | Stepped:
        if known is None or known.producer_id != self.producer_id:
            return Stepped(Verdict.UNKNOWN_ID)
        if known.epoch != self.epoch:
            return Stepped(Verdict.FENCED)
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class AddToTransaction(_OfProducer):
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
        known = self._check(table.get(self.transactional_id))
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
class StageOffsets(_OfProducer):
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
        known = self._check(table.get(self.transactional_id))
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
class EndTransaction(_OfProducer):
    """The decision of the producer. It takes no room: what is open can always be ended."""

    kind: ClassVar[str] = "end_transaction"
    transactional_id: str
    producer_id: int
    epoch: int
    commit: bool
    at_ms: int

    def no_room(self, catalog: Catalog, size: int) -> str | None:
        return None

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        known = self._check(catalog.transactions.get(self.transactional_id))
        if isinstance(known, Stepped):
            return known
        match known.state:
            case TransactionState.ONGOING:
                _decide(catalog, self.transactional_id, known, index, commit=self.commit, at_ms=self.at_ms)
                is_done = True
            case TransactionState.PREPARE_COMMIT | TransactionState.COMPLETE_COMMIT:
                is_done = self.commit  # the answer was lost, and the producer asks again
            case TransactionState.PREPARE_ABORT | TransactionState.COMPLETE_ABORT:
                is_done = not self.commit
            case TransactionState.EMPTY:
                # librdkafka aborts what it could not begin, and gives up when that is refused.
                is_done = not self.commit
        verdict = Verdict.DONE if is_done else Verdict.WRONG_STATE
        return Stepped(verdict, known.producer_id, known.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortTimedOut(_TransactionsCommand):
    """The transaction that began at `begun_at` has been open for too long. Its producer is fenced."""

    kind: ClassVar[str] = "abort_timed_out"
    transactional_id: str
    begun_at: RaftIndex
    at_ms: int

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        known = catalog.transactions.get(self.transactional_id)
        if known is None:
            return Stepped(Verdict.UNKNOWN_ID)
        if known.state is not TransactionState.ONGOING or known.begun_at != self.begun_at:
            return Stepped(Verdict.WRONG_STATE)
        fenced = replace(known, last_epoch=NO_EPOCH)
        return _abort_and_fence(catalog, self.transactional_id, fenced, index, self.at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteTransaction(_TransactionsCommand):
    """Every partition has the marker of the decision at `decided_at`."""

    kind: ClassVar[str] = "complete_transaction"
    transactional_id: str
    decided_at: RaftIndex
    at_ms: int

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        table = catalog.transactions
        known = table.get(self.transactional_id)
        if known is None:
            return Stepped(Verdict.UNKNOWN_ID)
        if not known.state.is_prepared or known.decided_at != self.decided_at:
            return Stepped(Verdict.WRONG_STATE)
        table.put(self.transactional_id, _completed(known, self.at_ms))
        return Stepped(Verdict.DONE, known.producer_id, known.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireTransactionalIds(_TransactionsCommand):
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


def _next_producer_id(catalog: Catalog) -> int:
    catalog.next_producer_id += 1
    return catalog.next_producer_id - 1


def _abort_and_fence(
    catalog: Catalog, name: str, known: TransactionalId, index: RaftIndex, at_ms: int
) -> Stepped:
    """The markers carry the higher epoch, so that the partitions fence the producer themselves."""
    fenced = replace(known, epoch=known.epoch + 1)
    _decide(catalog, name, fenced, index, commit=False, at_ms=at_ms)
    return Stepped(Verdict.ABORTING, fenced.producer_id, fenced.epoch)


def _decide(
    catalog: Catalog, name: str, known: TransactionalId, index: RaftIndex, *, commit: bool, at_ms: int
) -> None:
    """Commit or abort. Without partitions there is no marker to wait for."""
    if commit:
        for (group, topic, partition), row in known.staged.items():
            catalog.group_offsets.change(group, topic)[partition] = row
    state = TransactionState.PREPARE_COMMIT if commit else TransactionState.PREPARE_ABORT
    decided = replace(known, state=state, staged={}, decided_at=index, updated_ms=at_ms)
    catalog.transactions.put(name, decided if decided.partitions else _completed(decided, at_ms))


def _completed(known: TransactionalId, at_ms: int) -> TransactionalId:
    is_commit = known.state is TransactionState.PREPARE_COMMIT
    return replace(
        known,
        state=TransactionState.COMPLETE_COMMIT if is_commit else TransactionState.COMPLETE_ABORT,
        partitions={},
        groups=(),
        started_ms=-1,
        updated_ms=at_ms,
    )


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
            ]:
                try:
                    value = TransactionalId(
                        producer_id=producer_id,
                        epoch=epoch,
                        last_epoch=last_epoch,
                        previous_producer_id=previous,
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
                raise InvalidInput(f"a transactional id is a row of fourteen, not {str(row)[:60]}")


TRANSACTIONS: Final = Noun(
    commands=(
        InitProducer,
        AddToTransaction,
        StageOffsets,
        EndTransaction,
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
