"""Transactions: producers of two libraries whose transactions span partitions, some of which they abort, and
copiers that read what others send, in a group, and write each record once more (consume, transform, produce).
Readers see what is committed."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import trio
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from chaos.history import Commit, Outcome, Send, Transaction
from chaos.values import value_of
from chaos.workloads.consumers import ConfluentReader, TrioReader
from chaos.workloads.producers import CONFLUENT, GIVE_UP_MS, TRIO, ConfluentProducer
from chaos.workloads.worker import Target, TrioWorker, Worker
from chaos.workloads.workload import Site, Workload
from raftlog import (
    ClientError,
    ProducerFailed,
    ProducerFenced,
    TransactionAborted,
    exactly_once,
)

SOURCE: Final = "source"
TARGET: Final = "target"
GROUP: Final = "copiers"
PARTITIONS: Final = 2
RECORDS_MAX: Final = 6
"""Of one transaction."""
ABORTS: Final = 0.25
TRANSACTION_MS: Final = 30_000
"""After which a coordinator aborts what its producer left: shorter than a copier is waited for in the end."""
SESSION_MS: Final = 6_000
ENDS_S: Final = 60.0


class Scribe:
    """Enters transactions and their records: how a record ended is how its transaction did."""

    def __init__(self, name: str, target: Target) -> None:
        self.name, self.target = name, target
        self._rng = random.Random(name)
        self._numbers = itertools.count()

    def begin(self) -> Transaction:
        return self.target.history.begin(
            Transaction(client=self.name, log=self.target.name, is_commit=self._rng.random() >= ABORTS)
        )

    def count(self) -> int:
        return self._rng.randint(1, RECORDS_MAX)

    def send(self, transaction: Transaction) -> tuple[Send, bytes]:
        number = next(self._numbers)
        value = f"{self.name}:{number}"
        send = Send(client=self.name, log=self.target.name, partition=number % PARTITIONS, value=value)
        transaction.values.append(value)
        return self.target.history.begin(send), value_of(value)

    def end(self, transaction: Transaction, sends: Sequence[Send], outcome: Outcome, why: str = "") -> None:
        """`outcome`: of what it asked for. Records of an abort that was answered surely did not happen."""
        history = self.target.history
        history.end(transaction, outcome, why)
        of_sends = outcome if transaction.is_commit or outcome is Outcome.UNKNOWN else Outcome.FAILED
        for send in sends:
            history.end(send, of_sends, why)


class ConfluentTransactions(Worker):
    """confluent-kafka. A producer that may not go on is replaced by another with its transactional id."""

    def __init__(self, name: str, target: Target, rate: float) -> None:
        super().__init__(name, target.history)
        self._target, self._pause = target, RECORDS_MAX / 2 / rate
        self._scribe = Scribe(name, target)

    def work(self) -> None:
        producer = self._started()
        while not self.stopping.wait(self._pause) and producer is not None:
            if not self._transaction(producer):
                producer = self._started()

    def _started(self) -> Producer | None:
        producer = Producer(
            {
                **self._target.access.librdkafka(),
                "transactional.id": self.name,
                "transaction.timeout.ms": TRANSACTION_MS,
                "linger.ms": 2,
                **CONFLUENT,
            }
        )
        while not self.stopping.is_set():
            try:
                producer.init_transactions(ENDS_S)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
            else:
                return producer
        return None

    def _transaction(self, producer: Producer) -> bool:
        """Whether the producer may go on."""
        producer.begin_transaction()
        transaction = self._scribe.begin()
        sends = []
        for _ in range(self._scribe.count()):
            send, value = self._scribe.send(transaction)
            sends.append(send)
            place: dict[str, Any] = {"partition": send.partition, "on_delivery": _noting(send)}
            producer.produce(self._target.topic, value, **place)
        return self._ended(producer, transaction, sends)

    def _ended(self, producer: Producer, transaction: Transaction, sends: list[Send]) -> bool:
        """A commit that timed out is asked for again, until it is known."""
        deadline, is_asked = time.monotonic() + ENDS_S, False
        act = producer.commit_transaction if transaction.is_commit else producer.abort_transaction
        while time.monotonic() < deadline:
            try:
                act(5)
            except KafkaException as error:
                told = error.args[0]
                is_asked = True
                if told.retriable():
                    continue
                if told.txn_requires_abort() and transaction.is_commit:
                    return self._given_up(producer, transaction, sends, str(error))
                self._scribe.end(transaction, sends, Outcome.UNKNOWN, str(error))
                return False
            self._scribe.end(transaction, sends, Outcome.OK)
            return True
        self._scribe.end(transaction, sends, Outcome.UNKNOWN, f"asked {is_asked}")
        return False

    def _given_up(self, producer: Producer, transaction: Transaction, sends: list[Send], why: str) -> bool:
        """librdkafka also says so of a commit that may have happened, so nothing is known of it."""
        self._scribe.end(transaction, sends, Outcome.UNKNOWN, why)
        try:
            producer.abort_transaction(ENDS_S)
        except KafkaException:
            return False
        return True


def _noting(send: Send) -> Callable[[KafkaError | None, Message], None]:
    def note(error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        if error is None and offset is not None:
            send.offset = offset

    return note


class _Abort(Exception):
    """Leaves a transaction, so that it is aborted."""


class TrioTransactions(TrioWorker):
    """raftlog's own client."""

    def __init__(self, name: str, target: Target, rate: float) -> None:
        super().__init__(name, target.history)
        self._target, self._pause = target, RECORDS_MAX / 2 / rate
        self._scribe = Scribe(name, target)

    async def run(self) -> None:
        async with self._target.access.open_client(client_id=self.name, **TRIO) as client:
            while not self.stopping.is_set():
                try:
                    async with client.producer(**_settings(self.name)) as producer:
                        await self._produce(producer)
                except (ProducerFenced, ProducerFailed):
                    pass  # what became of its transaction is entered; another producer takes over

    async def _produce(self, producer: Any) -> None:
        while not self.stopping.is_set():
            await trio.sleep(self._pause)
            await self._transaction(producer)

    async def _transaction(self, producer: Any) -> None:
        transaction, sends = self._scribe.begin(), list[Send]()
        try:
            async with producer.transaction():
                waiting = []
                for _ in range(self._scribe.count()):
                    send, value = self._scribe.send(transaction)
                    sends.append(send)
                    waiting.append(
                        await producer.send_soon(self._target.topic, value, partition=send.partition)
                    )
                for send, delivery in zip(sends, waiting, strict=True):
                    send.offset = (await delivery).offset
                if not transaction.is_commit:
                    raise _Abort
        except _Abort:
            self._scribe.end(transaction, sends, Outcome.OK)
        except TransactionAborted as error:
            transaction.is_commit = False  # the client says that it surely is not committed
            self._scribe.end(transaction, sends, Outcome.OK, repr(error))
        except ClientError as error:
            self._scribe.end(transaction, sends, Outcome.UNKNOWN, repr(error))
            if isinstance(error, ProducerFenced | ProducerFailed):
                raise
        else:
            self._scribe.end(transaction, sends, Outcome.OK)


