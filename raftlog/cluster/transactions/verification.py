"""What the leader of a partition asks the coordinator: is it in the producer's open transaction? (KIP-890)

Where transactions have an epoch each, the question adds the partition, too: the producer sends its batch and
nothing before it. The answer then waits for the markers of the transaction before.

Questions about one transaction that come in the same turn go out as one. The coordinator answers when a
majority still takes it for the metadata leader: one that was replaced would say yes to what is over.
"""

from __future__ import annotations

from typing import Any, Final

import trio

from raftlog.cluster.calls import Calls, Reply, Unreachable
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.peers import Peers
from raftlog.cluster.this_broker import ThisBroker
from raftlog.cluster.transactions.coordinator import TransactionCoordinator, TransactionError
from raftlog.errors import InvalidInput
from raftlog.metadata.transaction_table import TopicPartition, TransactionalId, TransactionState
from raftlog.partition.verifying import Membership, OnVerified
from raftlog.types import BrokerId

PATIENCE_S: Final = 3.0
"""How long a coordinator is looked for; then the producer is told to send its batch again."""
ASK_TIMEOUT_S: Final = 1.0
RETRY_S: Final = 0.05
WAITING_MAX: Final = 10_000
"""Batches that wait for an answer on this broker. More are told to come again."""

_Key = tuple[str, int, int, bool]
"""Transactional id, producer id, epoch, and whether partitions are added."""


class Verification:
    """Asks for the partitions of this broker, and answers where it coordinates."""

    def __init__(
        self, me: ThisBroker, metadata: MetadataGroup, coordinator: TransactionCoordinator, peers: Peers
    ) -> None:
        self._me = me
        self._metadata = metadata
        self._coordinator = coordinator
        self._calls: Calls = peers.calls
        self._nursery: trio.Nursery | None = None
        self._gathered: dict[_Key, dict[TopicPartition, list[OnVerified]]] = {}
        self._waiting = 0
        peers.calls.serve("verify_transaction", self._on_verify)
        peers.calls.serve("add_to_transaction", self._on_add)

    async def run(self) -> None:
        """Until cancelled; what is asked while it does not run has no answer."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    def verify(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        partition: TopicPartition,
        on_verified: OnVerified,
        *,
        adds: bool = False,
    ) -> None:
        """`on_verified` is called once, at once or later. `adds`: the partition is to become part of the
        transaction, which begins with the first."""
        if self._nursery is None or self._waiting >= WAITING_MAX:
            on_verified(Membership.UNKNOWN, trio.current_time())
            return
        self._waiting += 1
        key = transactional_id, producer_id, epoch, adds
        if key not in self._gathered:
            self._gathered[key] = {}
            self._nursery.start_soon(self._ask, key)
        self._gathered[key].setdefault(partition, []).append(on_verified)

    async def _ask(self, key: _Key) -> None:
        asked = self._gathered.pop(key)
        answers: list[Membership] = []
        try:
            with trio.move_on_after(PATIENCE_S):
                while not answers:
                    leader = self._metadata.leader
                    if leader is not None:
                        answers = await self._ask_once(leader, key, list(asked))
                    if not answers:
                        await trio.sleep(RETRY_S)
        finally:
            now = trio.current_time()
            for number, waiting in enumerate(asked.values()):
                for on_verified in waiting:
                    self._waiting -= 1
                    on_verified(answers[number] if answers else Membership.UNKNOWN, now)

    async def _ask_once(
        self, leader: BrokerId, key: _Key, partitions: list[TopicPartition]
    ) -> list[Membership]:
        """The answers in the same order; none when there is nobody who can tell."""
        adds = key[-1]
        if leader == self._me.id and adds:
            return await self._add(key, partitions)
        if leader == self._me.id:
            confirmed = trio.Event()
            found: list[Membership] = []

            def then(leads: bool) -> None:
                if leads:
                    found.extend(self._look_up(key, partitions))
                confirmed.set()

            self._metadata.group.read_barrier(trio.current_time(), then)
            await confirmed.wait()
            return found
        body = [*key[:3], [list(partition) for partition in partitions]]
        method = "add_to_transaction" if adds else "verify_transaction"
        try:
            answer = await self._calls.ask(leader, method, body, timeout=ASK_TIMEOUT_S)
        except Unreachable:
            return []
        if not isinstance(answer, list) or len(answer) != len(partitions):
            return []
        return [Membership.__members__.get(str(name), Membership.UNKNOWN) for name in answer]

    async def _add(self, key: _Key, partitions: list[TopicPartition]) -> list[Membership]:
        """As `_ask_once`, on the coordinator."""
        transactional_id, producer_id, epoch, _ = key
        added = await self._coordinator.add(
            transactional_id, producer_id, epoch, partitions=tuple(partitions)
        )
        if not isinstance(added, TransactionError):
            return [Membership.ADDED] * len(partitions)
        answer = _REFUSED.get(added)
        return [] if answer is None else [answer] * len(partitions)

    def _on_add(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        key, partitions = _question(sender, body, adds=True)
        if self._nursery is None:
            return  # it asks again
        self._nursery.start_soon(self._add_and_reply, key, partitions, reply)

    async def _add_and_reply(self, key: _Key, partitions: list[TopicPartition], reply: Reply) -> None:
        reply([each.name for each in await self._add(key, partitions)])

    def _on_verify(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        key, partitions = _question(sender, body, adds=False)

        def then(leads: bool) -> None:
            reply([each.name for each in self._look_up(key, partitions)] if leads else [])

        self._metadata.group.read_barrier(trio.current_time(), then)

    def _look_up(self, key: _Key, partitions: list[TopicPartition]) -> list[Membership]:
        transactional_id, producer_id, epoch, _ = key
        value = self._metadata.catalog.transactions.get(transactional_id)
        return [membership(value, producer_id, epoch, partition) for partition in partitions]


def membership(
    value: TransactionalId | None, producer_id: int, epoch: int, partition: TopicPartition
) -> Membership:
    """Whether a partition is in the open transaction of a producer."""
    if value is None or producer_id not in (value.producer_id, value.next_producer_id):
        return Membership.WRONG_PRODUCER
    if (producer_id, epoch) != value.producer:
        return Membership.PRODUCER_FENCED
    if value.state is not TransactionState.ONGOING or partition not in value.partitions:
        return Membership.NOT_IN_TRANSACTION
    return Membership.IN_TRANSACTION


_REFUSED: Final = {
    TransactionError.UNKNOWN_ID: Membership.WRONG_PRODUCER,
    TransactionError.FENCED: Membership.PRODUCER_FENCED,
    TransactionError.WRONG_STATE: Membership.NOT_IN_TRANSACTION,
    TransactionError.INVALID_REQUEST: Membership.NOT_IN_TRANSACTION,
    TransactionError.TOO_LARGE: Membership.NOT_IN_TRANSACTION,
}
"""Why a partition was not added; whatever else a coordinator says, it is asked again."""


def _question(sender: BrokerId, body: Any, *, adds: bool) -> tuple[_Key, list[TopicPartition]]:
    match body:
        case [str(transactional_id), int(producer_id), int(epoch), list(rows)]:
            return (transactional_id, producer_id, epoch, adds), [_partition(row) for row in rows]
        case _:
            raise InvalidInput(f"broker {sender} asks {str(body)[:60]} about a transaction")


def _partition(row: object) -> TopicPartition:
    match row:
        case [bytes(topic_id), int(number)]:
            return topic_id, number
        case _:
            raise InvalidInput(f"a partition is [topic id, number], not {str(row)[:60]}")
