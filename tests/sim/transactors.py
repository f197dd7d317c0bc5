"""Producers with transactional ids, their zombies, and what they were told.

What a producer does is written as a generator that yields what it asks, and is sent the answers. A producer
that crashes is one whose generator is dropped: what it asked may still arrive. One that is a zombie goes on
beside its successor. Checked at the end, by what was told alone: a transaction that was committed is seen
whole, one that was not is not seen at all, and one whose end nobody was told is seen whole or not at all.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from raftlog.cluster.transactions.coordinator import TransactionError
from raftlog.metadata.transaction_steps import Stepped
from raftlog.partition.values import PartitionError, ProduceResult
from raftlog.records.record import NewRecord, encode_batch
from raftlog.types import BrokerId, GroupKey, group_key
from tests.sim.clients import KEYS, Caller, Handler, Reply, Timeout
from tests.sim.node import SimNode
from tests.sim.world import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

TIMEOUTS_MS: Final = (700, 3_000, 60_000)
"""After which the coordinator aborts: some transactions are aborted while their producer works."""
CRASHES: Final = 0.06
"""How often a producer crashes at a step, and another one takes over its transactional id."""
ZOMBIES: Final = 0.5
"""How many of those that crash have only been away, and go on."""
COMMITS: Final = 0.7
BUMPS: Final = 0.05
"""How often a producer asks for another epoch of its own (KIP-360)."""

_NEVER: Final = (TransactionError.UNKNOWN_ID, TransactionError.INVALID_REQUEST, TransactionError.TOO_LARGE)

Ask = tuple[BrokerId, Handler]
Life = Generator[float | list[Ask], list[Any], None]
"""Yields seconds to sleep, or what to ask at the same time; is sent the answers."""


class Fenced(Exception):
    """The producer has a successor, or its transaction took too long."""


class Crashed(Exception):
    """The producer does nothing any more."""


@dataclass(slots=True, eq=False)
class Transaction:
    """What its producer knows of it."""

    values: dict[GroupKey, list[bytes]] = field(default_factory=dict)
    """Those that were acknowledged."""
    tried: set[bytes] = field(default_factory=set)
    asked: bool | None = None
    """To commit or to abort; None: neither."""
    is_told: bool = False
    """That it is done."""
    offsets: tuple[int, int] | None = None
    """Of a copier: the input that it read, from and to."""
    inputs: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Incarnation:
    """One start of a producer."""

    producer_id: int = -1
    epoch: int = -1
    sequences: dict[GroupKey, int] = field(default_factory=dict)


class Transactor(Caller):
    """One transactional id, and the producers that have it one after the other."""

    def __init__(self, cluster: Cluster, rng: random.Random, name: str) -> None:
        super().__init__(cluster, rng)
        self.name = name
        self.done: list[Transaction] = []
        """All transactions that were begun."""
        self.starts = 0
        self.is_idle = False
        """The newest producer is in no transaction."""
        self._timeout_ms = rng.choice(TIMEOUTS_MS)
        self._count = 0
        self._crashed = 0
        """The newest producer that has."""
        self._leaders: dict[GroupKey, BrokerId] = {}
        self._start()

    # Lives

    def _start(self) -> None:
        self.starts += 1
        self.is_idle = False
        self._step(self._live(self.starts), [])

    def _step(self, life: Life, answers: list[Any]) -> None:
        try:
            wanted = life.send(answers if answers else None)  # type: ignore[arg-type]
        except StopIteration:
            return
        if isinstance(wanted, float):
            self.world.after(wanted, partial(self._step, life, []))
            return
        found: list[Any] = [None] * len(wanted)
        left = len(wanted)

        def answered(number: int, value: Any) -> None:
            nonlocal left
            found[number] = value
            left -= 1
            if not left:
                self._step(life, found)

        for number, (broker, handler) in enumerate(wanted):
            self.call(broker, handler, partial(answered, number))

    def _live(self, number: int) -> Life:
        """One producer, until it ends, is fenced, or crashes."""
        me = Incarnation()
        try:
            yield from self._init(me)
            self._rests(number)
            yield from self._work(me, number)
        except Crashed:
            return
        except Fenced:
            if number != self.starts:
                return  # a zombie
            if self._timeout_ms == TIMEOUTS_MS[-1]:
                raise Violation("nobody is fenced without a successor", f"{self.name}: {me}") from None
            self._start()

    def _work(self, me: Incarnation, number: int) -> Life:
        while self.cluster.clients_work:
            yield self.rng.uniform(0.01, 0.3)
            if self.rng.random() < BUMPS:
                yield from self._init(me)
            if self.cluster.partitions():
                yield from self._transaction(me, number)

    def _rests(self, number: int, *, is_idle: bool = True) -> None:
        """Whether the newest producer is in no transaction; what zombies do is of no interest."""
        if number == self.starts:
            self.is_idle = is_idle

    def _may_crash(self, number: int) -> Life:
        """The newest producer may crash, and another one start. A zombie was away meanwhile, and goes on."""
        if number != self.starts or number == self._crashed or not self.cluster.clients_work:
            return
        if self.rng.random() >= CRASHES:
            return
        self._crashed = number  # a zombie that is soon back has its successor, which has not started yet
        self.is_idle = False
        self.world.after(self.rng.uniform(0.0, 0.3), self._start)
        if self.rng.random() >= ZOMBIES:
            raise Crashed
        yield self.rng.uniform(0.0, 0.8)

    # Steps

    def _ask_coordinator(self, handler: Handler) -> Generator[float | list[Ask], list[Any], Any]:
        """Until somebody says what came of it."""
        while True:
            (answer,) = yield [(self.cluster.coordinator_hint(self.rng), handler)]
            match answer:
                case Stepped():
                    return answer
                case TransactionError.FENCED:
                    raise Fenced
                case (
                    TransactionError.UNKNOWN_ID
                    | TransactionError.INVALID_REQUEST
                    | TransactionError.TOO_LARGE
                ):
                    raise Violation("transactional producers get on", f"{self.name}: {answer}")
                case TransactionError.WRONG_STATE:
                    return answer
            yield self.rng.uniform(0.01, 0.1)

    def _init(self, me: Incarnation) -> Generator[float | list[Ask], list[Any], None]:
        def handle(node: SimNode, reply: Reply) -> None:
            take = node.real.transactions.init_producer
            node.ask(partial(take, self.name, self._timeout_ms, me.producer_id, me.epoch), reply)

        stepped = yield from self._ask_coordinator(handle)
        if stepped.producer_id == me.producer_id and stepped.epoch <= me.epoch:
            raise Violation("an epoch is given once", f"{self.name}: {stepped}, it had {me.epoch}")
        me.producer_id, me.epoch, me.sequences = stepped.producer_id, stepped.epoch, {}

    def _transaction(self, me: Incarnation, number: int) -> Life:
        transaction = Transaction()
        self.done.append(transaction)
        self._rests(number, is_idle=False)
        partitions = self.cluster.partitions()
        chosen = self.rng.sample(partitions, min(len(partitions), self.rng.randint(1, 3)))
        yield from self._add(me, tuple(chosen))
        for _ in range(self.rng.randint(1, 3)):
            yield from self._may_crash(number)
            at = self.rng.choice(chosen)
            # Who does not know a producer takes any sequence from it (KIP-360): the first goes alone.
            count = self.rng.randint(1, 3) if group_key(*at) in me.sequences else 1
            yield from self._produce(me, transaction, at, count)
        yield from self._may_crash(number)
        yield from self._end(me, transaction, commit=self.rng.random() < COMMITS)
        self._rests(number)

    def _add(
        self, me: Incarnation, partitions: tuple[tuple[bytes, int], ...], group: str | None = None
    ) -> Life:
        def handle(node: SimNode, reply: Reply) -> None:
            add = partial(
                node.real.transactions.add,
                self.name,
                me.producer_id,
                me.epoch,
                partitions=partitions,
                group=group,
            )
            node.ask(add, reply)

        answer = yield from self._ask_coordinator(handle)
        if answer is TransactionError.WRONG_STATE:
            raise Violation("transactional producers get on", f"{self.name}: {answer} to partitions")

    def _values(self, count: int) -> list[bytes]:
        self._count += count
        return [f"{self.name}.{self._count - i}".encode() for i in range(count)]

    def _produce(
        self, me: Incarnation, transaction: Transaction, at: tuple[bytes, int], count: int, *values: bytes
    ) -> Life:
        """Batches that are under way at the same time; each comes again until it is answered for good, or the
        topic is deleted: then a batch may be missing that those behind it would need (seed 2852881768)."""
        key = group_key(*at)
        left: list[tuple[list[bytes], bytes]] = []
        for batch in [list(values)] if values else [self._values(2) for _ in range(count)]:
            transaction.tried.update(batch)
            sequence = me.sequences.get(key, 0)
            me.sequences[key] = sequence + len(batch)
            is_keyed = at[0] in self.cluster.compacted
            keys = [self.rng.choice(KEYS) if is_keyed else None for _ in batch]
            records = [
                NewRecord(self.world.now_ms(), key, value) for key, value in zip(keys, batch, strict=True)
            ]
            data = encode_batch(
                records,
                producer_id=me.producer_id,
                producer_epoch=me.epoch,
                base_sequence=sequence,
                transactional=True,
            )
            left.append((batch, bytes(data)))
        while left and at[0] not in self.cluster.deleted:
            broker = self._leaders.get(key) or self.anyone()
            asked: list[Ask] = [
                (broker, partial(self._handle_produce, at, batch, data)) for batch, data in left
            ]
            answers = yield asked
            left = [
                one
                for one, answer in zip(left, answers, strict=True)
                if not self._is_written(key, broker, transaction, one[0], answer, is_first=one is left[0])
            ]
            if left:
                yield self.rng.uniform(0.01, 0.1)

    def _handle_produce(
        self, at: tuple[bytes, int], values: list[bytes], data: bytes, node: SimNode, reply: Reply
    ) -> None:
        partition, hint = node.partition(*at), node.leader_hint(*at)
        if partition is None:
            reply((ProduceResult(PartitionError.NOT_LEADER), hint))
            return

        def produced(result: ProduceResult) -> None:
            if result.error is None:
                self.cluster.invariants.acknowledged(group_key(*at), result.base_offset, values)
            reply((result, node.leader_hint(*at)))

        verify = partial(self._verify, node, at)
        now, now_ms = self.world.now, node.now_ms()
        partition.producing.produce(
            memoryview(bytearray(data)), now=now, now_ms=now_ms, on_done=produced, verify=verify
        )

    def _verify(self, node: SimNode, at: tuple[bytes, int], producer_id: int, epoch: int, then: Any) -> None:
        node.real.verification.verify(self.name, producer_id, epoch, at, then)

    def _is_written(
        self,
        key: GroupKey,
        broker: BrokerId,
        transaction: Transaction,
        values: list[bytes],
        answer: Any,
        *,
        is_first: bool,
    ) -> bool:
        if answer is Timeout:
            self._leaders.pop(key, None)
            return False
        result, hint = answer
        match result.error:
            case None:
                transaction.values.setdefault(key, []).extend(values)
                self._leaders[key] = broker
                return True
            case PartitionError.NOT_LEADER | PartitionError.MAY_STILL_HAPPEN:
                self._leaders.pop(key, None)
                if hint is not None and hint != broker:
                    self._leaders[key] = hint
                return False
            case PartitionError.OVERLOADED | PartitionError.STORAGE_FAILED | PartitionError.UNVERIFIED:
                return False
            case PartitionError.OUT_OF_SEQUENCE if not is_first:
                return False
            case PartitionError.STALE_PRODUCER_EPOCH | PartitionError.NOT_IN_TRANSACTION:
                raise Fenced  # its transaction was aborted meanwhile
            case error:
                raise Violation("transactional producers get on", f"{self.name}: {error} {result.message}")

    def _end(self, me: Incarnation, transaction: Transaction, *, commit: bool) -> Life:
        transaction.asked = commit

        def handle(node: SimNode, reply: Reply) -> None:
            end = partial(node.real.transactions.end, self.name, me.producer_id, me.epoch, commit=commit)
            node.ask(end, reply)

        answer = yield from self._ask_coordinator(handle)
        if not isinstance(answer, Stepped):
            raise Violation("transactional producers get on", f"{self.name}: {answer} to its end")
        transaction.is_told = True

    # At the end

    def check(self) -> None:
        """What was told is what readers see."""
        for transaction in self.done:
            seen, missing = self.seen(transaction)
            if transaction.asked is not True:
                seen = [value for value in transaction.tried if self._is_seen_anywhere(value)]
            if seen and transaction.asked is not True:
                raise Violation("nothing aborted is read", f"{self.name}: {seen[:3]}, {transaction.asked}")
            if missing and (seen or (transaction.is_told and transaction.asked)):
                raise Violation(
                    "a transaction is seen whole or not at all",
                    f"{self.name}: {seen[:3]} without {missing[:3]}",
                )

    def _is_seen_anywhere(self, value: bytes) -> bool:
        """Although nobody was told of it."""
        for ledger in self.cluster.invariants.ledgers.values():
            offset = ledger.values.get(value)
            if offset is not None and ledger.fates is not None and ledger.fates.visible[offset]:
                return not ledger.is_deleted
        return False

    def seen(self, transaction: Transaction) -> tuple[list[bytes], list[bytes]]:
        """Of the values that were acknowledged: what a reader of what is committed sees, and the others."""
        seen, missing = list[bytes](), list[bytes]()
        for key, values in transaction.values.items():
            ledger = self.cluster.invariants.ledgers[key]
            if ledger.is_deleted:
                continue
            assert ledger.fates is not None
            for value in values:
                is_seen = ledger.fates.visible[ledger.values[value]]
                (seen if is_seen else missing).append(value)
        return seen, missing
