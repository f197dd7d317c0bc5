"""How the decision about a transaction reaches its partitions: the coordinator's markers.

What is to be done follows from the metadata alone: every transaction that is prepared, whoever prepared it,
gets its markers, and is complete when the last of its partitions has one. So a coordinator that takes over
goes on where the last one ended, and a marker that was written twice changes something once.

Markers to one broker go out together, those of all transactions that were decided in the same turn.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, NamedTuple

import trio

from raftlog.cluster.calls import Reply, Unreachable
from raftlog.cluster.changes import Changes
from raftlog.cluster.coordination import Coordination
from raftlog.cluster.leaders import Leaders
from raftlog.cluster.metadata_group import MetadataGroup, ProposalFailed
from raftlog.cluster.peers import Peers
from raftlog.cluster.proposer import Proposer
from raftlog.cluster.replicas import Replicas
from raftlog.cluster.this_broker import ThisBroker
from raftlog.errors import InvalidInput
from raftlog.metadata.commands import encode_command
from raftlog.metadata.transaction_ends import CompleteTransaction
from raftlog.metadata.transaction_table import TopicPartition, TransactionalId, TransactionState
from raftlog.partition.markers import Marker
from raftlog.partition.marking import Marked
from raftlog.types import BrokerId, RaftIndex

RETRY_S: Final = 0.05
RETRY_MAX_S: Final = 1.0
"""Between two tries of what a partition has not taken; it doubles."""
REPLY_WITHIN_S: Final = 1.0
"""How long a broker waits for its partitions before it says which of them have the marker: one without a
majority must not hold up what is told of the others."""
LOOK_S: Final = 0.5
"""How often it is looked for transactions that are prepared, at least: nothing tells that this broker has
taken office after the entry that it has to act on."""
ASK_TIMEOUT_S: Final = 5.0
AT_ONCE: Final = 100
"""Markers that a broker writes before others get their turn: about three milliseconds."""
FRAME_MAX: Final = 5_000
"""Markers in one question: 400 kB."""
UNDER_WAY_MAX: Final = 1_000
"""Transactions whose markers are written at the same time; the others wait for their turn. One whose
partitions take none for long, having no majority, gives up its place meanwhile."""

_DONE: Final = frozenset((Marked.DONE, Marked.PRODUCER_FENCED))
"""A partition that knows a newer producer has nothing open of this one."""

log = logging.getLogger("raftlog.transactions")


class _Addressed(NamedTuple):
    """A marker and the partition that it is for."""

    topic_id: bytes
    partition: int
    marker: Marker

    def to_plain(self) -> list[object]:
        return [self.topic_id, self.partition, *self.marker]


class _Outbox:
    """The markers that wait to be sent to one broker in the same turn."""

    def __init__(self) -> None:
        self.waiting: list[_Addressed] = []
        self.answer: dict[_Addressed, Marked] = {}
        self.sent = trio.Event()


class Markers:
    """Writes markers where this broker leads a partition; has all of them written where it coordinates."""

    def __init__(
        self,
        me: ThisBroker,
        metadata: MetadataGroup,
        coordination: Coordination,
        peers: Peers,
        leaders: Leaders,
        replicas: Replicas,
        proposer: Proposer,
        changes: Changes,
    ) -> None:
        self._me = me
        self._metadata = metadata
        self._coordination = coordination
        self._calls = peers.calls
        self._leaders = leaders
        self._replicas = replicas
        self._proposer = proposer
        self._changes = changes
        self._nursery: trio.Nursery | None = None
        self._under_way: dict[str, RaftIndex] = {}
        self._set_aside: set[str] = set()
        """Ids that have given up their place, until the others have had their turn."""
        self._outboxes: dict[BrokerId, _Outbox] = {}
        peers.calls.serve("end_transactions", self._on_end_transactions)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as self._nursery:
            while True:
                changed = self._changes.next
                self._take_up(self._nursery)
                with trio.move_on_after(LOOK_S):
                    await changed.wait()

    def _take_up(self, nursery: trio.Nursery) -> None:
        if not self._coordination.is_coordinator:
            return
        table = self._metadata.catalog.transactions
        for name in table.prepared:
            if len(self._under_way) >= UNDER_WAY_MAX:
                return
            if name not in self._under_way and name not in self._set_aside:
                value = table.get(name)
                assert value is not None, name
                self._under_way[name] = value.decided_at
                nursery.start_soon(self._finish, name, value)
        self._set_aside.clear()

    # The coordinator's side

    async def _finish(self, name: str, value: TransactionalId) -> None:
        """Have the markers written and the transaction completed, while this broker is in office."""
        try:
            left, pause = set(value.partitions), RETRY_S
            while self._is_mine(name, value):
                left -= await self._write(left, value, is_again=pause > RETRY_S)
                if not left and await self._complete(name, value):
                    return
                if pause >= RETRY_MAX_S and len(self._under_way) >= UNDER_WAY_MAX:
                    self._set_aside.add(name)
                    return
                await trio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX_S)
        finally:
            del self._under_way[name]
            self._changes.tell()

    def _is_mine(self, name: str, value: TransactionalId) -> bool:
        known = self._metadata.catalog.transactions.get(name)
        is_wanted = known is not None and known.state.is_prepared and known.decided_at == value.decided_at
        return is_wanted and self._coordination.is_coordinator

    async def _write(
        self, left: Iterable[TopicPartition], value: TransactionalId, *, is_again: bool
    ) -> set[TopicPartition]:
        """Send markers to these partitions, once; those that have theirs, or are gone."""
        marker = Marker(
            value.producer_id,
            value.epoch,
            value.state is TransactionState.PREPARE_COMMIT,
            self._metadata.group.term,
            value.decided_at,
        )
        done: set[TopicPartition] = set()
        by_leader: dict[BrokerId, list[_Addressed]] = {}
        for topic_id, number in sorted(left):  # a seed of the simulator plays alike in every process
            topic = self._metadata.catalog.topics_by_id.get(topic_id)
            if topic is None or number >= len(topic.partitions):
                done.add((topic_id, number))
                continue
            leader, _ = self._leaders.leader_of(topic, number)
            if leader is not None:
                by_leader.setdefault(leader, []).append(_Addressed(topic_id, number, marker))

        async def send(leader: BrokerId, markers: list[_Addressed]) -> None:
            answers = await (self._ask(leader, markers) if is_again else self._send(leader, markers))
            for one in markers:
                match answers.get(one, Marked.NOT_NOW):
                    case answer if answer in _DONE:
                        done.add((one.topic_id, one.partition))
                    case Marked.COORDINATOR_FENCED:
                        log.warning("a coordinator after term %d has written", marker.coordinator_epoch)

        async with trio.open_nursery() as nursery:
            for leader, markers in by_leader.items():
                nursery.start_soon(send, leader, markers)
        return done

    async def _send(self, leader: BrokerId, markers: list[_Addressed]) -> dict[_Addressed, Marked]:
        """Together with what others send to the same broker in this turn."""
        outbox = self._outboxes.get(leader)
        if outbox is not None and len(outbox.waiting) + len(markers) <= FRAME_MAX:
            outbox.waiting += markers
            await outbox.sent.wait()
            return outbox.answer
        outbox = self._outboxes[leader] = _Outbox()
        outbox.waiting += markers
        try:
            await trio.lowlevel.checkpoint()
            if self._outboxes.get(leader) is outbox:
                del self._outboxes[leader]
            outbox.answer = await self._ask(leader, outbox.waiting)
        finally:
            outbox.sent.set()
        return outbox.answer

    async def _ask(self, leader: BrokerId, markers: list[_Addressed]) -> dict[_Addressed, Marked]:
        if leader == self._me.id:
            return await self._write_here(markers)
        found: dict[_Addressed, Marked] = {}
        for first in range(0, len(markers), FRAME_MAX):
            some = markers[first : first + FRAME_MAX]
            body = [one.to_plain() for one in some]
            try:
                answer = await self._calls.ask(leader, "end_transactions", body, timeout=ASK_TIMEOUT_S)
            except Unreachable:
                continue
            match answer:
                case list(names) if len(names) == len(some):
                    found.update(
                        (one, Marked[name])
                        for one, name in zip(some, names, strict=True)
                        if isinstance(name, str) and name in Marked.__members__
                    )
                case _:
                    log.warning("broker %d answered %.100s to markers", leader, answer)
        return found

    async def _complete(self, name: str, value: TransactionalId) -> bool:
        command = CompleteTransaction(
            transactional_id=name, decided_at=value.decided_at, at_ms=self._me.now_ms()
        )
        index = await self._proposer.propose_here(encode_command(command))
        return not isinstance(index, ProposalFailed)

    # The partition leader's side

    async def _write_here(self, markers: list[_Addressed]) -> dict[_Addressed, Marked]:
        """What became of markers for partitions that this broker leads, as far as that is known soon."""
        answers: dict[_Addressed, Marked] = {}
        wanted, all_answered = len(set(markers)), trio.Event()

        def answered(one: _Addressed, marked: Marked) -> None:
            answers[one] = marked
            if len(answers) == wanted:
                all_answered.set()

        with trio.move_on_after(REPLY_WITHIN_S):
            for number, one in enumerate(markers, 1):
                replica = self._replicas.partition_by_id(one.topic_id, one.partition)
                if replica is None:
                    answered(one, Marked.NOT_NOW)
                else:
                    replica.marking.write(
                        one.marker,
                        now=trio.current_time(),
                        now_ms=self._me.now_ms(),
                        on_done=partial(answered, one),
                    )
                if number % AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            await all_answered.wait()
        return dict(answers)

    def _on_end_transactions(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        if not isinstance(body, list) or len(body) > FRAME_MAX:
            raise InvalidInput(f"broker {sender} sends {str(body)[:60]} for markers")
        markers = [_from_plain(row) for row in body]
        if self._nursery is None:
            return  # it asks again
        self._nursery.start_soon(self._write_and_reply, markers, reply)

    async def _write_and_reply(self, markers: list[_Addressed], reply: Reply) -> None:
        answers = await self._write_here(markers)
        reply([answers.get(one, Marked.NOT_NOW).name for one in markers])


def _from_plain(row: object) -> _Addressed:
    match row:
        case [
            bytes(topic_id),
            int(partition),
            int(producer_id),
            int(epoch),
            bool(is_commit),
            int(coordinator_epoch),
            int(decided_at),
        ]:
            marker = Marker(producer_id, epoch, is_commit, coordinator_epoch, decided_at)
            return _Addressed(topic_id, partition, marker)
        case _:
            raise InvalidInput(f"a marker is a row of seven, not {str(row)[:60]}")
