"""A consumer that commits where it is, and finds that again after a restart."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.errors import InvalidInput
from raftlog.metadata.commands import encode_command
from raftlog.metadata.offsets import CommitOffsets, GroupCommit, OffsetCommit
from raftlog.partition.values import EARLIEST, FetchResult, PartitionError
from raftlog.types import BrokerId, group_key
from tests.sim.clients import Caller, Reply, Timeout, committed_from, records_from
from tests.sim.node import SimNode
from tests.sim.world import Violation
from tests.steps import run

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster


class Consumer(Caller):
    """Reads one partition for a group, commits its position, and comes back to it after a restart."""

    def __init__(
        self, cluster: Cluster, rng: random.Random, group: str, topic: bytes, partition: int
    ) -> None:
        super().__init__(cluster, rng)
        self.group, self.topic_id, self.partition = group, topic, partition
        self.key = group_key(topic, partition)
        self.position = 0
        self.committed = -1
        """The last commit that was acknowledged."""
        self.tried = -1
        self.read = 0
        self.reads_committed = rng.random() < 0.5
        self._leader: BrokerId | None = None
        self._is_busy = False
        self.world.after(0.1, self._work)

    @property
    def is_over(self) -> bool:
        return self.topic_id in self.cluster.deleted

    def _pause(self) -> float:
        """In the end it only catches up."""
        if self.cluster.clients_work:
            return self.rng.uniform(0.05, 0.3)
        ledger = self.cluster.invariants.ledgers.get(self.key)
        behind = ledger is not None and self.position < ledger.end_offset
        return 0.004 if behind else 0.2

    def _work(self) -> None:
        if self.is_over:
            return
        self.world.after(self._pause(), self._work)
        if self._is_busy:
            return
        self._is_busy = True
        match self.rng.randrange(12):
            case 0 | 1 if self.position > self.committed and self.cluster.clients_work:
                self._commit()
            case 3 if self.cluster.clients_work:
                self._find_committed()
            case 4 if self.cluster.clients_work:
                self._ask_end()
            case 5 if self.cluster.clients_work:
                self._ask_start()
            case _:
                self._fetch()

    def _fetch(self) -> None:
        broker = self._leader if self._leader is not None else self.anyone()
        position, size = self.position, self.rng.choice((1, 500, 4000, 100_000))
        if not self.cluster.clients_work:
            size = 100_000

        def handle(node: SimNode, reply: Reply) -> None:
            partition = node.partition(self.topic_id, self.partition)
            hint = node.leader_hint(self.topic_id, self.partition)
            if partition is None:
                reply((None, b"", hint, -1))
                return
            result = partition.reading.fetch(position, size, committed=self.reads_committed)
            data = result.slice.read() if result.slice is not None else b""
            if self.reads_committed and result.error is None:
                self._look(node.broker_id, position, data, result)
            reply((result, data, hint, partition.leader_epoch))

        def fetched(value: Any) -> None:
            self._is_busy = False
            if value is Timeout or value[0] is None:
                self._leader = None if value is Timeout else value[2]
                return
            result, data, hint, epoch = value
            match result.error:
                case None:
                    self._leader = broker
                    self._take(position, data, result)
                case PartitionError.OFFSET_OUT_OF_RANGE if position < result.log_start_offset:
                    self.position = result.log_start_offset
                case PartitionError.OFFSET_OUT_OF_RANGE:
                    ledger = self.cluster.invariants.ledgers[self.key]
                    if epoch >= ledger.entries[-1].term:
                        raise Violation(
                            "a leader has what was read",
                            f"{ledger.name}: {position} is beyond {result.high_watermark} in term {epoch}",
                        )
                    self._leader = hint if hint != broker else None
                case _:
                    self._leader = hint if hint != broker else None

        self.call(broker, handle, fetched)

    def _look(self, broker: BrokerId, position: int, data: bytes | memoryview, result: FetchResult) -> None:
        """What was read is judged by what is committed now."""
        try:
            found = committed_from(data, position, result.aborted)
        except InvalidInput as error:
            raise Violation("only committed is served", f"from {position} on: {error}") from error
        end = result.slice.next_offset if result.slice is not None else position
        stable = int(result.last_stable_offset)
        self.cluster.invariants.fetched_committed(
            self.cluster.brokers[broker], self.key, position, end, found, stable
        )

    def _take(self, position: int, data: bytes, result: FetchResult) -> None:
        try:
            found = records_from(data, position)
        except InvalidInput as error:
            raise Violation("only committed is served", f"from {position} on: {error}") from error
        end = result.slice.next_offset if result.slice is not None else position
        self.cluster.invariants.fetched(self.key, position, end, found, result.high_watermark)
        self.read += len(found)
        if self.position == position:
            self.position = end

    def _commit(self) -> None:
        """Commit to the coordinator, which is the metadata leader."""
        topic = self.cluster.topics.get(self.topic_id)
        if topic is None:
            self._is_busy = False
            return
        position = self.tried = max(self.position, self.tried)
        offset = OffsetCommit(topic, self.partition, position)

        def handle(node: SimNode, reply: Reply) -> None:
            if not node.is_coordinator:
                reply(ProposalFailed("not the coordinator", may_still_happen=False))
                return
            commit = GroupCommit(self.group, node.now_ms(), (offset,))
            node.propose_here(encode_command(CommitOffsets(commits=(commit,))), reply)

        def done(value: Any) -> None:
            self._is_busy = False
            if value is not Timeout and not isinstance(value, ProposalFailed):
                self.committed = max(self.committed, position)

        self.call(self.cluster.coordinator_hint(self.rng), handle, done)

    def _find_committed(self) -> None:
        """As after a restart: what was committed is found again, by whoever coordinates now."""
        topic = self.cluster.topics.get(self.topic_id)
        committed = self.committed
        if topic is None:
            self._is_busy = False
            return

        def handle(node: SimNode, reply: Reply) -> None:
            def read(led: bool) -> None:
                found = node.catalog.committed_offset(self.group, topic, self.partition)
                reply((led and node.is_coordinator, found))

            node.metadata.group.read_barrier(self.world.now, read)

        def found(value: Any) -> None:
            self._is_busy = False
            if value is Timeout or not value[0] or self.is_over:
                return
            offset = value[1].offset if value[1] is not None else -1
            if not committed <= offset <= max(self.tried, committed):
                raise Violation(
                    "committed offsets stay",
                    f"group {self.group}: {offset} is stored, {committed} was acknowledged, "
                    f"{self.tried} tried",
                )
            if offset >= 0:
                self.position = offset

        self.call(self.cluster.coordinator_hint(self.rng), handle, found)

    def _ask_end(self) -> None:
        """A linearizable read: the end is not before what was acknowledged when the question was asked."""
        ledger = self.cluster.invariants.ledgers.get(self.key)
        broker = self._leader if self._leader is not None else self.anyone()
        asked: list[int] = []

        def handle(node: SimNode, reply: Reply) -> None:
            partition = node.partition(self.topic_id, self.partition)
            if partition is None:
                reply(None)
                return
            asked.append(ledger.end_offset if ledger is not None else 0)
            partition.group.read_barrier(
                self.world.now, lambda led: reply(int(partition.high_watermark) if led else None)
            )

        def found(value: Any) -> None:
            self._is_busy = False
            if value is Timeout or value is None:
                return
            if value < asked[0]:
                raise Violation("linearizable reads", f"{self.key.hex()}: {value}, {asked[0]} was committed")

        self.call(broker, handle, found)

    def _ask_start(self) -> None:
        """The start of the log: it lies before none that anybody was told when the question came."""
        ledger = self.cluster.invariants.ledgers.get(self.key)
        broker = self._leader if self._leader is not None else self.anyone()
        asked: list[int] = []

        def handle(node: SimNode, reply: Reply) -> None:
            partition = node.partition(self.topic_id, self.partition)
            if partition is None or ledger is None:
                reply(None)
                return
            asked.append(ledger.told_start)

            def answer(led: bool) -> None:
                found = run(partition.reading.find_offset_steps(EARLIEST))
                is_found = led and found.error is None
                if is_found:
                    self.cluster.invariants.told_start(self.key, found.offset)
                reply(found.offset if is_found else None)

            partition.reading.confirm_leadership(self.world.now, answer)

        def found(value: Any) -> None:
            self._is_busy = False
            if value is Timeout or value is None:
                return
            if value < asked[0]:
                raise Violation(
                    "the start moves back for nobody", f"{self.key.hex()}: {value}, {asked[0]} was told"
                )

        self.call(broker, handle, found)
