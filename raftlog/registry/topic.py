"""The topic `_schemas`: read into the state, and written by one registry at a time.

What is decided rests on what the log holds: an id is one more than the largest. So a registry that is to
write becomes the writer first. Writing is done in transactions, of one transactional id for all registries of
the topic: the broker lets the newest producer of that id write, and fences the one before (KIP-98). A
registry that is fenced becomes the writer anew, reads what the other has written meanwhile, and decides
again. A registry that was not fenced has read the whole log, since it also reads its own records. No
id is given twice, and no registry needs to know of another.

The state changes by what is read alone, so that a change counts when it is committed.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import trio

from raftlog.client.client import Client
from raftlog.client.consumer import Consumer
from raftlog.client.errors import (
    BrokerError,
    ClientError,
    CommitUnknown,
    ProducerFailed,
    RecordTooLarge,
    RequestTimedOut,
    TransactionAborted,
)
from raftlog.client.metadata import TopicPartition
from raftlog.client.producer import Producer
from raftlog.errors import RaftlogError
from raftlog.registry.records import Entry, NoEntry, decode, encode
from raftlog.registry.state import State

TOPIC: Final = "_schemas"
REPLICAS: Final = 3
"""Of the topic, where there are so many brokers."""
READ_S: Final = 10.0
"""How long a look at the end of the log may take, and a change."""
LOAD_S: Final = 600.0
ATTEMPTS_MAX: Final = 20
"""Of a change, while other registries write as well."""
PAUSE_S: Final = 0.05
PAUSE_MAX_S: Final = 1.0
"""Between two of them, by chance, so that they part: at most so long, which is doubled each time."""
FENCED: Final = ("INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED")
"""What the brokers call a producer that is no longer the newest."""
WAITING_MAX: Final = 64
"""Changes that wait for their turn."""
MARKER_POLL_S: Final = 0.01
"""What is no record, as the end of a transaction, moves the position and wakes nobody."""
RECORD_BYTES_MAX: Final = 4 << 20
"""What this registry sends; the topic's max.message.bytes decides."""

T = TypeVar("T")
Commit = Callable[[list[Entry]], Awaitable[None]]
"""Writes entries, all or none, and returns when the state has them."""

log = logging.getLogger("raftlog.registry")


class TopicUnfit(RaftlogError):
    """The topic is there and would lose schemas, or the state lost it."""


class NotStored(RaftlogError):
    """A change was not made."""


class TooLarge(NotStored):
    """The brokers take no record of that size."""


class Unknown(NotStored):
    """A change may have been made or not: the brokers did not answer."""


@dataclass(slots=True)
class _Change(Generic[T]):
    """A decision that waits for its turn."""

    decide: Callable[[Commit], Awaitable[T]]
    done: trio.Event = field(default_factory=trio.Event)
    result: Any = None
    error: Exception | None = None
    attempts: int = 0
    given_up: bool = False

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done.set()


