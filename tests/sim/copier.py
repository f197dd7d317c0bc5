"""Consume, transform, produce: what a partition holds is copied to another, each record once (KIP-447).

The input's offset is committed with the output. Checked at the end: what readers see of the output was made
of the input from its start on, in steps that follow each other, and the committed offset is where the last of
them ended.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from raftlog.cluster.transactions.coordinator import TransactionError
from raftlog.errors import InvalidInput
from raftlog.metadata.offsets import OffsetCommit
from raftlog.metadata.transaction_steps import Stepped
from raftlog.partition.values import PartitionError
from raftlog.types import group_key
from tests.sim.clients import Reply, Timeout, committed_from
from tests.sim.node import SimNode
from tests.sim.transactors import COMMITS, Ask, Incarnation, Life, Transaction, Transactor
from tests.sim.world import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

_Asking = Generator[float | list[Ask], list[Any], Any]


class Copier(Transactor):
    """Copies one partition into another."""

    def __init__(self, cluster: Cluster, rng: random.Random, name: str) -> None:
        self.group = f"group of {name}"
        self.source: tuple[bytes, int] | None = None
        self.target = (b"", 0)
        self.jumps: list[tuple[int, int]] = []
        """Where the input's records had been deleted: from and to."""
        super().__init__(cluster, rng, name)

    @property
    def is_over(self) -> bool:
        deleted = self.cluster.deleted
        return self.source is not None and (self.source[0] in deleted or self.target[0] in deleted)

    def _work(self, me: Incarnation, number: int) -> Life:
        while self.cluster.clients_work and self.source is None:
            partitions = self.cluster.partitions()
            whole = [one for one in partitions if one[0] not in self.cluster.compacted]
            if whole:
                self.source, self.target = self.rng.choice(whole), self.rng.choice(partitions)
            yield 0.1
        position = yield from self._committed()
        while self.cluster.clients_work and not self.is_over:
            yield self.rng.uniform(0.01, 0.2)
            taken, end = yield from self._read(position)
            if taken:
                self._rests(number, is_idle=False)
                end = yield from self._copy(me, number, position, taken, end)
                self._rests(number)
            position = end

    def _copy(self, me: Incarnation, number: int, position: int, taken: list[int], end: int) -> _Asking:
        """One transaction. Where to go on."""
        transaction = Transaction(offsets=(position, end), inputs=taken)
        self.done.append(transaction)
        attempt = len(self.done)
        yield from self._add(me, (self.target,))
        yield from self._add(me, (), self.group)
        is_early = self.rng.random() < 0.3  # kafka-python sends its offsets first
        if is_early:
            yield from self._stage(me, end)
        yield from self._may_crash(number)
        values = [f"{self.name}.{attempt}.{offset}".encode() for offset in taken]
        yield from self._produce(me, transaction, self.target, 1, *values)
        if not is_early:
            yield from self._stage(me, end)
        yield from self._may_crash(number)
        commit = self.rng.random() < COMMITS
        yield from self._end(me, transaction, commit=commit)
        return end if commit else position

    def _committed(self) -> _Asking:
        """Where the group is; whoever starts again asks for what is stable."""
        assert self.source is not None or not self.cluster.clients_work
        if self.source is None:
            return 0
        topic_id, number = self.source

        def handle(node: SimNode, reply: Reply) -> None:
            async def find() -> int | None:
                topic = node.catalog.topics_by_id.get(topic_id)
                if not await node.real.coordination.catch_up() or topic is None:
                    return None
                if (topic.name, number) in node.catalog.transactions.unstable(self.group):
                    return None
                found = node.catalog.committed_offset(self.group, topic.name, number)
                return found.offset if found is not None else 0

            node.ask(find, reply)

        while not self.is_over:
            (answer,) = yield [(self.anyone(), handle)]
            if isinstance(answer, int):
                return answer
            yield 0.05
        return 0

    def _read(self, position: int) -> _Asking:
        """The offsets of some records that a reader of what is committed gets, and where to go on."""
        assert self.source is not None
        at, key = self.source, group_key(*self.source)
        broker = self._leaders.get(key) or self.anyone()

        def handle(node: SimNode, reply: Reply) -> None:
            partition, hint = node.partition(*at), node.leader_hint(*at)
            if partition is None:
                reply((None, [], 0, hint))
                return
            result = partition.reading.fetch(position, 4000, committed=True)
            piece = result.slice
            try:
                found = committed_from(piece.read(), position, result.aborted) if piece is not None else []
            except InvalidInput as error:
                raise Violation("only committed is served", f"from {position} on: {error}") from error
            reply((result, found, piece.next_offset if piece is not None else position, hint))

        (answer,) = yield [(broker, handle)]
        if answer is Timeout or answer[0] is None or answer[0].error is PartitionError.NOT_LEADER:
            self._leaders.pop(key, None)
            if answer is not Timeout and answer[-1] is not None:
                self._leaders[key] = answer[-1]
            return [], position
        result, found, end, _ = answer
        if result.error is PartitionError.OFFSET_OUT_OF_RANGE and position < result.log_start_offset:
            self.jumps.append((position, result.log_start_offset))
            return [], result.log_start_offset
        if result.error is not None:
            return [], position
        some = found[: self.rng.randint(1, 5)]
        return [offset for offset, _ in some], end if len(some) == len(found) else some[-1][0] + 1

    def _stage(self, me: Incarnation, end: int) -> _Asking:
        assert self.source is not None
        topic = self.cluster.topics.get(self.source[0])
        if topic is None:
            return
        offsets = (OffsetCommit(topic, self.source[1], end),)

        def handle(node: SimNode, reply: Reply) -> None:
            stage = node.real.transactions.stage_offsets
            node.ask(partial(stage, self.name, me.producer_id, me.epoch, self.group, offsets), reply)

        answer = yield from self._ask_coordinator(handle)
        if not isinstance(answer, Stepped):
            assert isinstance(answer, TransactionError), answer
            raise Violation("transactional producers get on", f"{self.name}: {answer} to offsets")

    # At the end

    def check(self) -> None:
        super().check()
        if self.source is None or self.is_over:
            return
        ledger = self.cluster.invariants.ledgers[group_key(*self.source)]
        assert ledger.fates is not None
        kept = [one for one in self.done if self.seen(one)[0]]
        at = 0
        for one in sorted(kept, key=lambda one: one.offsets or (0, 0)):
            assert one.offsets is not None
            start, end = one.offsets
            passed = [o for o in range(at, start) if ledger.fates.visible[o] and not self._is_jumped(o)]
            if start < at or passed:
                raise Violation(
                    "each input is copied once",
                    f"{self.name} of {ledger.name}: {start} to {end}, was at {at}, passed {passed[:3]}",
                )
            at = end
        for broker in self.cluster.brokers.values():
            assert broker.node is not None
            topic = self.cluster.topics[self.source[0]]
            found = broker.node.catalog.committed_offset(self.group, topic, self.source[1])
            if (found.offset if found is not None else 0) != at:
                raise Violation(
                    "offsets are committed with what was made of them",
                    f"{self.name} of {ledger.name}: copied up to {at}, committed is {found}",
                )

    def _is_jumped(self, offset: int) -> bool:
        return any(start <= offset < end for start, end in self.jumps)
