"""How a transaction ends: by its producer, by its time-out, and when every partition has its marker.

Invariants: what is decided stays decided, and who asks again is answered the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.features import TRANSACTION_EPOCHS_LEVEL
from raftlog.metadata.noun import Refusal, Refused, Result
from raftlog.metadata.producers import PRODUCER_ID_MAX
from raftlog.metadata.transaction_steps import (
    OfProducer,
    Stepped,
    TransactionsCommand,
    Verdict,
    abort_and_fence,
    completed,
    decide,
    is_last_epoch,
    with_next_epoch,
)
from raftlog.metadata.transaction_table import NO_EPOCH, TransactionalId, TransactionState
from raftlog.types import RaftIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTransaction(OfProducer):
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
        known = self.check(catalog.transactions.get(self.transactional_id))
        if isinstance(known, Stepped):
            return known
        match known.state:
            case TransactionState.ONGOING:
                decide(catalog, self.transactional_id, known, index, commit=self.commit, at_ms=self.at_ms)
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
class EndTransactionAndEpoch(OfProducer):
    """The decision of a producer whose transactions have an epoch each: the answer names the next one, or
    another producer id when the epochs are used up (KIP-890). What is asked again comes with the epoch that
    was ended, and is told from the end of the next transaction by it."""

    kind: ClassVar[str] = "end_transaction_and_epoch"
    needs_level: ClassVar[int] = TRANSACTION_EPOCHS_LEVEL
    transactional_id: str
    producer_id: int
    epoch: int
    commit: bool
    at_ms: int

    def no_room(self, catalog: Catalog, size: int) -> str | None:
        return None

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        known = catalog.transactions.get(self.transactional_id)
        if known is not None and (self.producer_id, self.epoch) == known.came_from:
            return self._repeated(known)
        own = self.check(known)
        if isinstance(own, Stepped):
            return own
        if own.state.is_prepared:
            return Stepped(Verdict.MUST_WAIT)
        if self.commit and own.state is not TransactionState.ONGOING:
            return Stepped(Verdict.WRONG_STATE)
        if is_last_epoch(own.epoch) and catalog.next_producer_id + 1 > PRODUCER_ID_MAX:
            return Refused(Refusal.INVALID_VALUE, "there are no producer ids left")
        # An abort is taken where nothing is open, too: what is still under way could begin something.
        ended = with_next_epoch(catalog, own, last_epoch=own.epoch)
        decide(catalog, self.transactional_id, ended, index, commit=self.commit, at_ms=self.at_ms)
        return Stepped(Verdict.DONE, *ended.producer)

    def _repeated(self, known: TransactionalId) -> Stepped:
        """The answer was lost, and the producer asks again."""
        match known.state:
            case TransactionState.PREPARE_COMMIT | TransactionState.COMPLETE_COMMIT:
                is_done = self.commit
            case TransactionState.PREPARE_ABORT | TransactionState.COMPLETE_ABORT:
                is_done = not self.commit
            case TransactionState.EMPTY | TransactionState.ONGOING:
                return Stepped(Verdict.FENCED)
        return Stepped(Verdict.DONE if is_done else Verdict.WRONG_STATE, *known.producer)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortTimedOut(TransactionsCommand):
    """The transaction that began at `begun_at` has been open for too long. Its producer is fenced, but may go
    on at the next epoch, which it asks for or is told when it aborts (KIP-588): nobody else has the id."""

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
        goes_on = catalog.metadata_level >= TRANSACTION_EPOCHS_LEVEL
        last_epoch = known.epoch if goes_on else NO_EPOCH
        name, at_ms = self.transactional_id, self.at_ms
        return abort_and_fence(catalog, name, known, index, last_epoch=last_epoch, at_ms=at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteTransaction(TransactionsCommand):
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
        table.put(self.transactional_id, completed(known, self.at_ms))
        return Stepped(Verdict.DONE, known.producer_id, known.epoch)
