"""A producer's transactions: what may be sent now, and what an error of the coordinator's means (KIP-98).

Pure: it asks nobody and knows no clock. `transactional` asks the coordinator and tells this what came of it.

Invariants:
* A partition is written to only when the coordinator has added it to the transaction.
* A transaction that has lost a record, or may have lost its offsets, is never committed. It is *doomed*.
* After COMMITTING there is no way to ABORTING: nobody knows which of them would be carried out.
* A request that may arrive later than its transaction's end finds another epoch, and does nothing (KIP-360).
  The protocol has no other fence between two transactions of a producer before KIP-890's second part.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from raftlog.client.errors import (
    BrokerError,
    ClientError,
    NoTransaction,
    ProducerFailed,
    ProducerFenced,
    TransactionAborted,
    is_retriable,
)
from raftlog.client.metadata import TopicPartition
from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode


class Phase(Enum):
    """Where the producer is."""

    UNKNOWN = auto()  # it has no producer id yet
    IDLE = auto()  # no transaction is open
    OPEN = auto()  # records and offsets are taken
    FLUSHING = auto()  # nothing more is taken; what was taken is sent
    COMMITTING = auto()  # the coordinator is asked to commit; so it is until it answers
    ABORTING = auto()  # the same, to abort
    FAILED = auto()  # no transaction is possible any more


class Reaction(Enum):
    """What to do after an error."""

    RETRY = auto()  # the same again, after a pause
    FIND = auto()  # look up the coordinator, then the same again
    ABORT = auto()  # the transaction can only be aborted, and the producer goes on
    FAIL = auto()  # the producer can do no more transactions


_ELSEWHERE: Final = frozenset({ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE})
_FENCED: Final = frozenset({ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH})
_FATAL: Final = _FENCED | {
    ErrorCode.INVALID_PRODUCER_ID_MAPPING,
    ErrorCode.INVALID_TXN_STATE,
    ErrorCode.INVALID_TRANSACTION_TIMEOUT,
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_FATAL_TO_PARTITIONS: Final = _FATAL - {ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.INVALID_TXN_STATE}
"""Of Produce and TxnOffsetCommit: what is left out may be said of an epoch that is only late. Whether this
producer is fenced, the coordinator says when it is asked to abort (KIP-588)."""
_ENDS: Final = frozenset({ApiKey.INIT_PRODUCER_ID, ApiKey.END_TXN})
"""When these fail there is nothing left to abort."""
_LATE_DOES_HARM: Final = frozenset({ApiKey.END_TXN, ApiKey.TXN_OFFSET_COMMIT})


def reaction(api: ApiKey, error: ClientError) -> Reaction:
    """What an error of an API means: KIP-1050's classes. Retriable ones are RETRY and FIND, abortable ones
    ABORT, application-recoverable ones and bad configurations FAIL."""
    if not isinstance(error, BrokerError):
        return Reaction.FIND if is_retriable(error) else Reaction.FAIL
    code = error.code
    if code in _ELSEWHERE:
        return Reaction.FIND
    if error.retriable:
        return Reaction.RETRY
    by_partition = api in (ApiKey.PRODUCE, ApiKey.TXN_OFFSET_COMMIT)
    if api in _ENDS or code in (_FATAL_TO_PARTITIONS if by_partition else _FATAL):
        return Reaction.FAIL
    return Reaction.ABORT


class Additions:
    """What the coordinator has added to one transaction, and what it has been asked to."""

    def __init__(self) -> None:
        self.partitions: set[TopicPartition] = set()
        self.groups: set[str] = set()
        self._wanted: set[TopicPartition] = set()
        self._partitions_asked: set[TopicPartition] = set()
        self._groups_asked: set[str] = set()

    def __repr__(self) -> str:
        return f"<Additions partitions={len(self.partitions)} groups={sorted(self.groups)}>"

    def has(self, key: TopicPartition) -> bool:
        """Whether a partition has been added; if not, it is wanted from now on."""
        if key not in self.partitions and key not in self._partitions_asked:
            self._wanted.add(key)
        return key in self.partitions

    @property
    def wants_more(self) -> bool:
        """Whether there are partitions to ask for."""
        return bool(self._wanted)

    def ask(self) -> list[TopicPartition]:
        """The partitions that the coordinator is asked to add now."""
        keys = sorted(self._wanted)
        self._partitions_asked.update(keys)
        self._wanted.clear()
        return keys

    def stop(self) -> None:
        """What has not been asked for is wanted no more."""
        self._wanted.clear()

    def ask_group(self, group: str) -> bool:
        """Whether the coordinator must be asked to add a group; then it counts as asked."""
        self._groups_asked.add(group)
        return group not in self.groups

    @property
    def were_asked_for(self) -> bool:
        """The coordinator may know of the transaction."""
        return bool(self._partitions_asked or self._groups_asked)

    @property
    def are_in_doubt(self) -> bool:
        """The coordinator may still be asked by a request that is on its way."""
        return self._partitions_asked != self.partitions or self._groups_asked != self.groups


class Transactions:
    """What one producer's transactions have come to."""

    def __init__(self, transactional_id: str, timeout_ms: float) -> None:
        self.transactional_id = transactional_id
        self.phase = Phase.UNKNOWN
        self.producer_id = -1
        self.epoch = -1
        self.is_stale = False
        """A request of this epoch may arrive late: the next transaction needs another."""
        self.additions = Additions()
        self.doom: ClientError | None = None
        """Why the transaction can only be aborted."""
        self.failure: ProducerFailed | None = None
        """Why no transaction is possible."""
        self._end_in_doubt = False
        self._timeout_s = timeout_ms / 1000
        self._began_at = 0.0

    def __repr__(self) -> str:
        return (
            f"<Transactions {self.transactional_id} {self.phase.name} producer={self.producer_id}"
            f" epoch={self.epoch} partitions={len(self.additions.partitions)}>"
        )

    # -- the producer

    def identified(self, producer_id: int, epoch: int) -> None:
        """InitProducerId has answered."""
        self.producer_id, self.epoch = producer_id, epoch
        self.is_stale = False
        self.phase = Phase.IDLE

    def fail(self, error: ClientError, now: float) -> ProducerFailed:
        """No more transactions; gives what to raise."""
        if self.failure is None:
            self.failure = self._failure(error, now)
            self.failure.__cause__ = error
            self.phase = Phase.FAILED
        return self.failure

    def _failure(self, error: ClientError, now: float) -> ProducerFailed:
        who = f"the producer with transactional_id {self.transactional_id!r}"
        then = "leave its `async with` and make another"
        if not (isinstance(error, BrokerError) and error.code in _FENCED):
            return ProducerFailed(f"{who} can do no more transactions: {error}; {then}")
        open_s = now - self._began_at
        if self.phase not in (Phase.UNKNOWN, Phase.IDLE) and open_s >= self._timeout_s:
            return ProducerFenced(
                f"{who} was fenced by the coordinator: its transaction was open for {open_s:.1f} s, and"
                f" transaction_timeout_ms allows {self._timeout_s:g} s; the transaction is aborted; {then}",
                timed_out=True,
            )
        return ProducerFenced(
            f"{who} was fenced: another producer with this id has begun, or an administrator ended its"
            f" transaction; what it had open (producer {self.producer_id}, epoch {self.epoch}) is aborted;"
            f" if two are not meant to run, give each an id of its own; else {then}"
        )

    # -- a transaction's life

    def begin(self, now: float) -> None:
        """Open a transaction."""
        assert self.phase is Phase.IDLE and not self.is_stale, self
        self.phase = Phase.OPEN
        self._began_at = now
        self.doom = None
        self._end_in_doubt = False
        self.additions = Additions()

    def check_open(self) -> None:
        """Raise what speaks against taking more into the transaction."""
        if self.failure is not None:
            raise self.failure
        if self.phase is not Phase.OPEN:
            raise NoTransaction(
                f"the producer has transactional_id {self.transactional_id!r}: use it inside of"
                " `async with producer.transaction()`"
            )
        self.check_sound()

    def check_sound(self) -> None:
        """Raise TransactionAborted when the transaction can only be aborted."""
        if self.failure is not None:
            raise self.failure
        if self.doom is not None:
            raise TransactionAborted(f"the transaction can only be aborted: {self.doom}") from self.doom

    def abort_only(self, error: ClientError) -> None:
        """Doom the transaction, if one is open."""
        if self.phase in (Phase.OPEN, Phase.FLUSHING) and self.doom is None:
            self.doom = error

    def close(self) -> None:
        """Nothing more is taken."""
        if self.phase is Phase.OPEN:
            self.phase = Phase.FLUSHING

    def commit(self) -> None:
        """Everything is written: it is for the coordinator to decide."""
        assert self.phase is Phase.FLUSHING and self.doom is None, self
        self.phase = Phase.COMMITTING

    def abort(self) -> None:
        """Give it up. A partition or a group that the coordinator may still be asked to add is late then."""
        assert self.phase in (Phase.OPEN, Phase.FLUSHING), self
        self.phase = Phase.ABORTING
        self.additions.stop()
        self.is_stale = self.is_stale or self.additions.are_in_doubt

    def was_never_begun(self, code: ErrorCode) -> bool:
        """Whether INVALID_TXN_STATE for an abort only says that nothing which was asked has been added."""
        nothing_added = not self.additions.partitions and not self.additions.groups
        return code is ErrorCode.INVALID_TXN_STATE and self.phase is Phase.ABORTING and nothing_added

    @property
    def was_fenced_before_its_end(self) -> bool:
        """Every request to commit was answered, the last by a fence: then none was carried out."""
        return isinstance(self.failure, ProducerFenced) and not self._end_in_doubt

    def ended(self) -> None:
        """The coordinator has decided, or nothing was to be decided."""
        assert self.phase in (Phase.COMMITTING, Phase.ABORTING), self
        self.phase = Phase.IDLE

    def admits(self, key: TopicPartition) -> bool:
        """Whether a partition may be written to; if not, it is wanted from now on."""
        is_sound = self.phase in (Phase.OPEN, Phase.FLUSHING) and self.doom is None
        return is_sound and self.additions.has(key)

    # -- errors

    def react(self, api: ApiKey, error: ClientError, now: float) -> Reaction:
        """What to do about the error of a request; takes in what it means."""
        found = reaction(api, error)
        if found is Reaction.FAIL:
            self.fail(error, now)
        elif found is Reaction.ABORT:
            self.abort_only(error)
        return found

    def may_be_late(self, api: ApiKey) -> None:
        """A request had no answer: it may still arrive, after its transaction."""
        if api in _LATE_DOES_HARM:
            self.is_stale = True
        if api is ApiKey.END_TXN:
            self._end_in_doubt = True
