"""A transactional producer: what its user calls, and how a transaction comes to its end.

`transactions` decides, `transaction_requests` asks the coordinator; here they are put in order. Ending a
transaction goes on when its caller is cancelled, for CANCELLED_END_SECONDS_MAX: what is half done would hold
up whoever reads committed records.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import trio

from raftlog.client.accumulator import Accumulator
from raftlog.client.arguments import checked
from raftlog.client.batches import Batch
from raftlog.client.cluster import Cluster
from raftlog.client.commits import GroupMetadata
from raftlog.client.errors import (
    BrokerError,
    ClientError,
    CommitUnknown,
    DeliveryError,
    NoTransaction,
    RequestTimedOut,
)
from raftlog.client.metadata import TopicPartition
from raftlog.client.nursery import background
from raftlog.client.offsets import CommittedOffset
from raftlog.client.sending import Sender
from raftlog.client.settings import ProducerSettings
from raftlog.client.transaction_requests import TransactionRequests
from raftlog.client.transactions import Phase, Transactions
from raftlog.protocol.api import ApiKey

LANDING_SECONDS_MAX: Final = 2.0
"""How long an abort waits for records that are under way; then a new epoch keeps them out."""
CANCELLED_END_SECONDS_MAX: Final = 5.0
"""How long ending a transaction may take once its caller is cancelled."""

Offsets = Mapping[TopicPartition, int | CommittedOffset]


@checked("ended")
class Transaction:
    """A transaction that is open. Made by `Producer.transaction`, in whose `async with` it lives."""

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination
        self._outcome = "open"

    @property
    def outcome(self) -> str:
        """ "open", "committed", "aborted", or "unknown" after a commit that was not answered in time."""
        return self._outcome

    async def send_offsets(self, offsets: Offsets, group: GroupMetadata) -> None:
        """Commit a group's offsets with the transaction: those of the next records to be read.

        `group` is `consumer.group_metadata()`, taken when the records were handed out. Raises RebalanceNeeded
        when the group has given the partitions to others, RequestTimedOut after `max_block_ms`, and
        TransactionAborted from any other refusal. After any error, and when it is cancelled, the transaction
        can only be aborted.
        """
        await self._coordination.send_offsets(self, offsets, group)

    async def settle(self) -> None:
        """Find out whether a transaction is committed whose outcome is unknown: the coordinator is asked to
        commit it once more. Returns when it is committed.

        Raises CommitUnknown when that took longer than `max_block_ms`, and ProducerFailed when the
        coordinator does not tell any more, because another producer has taken over: the outcome stays
        unknown, as it does when this is cancelled. When the outcome is known it does nothing.
        """
        if self._outcome == "unknown":
            await self._coordination.settle()
        else:
            await trio.lowlevel.checkpoint()

    def ended(self, outcome: str) -> None:
        """Its end, so far."""
        self._outcome = outcome

    def __repr__(self) -> str:
        return f"<Transaction {self._coordination.state.transactional_id} {self._outcome}>"


class Coordination:
    """One producer and its coordinator."""

    def __init__(
        self, cluster: Cluster, settings: ProducerSettings, accumulator: Accumulator, sender: Sender
    ) -> None:
        assert settings.transactional_id is not None
        self.state = Transactions(settings.transactional_id, settings.transaction_timeout_ms)
        self.current: Transaction | None = None
        self._settings = settings
        self._accumulator = accumulator
        self._sender = sender
        self._requests = TransactionRequests(cluster, settings, self.state)
        self._in_use = False
        self._unsettled: Transaction | None = None
        self._wanted = trio.Event()
        self._adding = trio.CancelScope()
        accumulator.admits = self._admits
        accumulator.on_failure = self._batch_failed
        sender.before = self._give_up_what_is_doomed

    def __repr__(self) -> str:
        return f"<Coordination {self.state!r}>"

    def close(self) -> None:
        """Close the connections."""
        self._requests.close()

    # -- a transaction's life

    @asynccontextmanager
    async def transaction(self, flush: Callable[[], Awaitable[None]]) -> AsyncIterator[Transaction]:
        """A transaction; what `Producer.transaction` says of it is said there."""
        if self._in_use:
            raise trio.BusyResourceError("another transaction of this producer is under way")
        self._in_use = True
        try:
            await self._prepare()
            self.state.begin(trio.current_time())
            transaction = self.current = Transaction(self)
            try:
                yield transaction
                await self._flush(flush)
            except BaseException:
                await self._abort(transaction)
                raise
            await self._commit(transaction)
        finally:
            self.current = None
            self._accumulator.unseen.clear()  # what failed failed the transaction, which has said so
            self._in_use = False

    def enter(self, began: Transaction | None = None) -> Transaction:
        """The transaction that takes a record now. Raises NoTransaction, or what dooms it; NoTransaction also
        when it is not the one of before."""
        self.state.check_open()
        assert self.current is not None
        if began is not None and began is not self.current:
            raise NoTransaction("the transaction ended while the record waited for room or for its topic")
        return self.current

    async def identify(self) -> None:
        """Get a producer id, or the next epoch, and begin to number anew."""
        await self._requests.identify()
        self._accumulator.renew(self.state.producer_id, self.state.epoch)

    async def _prepare(self) -> None:
        """End what is not ended, and take another epoch if the last one may have requests on their way."""
        if self.state.failure is not None:
            raise self.state.failure
        await trio.lowlevel.checkpoint()
        if self.state.phase is not Phase.IDLE:
            await self.settle()
        if self.state.is_stale:
            await self.identify()

    async def settle(self) -> None:
        """End a transaction whose end was not answered."""
        transaction, is_commit = self._unsettled, self.state.phase is Phase.COMMITTING
        try:
            await self._end()
        except RequestTimedOut as error:
            if is_commit:
                raise CommitUnknown(str(error)) from error
            raise
        if transaction is not None:
            transaction.ended("committed")
        self._unsettled = None

    async def _flush(self, flush: Callable[[], Awaitable[None]]) -> None:
        self.state.close()
        try:
            await flush()
        except DeliveryError:
            pass  # it has doomed the transaction
        self.state.check_sound()
        self.state.commit()

    async def _commit(self, transaction: Transaction) -> None:
        transaction.ended("unknown")
        self._unsettled = transaction
        try:
            await self._end_for_sure()
        except RequestTimedOut as error:
            raise CommitUnknown(f"{error}; the transaction may be committed") from error
        finally:
            if self.state.phase is Phase.IDLE:
                transaction.ended("committed")
                self._unsettled = None
            elif self.state.was_fenced_before_its_end:
                transaction.ended("aborted")

    async def _abort(self, transaction: Transaction) -> None:
        transaction.ended("aborted")  # only this producer could have committed it, and does not
        self._adding.cancel()
        if self.state.phase is not Phase.FAILED:
            self.state.abort()
        self._give_up(NoTransaction("the transaction was aborted"))
        if self.state.phase is not Phase.FAILED:
            try:
                await self._end_for_sure(land=True)
            except ClientError:
                pass  # the next transaction tries again, and the coordinator ends it after its time-out

    async def _end_for_sure(self, *, land: bool = False) -> None:
        """Ask the coordinator to end the transaction. A cancellation hurries it, and comes out at the end."""
        failure: ClientError | None = None
        scope = trio.CancelScope(shield=True)
        scope.deadline = trio.current_time() + self._settings.max_block_ms / 1000
        async with background() as nursery:
            nursery.start_soon(_hurry_when_cancelled, scope)
            try:
                with scope:
                    if land:
                        with trio.move_on_after(LANDING_SECONDS_MAX):
                            await self._sender.until_landed()
                    await self._end()
            except ClientError as error:
                failure = error
        if scope.cancelled_caught:
            failure = RequestTimedOut("the coordinator did not say that the transaction has ended")
        if failure is not None:
            raise failure

    async def _end(self) -> None:
        if self.state.additions.were_asked_for:
            await self._requests.end()
        self.state.ended()

    # -- records

    def _admits(self, key: TopicPartition) -> bool:
        admitted = self.state.admits(key)
        if self.state.additions.wants_more:
            self._wanted.set()
        return admitted

    def _batch_failed(self, batch: Batch) -> None:
        """A record is lost, so its transaction is; what else waits is given up before anything is sent."""
        assert batch.error is not None
        if batch.base_sequence >= 0:
            self.state.is_stale = True  # it may come late; and its numbers are missing in any case
        cause = batch.error.__cause__
        if isinstance(cause, BrokerError):
            self.state.react(ApiKey.PRODUCE, cause, trio.current_time())
        self.state.abort_only(batch.error)
        self._sender.wake()

    def _give_up_what_is_doomed(self) -> None:
        error = self.state.failure or self.state.doom
        if error is not None:
            self._give_up(error)

    def _give_up(self, error: ClientError) -> None:
        if self._accumulator.unfinished():
            self._accumulator.abandon(error)

    async def keep_adding(self) -> None:
        """The task that has the coordinator add partitions before they are written to."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            additions = self.state.additions
            keys = additions.ask()
            if not keys:
                continue
            self._adding = trio.CancelScope()
            with self._adding:
                try:
                    await self._requests.add_partitions(keys)
                except ClientError:
                    pass  # it has doomed the transaction
                else:
                    additions.partitions.update(keys)
            self._sender.wake()

    # -- offsets

    async def send_offsets(self, transaction: Transaction, offsets: Offsets, group: GroupMetadata) -> None:
        """As `Transaction.send_offsets` says."""
        self.enter(transaction)
        doom: ClientError | None = NoTransaction("committing its offsets was cancelled")
        try:
            await self._send_offsets(offsets, group)
            doom = None
        except ClientError as error:
            doom = error
            if isinstance(error, BrokerError):
                self.state.abort_only(doom)
                self.state.check_sound()
            raise
        finally:
            if doom is not None:
                self.state.abort_only(doom)
                self._sender.wake()

    async def _send_offsets(self, offsets: Offsets, group: GroupMetadata) -> None:
        await trio.lowlevel.checkpoint()
        wanted = {k: o if isinstance(o, CommittedOffset) else CommittedOffset(o) for k, o in offsets.items()}
        if not wanted:
            return
        group.check(wanted)
        additions = self.state.additions
        if additions.ask_group(group.group):
            await self._requests.add_group(group.group)
            additions.groups.add(group.group)
        await self._requests.commit_offsets(wanted, group)


async def _hurry_when_cancelled(scope: trio.CancelScope) -> None:
    """Let a shielded scope end soon when whoever waits for it is cancelled."""
    try:
        await trio.sleep_forever()
    finally:
        scope.deadline = min(scope.deadline, trio.current_time() + CANCELLED_END_SECONDS_MAX)