class Copier(TrioWorker):
    """Copies what the source gets into the target, with `exactly_once`."""

    def __init__(self, name: str, source: Target, target: Target) -> None:
        super().__init__(name, target.history)
        self._source, self._target = source, target
        self._scribe = Scribe(name, target)

    async def run(self) -> None:
        async with self._target.access.open_client(client_id=self.name, **TRIO) as client:
            while not self.stopping.is_set():
                try:
                    async with (
                        client.consumer(
                            self._source.topic,
                            group=GROUP,
                            auto_offset_reset="earliest",
                            enable_auto_commit=False,
                            isolation_level="read_committed",
                            session_timeout_ms=SESSION_MS,
                            heartbeat_interval_ms=500,
                            fetch_max_wait_ms=100,
                        ) as consumer,
                        client.producer(**_settings(self.name)) as producer,
                    ):
                        await self._copy(exactly_once(consumer, producer, max_wait_ms=200), producer)
                except (ProducerFenced, ProducerFailed):
                    pass  # another one takes over

    async def _copy(self, batches: Any, producer: Any) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, scope)
                async for batch in batches:
                    transaction, sends = self._scribe.begin(), list[Send]()
                    transaction.is_commit, transaction.source = True, self._source.name
                    try:
                        async with batch as records:
                            for record in records:
                                send, value = self._scribe.send(transaction)
                                transaction.inputs.append((record.partition, record.offset))
                                sends.append(send)
                                await producer.send_soon(self._target.topic, value, partition=send.partition)
                    finally:
                        # `exactly_once` finds out by itself; who only looks cannot tell here.
                        self._scribe.end(transaction, sends, Outcome.UNKNOWN)
                        self._commits(transaction)
                    if self.stopping.is_set():
                        return

    def _commits(self, transaction: Transaction) -> None:
        """The offsets that were to be committed with the copies."""
        for partition, offset in dict(sorted(transaction.inputs)).items():
            commit = Commit(
                client=self.name, group=GROUP, log=self._source.name, partition=partition, offset=offset + 1
            )
            self.history.end(self.history.begin(commit), Outcome.UNKNOWN)

    async def _watch(self, scope: trio.CancelScope) -> None:
        """A batch may not come for long once nobody produces any more."""
        while not self.stopping.is_set():  # noqa: ASYNC110, it is another thread's
            await trio.sleep(0.1)
        scope.cancel()


def _settings(name: str) -> dict[str, Any]:
    return {
        "transactional_id": name,
        "transaction_timeout_ms": TRANSACTION_MS,
        "delivery_timeout_ms": GIVE_UP_MS,
        "linger_ms": 2,
    }


class _End(Worker):
    """Sends a record to each partition of the target at last: readers of what is committed hear of a marker
    only by what comes behind."""

    def __init__(self, target: Target) -> None:
        super().__init__("end", target.history)
        self._target = target

    def work(self) -> None:
        producer = ConfluentProducer("end", self._target, 50.0)
        producer.start()
        deadline = time.monotonic() + ENDS_S
        while self.history.acknowledged["end"] < 2 * PARTITIONS and time.monotonic() < deadline:
            time.sleep(0.05)
        producer.stopping.set()
        producer.join(ENDS_S)


class TransactionWorkload(Workload):
    topics: ClassVar = {TARGET: PARTITIONS, SOURCE: PARTITIONS}
    groups: ClassVar = {GROUP: SOURCE}
    producers: ClassVar = {"confluent": True, "txn-confluent": True, "txn-trio": True}
    sparse: ClassVar = (TARGET,)

    def make_producers(self, site: Site) -> Sequence[Worker]:
        source, target, share = site.target(SOURCE), site.target(TARGET), site.rate / 3
        return (
            ConfluentProducer("confluent", source, share),
            ConfluentTransactions("txn-confluent", target, share),
            TrioTransactions("txn-trio", target, share),
        )

    def make_others(self, site: Site) -> Sequence[Worker]:
        source, target = site.target(SOURCE), site.target(TARGET)
        return (
            Copier("copier-a", source, target),
            Copier("copier-b", source, target),
            ConfluentReader("confluent-reader", target),
            TrioReader("trio-reader", target, isolation="read_committed"),
        )

    def stop(self) -> None:
        super().stop()
        end = _End(self.site.target(TARGET))
        end.start()
        end.join(2 * ENDS_S)