class SchemasTopic:
    """Made by `open_topic`."""

    def __init__(self, client: Client, consumer: Consumer[Any, Any], name: str) -> None:
        self.state = State()
        self.passed_over = 0
        """Records that say nothing that is known here."""
        self._client = client
        self._consumer = consumer
        self._name = name
        self._partition = TopicPartition(name, 0)
        self._moved = trio.Event()
        self._changes, self._next = trio.open_memory_channel[_Change[Any]](WAITING_MAX)
        self._rng = random.Random()

    def __repr__(self) -> str:
        return f"<SchemasTopic {self._name} {self.state!r}>"

    async def run(self) -> None:
        """Read and write until cancelled. Raises TopicUnfit, ClientError when the topic cannot be read any
        more: what is served then would be old for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_reading)
            nursery.start_soon(self._keep_writing)

    # -- reading

    @property
    def _position(self) -> int:
        return self._consumer.positions().get(self._partition, 0)

    async def catch_up(self, seconds: float = READ_S) -> None:
        """Until the state holds all that was committed before the call. Raises Unknown when that takes too
        long."""
        with trio.move_on_after(seconds):
            try:
                ends = await self._consumer.end_offsets(self._partition)
            except ClientError as error:
                raise Unknown(f"the end of {self._name} is not known: {error}") from error
            await self._reach(ends[self._partition])
            return
        raise Unknown(f"{self._name} could not be read up to its end within {seconds:g} s")

    async def _reach(self, offset: int) -> None:
        while self._position < offset:
            with trio.move_on_after(MARKER_POLL_S):
                await self._moved.wait()

    async def _keep_reading(self) -> None:
        async for records in self._consumer.batches(max_wait_ms=0):
            for record in records:
                try:
                    self.state.apply(decode(record.key, record.value))
                except NoEntry as error:
                    self.passed_over += 1
                    log.warning(
                        "%s at offset %d says nothing that is known: %s", self._name, record.offset, error
                    )
            self._moved.set()
            self._moved = trio.Event()

    # -- writing

    async def change(self, decide: Callable[[Commit], Awaitable[T]]) -> T:
        """Have something decided while nobody else writes. `decide` looks at the state and commits, or does
        not; it may be called again when another registry has written meanwhile. What it returns is returned,
        what it raises is raised. Raises NotStored; cancelled, the change may be made or not."""
        change = _Change(decide)
        try:
            with trio.fail_after(READ_S):
                await self._changes.send(change)
        except trio.TooSlowError as error:
            raise NotStored("too many changes wait already") from error
        try:
            await change.done.wait()
        finally:
            change.given_up = True
        if change.error is not None:
            raise change.error
        return change.result  # type: ignore[no-any-return]

    async def _keep_writing(self) -> None:
        change: _Change[Any] | None = None
        while True:
            if change is None:
                change = await self._next.receive()
            try:
                async with self._client.producer(
                    transactional_id=f"raftlog-registry-{self._name}",
                    max_block_ms=READ_S * 1000,
                    delivery_timeout_ms=READ_S * 1000,
                    transaction_timeout_ms=int(READ_S * 1000),
                    max_request_size=RECORD_BYTES_MAX,
                ) as producer:
                    await self.catch_up()
                    while True:
                        await self._make(change, producer)
                        change = None
                        change = await self._next.receive()
            except (ClientError, NotStored) as error:
                if change is None or change.done.is_set():
                    change = None
                    continue
                change.attempts += 1
                if not _is_fenced(error) or change.attempts == ATTEMPTS_MAX:
                    change.fail(NotStored(f"{self._name} cannot be written: {error}"))
                    change = None
                    continue
                pause = min(PAUSE_MAX_S, PAUSE_S * 2**change.attempts)
                await trio.sleep(self._rng.uniform(0, pause))

    async def _make(self, change: _Change[Any], producer: Producer[Any, Any]) -> None:
        """Raises ClientError when the producer is of no more use; the change has failed if it is done."""
        if change.given_up:
            change.done.set()
            return

        async def commit(entries: list[Entry]) -> None:
            last = -1
            try:
                async with producer.transaction():
                    records = [encode(entry) for entry in entries]
                    sent = [await producer.send_soon(self._name, value, key=key) for key, value in records]
                    for delivery in sent:
                        last = max(last, (await delivery).offset)
            except RecordTooLarge as error:
                raise TooLarge(f"the brokers take no record of this size: {error}") from error
            except (CommitUnknown, RequestTimedOut) as error:
                raise Unknown(f"the brokers did not answer: it may be stored or not: {error}") from error
            with trio.move_on_after(READ_S):
                await self._reach(last + 1)
                return
            raise Unknown(f"it is stored, but was not read from {self._name} within {READ_S:g} s")

        try:
            change.result = await change.decide(commit)
            change.done.set()
        except ClientError:
            raise
        except Exception as error:
            change.fail(error)
            if isinstance(error, Unknown):
                raise


def _is_fenced(error: BaseException | None) -> bool:
    """Whether nothing was written because another producer has taken over, or the transaction was aborted."""
    match error:
        case None:
            return False
        case ProducerFailed() | TransactionAborted():
            return True
        case BrokerError() if error.code.name in FENCED:
            return True
    return _is_fenced(error.__cause__)


@asynccontextmanager
async def open_topic(client: Client, name: str, replicas: int = REPLICAS) -> AsyncIterator[SchemasTopic]:
    """The topic, made if need be, and read up to its end. Raises TopicUnfit, ClientError; what goes wrong
    with it later comes out of the `async with`."""
    await _ensure(client, name, replicas)
    async with client.consumer(
        partitions=[(name, 0)], isolation_level="read_committed", auto_offset_reset="none"
    ) as consumer:
        consumer.seek_to_beginning()
        topic = SchemasTopic(client, consumer, name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(topic.run)
            await topic.catch_up(LOAD_S)
            yield topic
            nursery.cancel_scope.cancel()


async def _ensure(client: Client, name: str, replicas: int) -> None:
    admin = client.admin
    brokers = len((await admin.describe_cluster()).brokers)
    await admin.create_topic(
        name,
        partitions=1,
        replication_factor=max(1, min(replicas, brokers)),
        configs={"cleanup.policy": "compact"},
        exist_ok=True,
    )
    partitions = len((await admin.describe_topic(name)).partitions)
    if partitions != 1:
        raise TopicUnfit(f"{name} has {partitions} partitions; the order of schemas needs a topic with one")
    policy = (await admin.describe_configs(topic=name))["cleanup.policy"].value or ""
    if policy.replace(" ", "") != "compact":
        raise TopicUnfit(
            f"{name} has cleanup.policy={policy}, which deletes old schemas: `raftlog topic alter {name}"
            " --config cleanup.policy=compact`, or another topic by --topic"
        )
