"""The transaction coordinator: takes the steps of producers, as the broker that leads the metadata (KIP-98).

A step is one entry of the metadata log, and what applying it came to is the answer. A step that meets a
transaction whose markers are not all written waits for them, where Kafka answers CONCURRENT_TRANSACTIONS
and has its clients sleep. Proposals go through this broker alone: one that was replaced gets nothing into the
log.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import trio

from raftlog.cluster.changes import Changes
from raftlog.cluster.coordination import Coordination
from raftlog.cluster.metadata_group import MetadataGroup, ProposalFailed
from raftlog.cluster.proposer import Proposer
from raftlog.cluster.this_broker import ThisBroker
from raftlog.metadata.commands import encode_command, refused_before
from raftlog.metadata.noun import Refusal, Refused, Result
from raftlog.metadata.offsets import OffsetCommit
from raftlog.metadata.transaction_ends import EndTransaction, EndTransactionAndEpoch
from raftlog.metadata.transaction_steps import TRANSACTIONS_LEVEL, Stepped, Verdict
from raftlog.metadata.transaction_table import NO_EPOCH, NO_PRODUCER, TransactionState
from raftlog.metadata.transactions import AddToTransaction, InitProducer, StageOffsets

PATIENCE_S: Final = 2.0
"""How long a step waits for the markers of the transaction before, or until all brokers know transactions."""

Step = InitProducer | AddToTransaction | StageOffsets | EndTransaction | EndTransactionAndEpoch


class TransactionError(Enum):
    """Why a step was not taken."""

    NOT_COORDINATOR = auto()
    NOT_AVAILABLE = auto()
    """It may have been taken, or may be later; asking again does no harm."""
    CONCURRENT = auto()
    """The markers of the transaction before take long."""
    UNKNOWN_ID = auto()
    FENCED = auto()
    WRONG_STATE = auto()
    INVALID_REQUEST = auto()
    TOO_LARGE = auto()
    """There is no room for more."""


class TransactionCoordinator:
    """What producers with a transactional id ask."""

    def __init__(
        self,
        me: ThisBroker,
        metadata: MetadataGroup,
        coordination: Coordination,
        proposer: Proposer,
        changes: Changes,
    ) -> None:
        self._me = me
        self._metadata = metadata
        self._coordination = coordination
        self._proposer = proposer
        self._changes = changes

    async def init_producer(
        self,
        transactional_id: str,
        timeout_ms: int,
        producer_id: int = NO_PRODUCER,
        epoch: int = NO_EPOCH,
    ) -> Stepped | TransactionError:
        """Give a producer its id and epoch, once what was open under the transactional id is aborted."""
        return await self._take(
            InitProducer(
                transactional_id=transactional_id,
                timeout_ms=timeout_ms,
                producer_id=producer_id,
                epoch=epoch,
                at_ms=self._me.now_ms(),
            )
        )

    async def add(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        *,
        partitions: tuple[tuple[bytes, int], ...] = (),
        group: str | None = None,
    ) -> Stepped | TransactionError:
        """Make partitions, or a group, part of the producer's transaction."""
        groups = () if group is None else (group,)
        known = self._metadata.catalog.transactions.get(transactional_id)
        if (
            known is not None
            and known.state is TransactionState.ONGOING
            and known.producer == (producer_id, epoch)
            and known.partitions.keys() >= set(partitions)
            and set(groups) <= set(known.groups)
            and await self._coordination.confirm_coordinator()
            and self._metadata.catalog.transactions.get(transactional_id) == known
        ):
            return Stepped(Verdict.DONE, producer_id, epoch)
        return await self._take(
            AddToTransaction(
                transactional_id=transactional_id,
                producer_id=producer_id,
                epoch=epoch,
                partitions=partitions,
                groups=groups,
                at_ms=self._me.now_ms(),
            )
        )

    async def stage_offsets(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        group: str,
        offsets: tuple[OffsetCommit, ...],
    ) -> Stepped | TransactionError:
        """Have a group's offsets committed with the transaction."""
        return await self._take(
            StageOffsets(
                transactional_id=transactional_id,
                producer_id=producer_id,
                epoch=epoch,
                group=group,
                offsets=offsets,
                at_ms=self._me.now_ms(),
            )
        )

    async def end(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        *,
        commit: bool,
        ends_epoch: bool = False,
    ) -> Stepped | TransactionError:
        """Commit or abort. It is decided when this returns; the markers follow. `ends_epoch`: the producer
        goes on at the epoch, or under the producer id, that the answer names (KIP-890)."""
        kind = EndTransactionAndEpoch if ends_epoch else EndTransaction
        return await self._take(
            kind(
                transactional_id=transactional_id,
                producer_id=producer_id,
                epoch=epoch,
                commit=commit,
                at_ms=self._me.now_ms(),
            )
        )

    async def _take(self, step: Step) -> Stepped | TransactionError:
        """A caller that is cancelled, or whose patience ends, may have had the step taken."""
        error = TransactionError.CONCURRENT
        with trio.move_on_after(PATIENCE_S):
            while True:
                changed = self._changes.next
                if not self._coordination.is_coordinator:
                    return TransactionError.NOT_COORDINATOR
                if self._metadata.catalog.metadata_level < TRANSACTIONS_LEVEL:
                    error = TransactionError.NOT_AVAILABLE
                elif self._may_proceed(step):
                    error = TransactionError.NOT_AVAILABLE
                    result = await self._propose(step)
                    if isinstance(result, TransactionError):
                        return result
                    answer = _answer(result)
                    if answer is not None:
                        return answer
                    error = TransactionError.CONCURRENT
                    continue
                await changed.wait()
        return error

    def _may_proceed(self, step: Step) -> bool:
        """Whether a proposal would not be told to wait."""
        known = self._metadata.catalog.transactions.get(step.transactional_id)
        if known is None or not known.state.is_prepared or isinstance(step, EndTransaction):
            return True
        is_repeat = isinstance(step, EndTransactionAndEpoch)
        return is_repeat and (step.producer_id, step.epoch) != known.producer

    async def _propose(self, step: Step) -> Result | TransactionError:
        metadata = self._metadata
        encoded = encode_command(step)
        refused = refused_before(step, len(encoded), metadata.catalog, is_full=metadata.is_full)
        if refused is not None:
            return refused
        index = await self._proposer.propose_here(encoded)
        if isinstance(index, ProposalFailed):
            return TransactionError.NOT_AVAILABLE
        result = metadata.result_at(index)
        return TransactionError.NOT_AVAILABLE if result is None else result


def _answer(result: Result) -> Stepped | TransactionError | None:
    """None: the step has to wait for markers, and to be taken again then."""
    match result:
        case Stepped(verdict=Verdict.DONE):
            return result
        case Stepped(verdict=Verdict.MUST_WAIT | Verdict.ABORTING):
            return None
        case Stepped(verdict=Verdict.UNKNOWN_ID):
            return TransactionError.UNKNOWN_ID
        case Stepped(verdict=Verdict.FENCED):
            return TransactionError.FENCED
        case Stepped(verdict=Verdict.WRONG_STATE):
            return TransactionError.WRONG_STATE
        case Refused(reason=Refusal.TOO_LARGE):
            return TransactionError.TOO_LARGE
        case _:
            return TransactionError.INVALID_REQUEST
