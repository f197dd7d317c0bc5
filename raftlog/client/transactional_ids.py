"""What operators ask about transactions: which there are, what they are doing, and that one ends.

The calls are Kafka's own. Every broker is asked: only a coordinator knows, and who that is differs by id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import trio

from raftlog.client.arguments import checked
from raftlog.client.errors import broker_error, raise_error_in
from raftlog.client.metadata import TopicPartition
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import Fields
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.schema import milliseconds, timestamp_ms

T = TypeVar("T")

ABORT_TIMEOUT_MS: Final = 60_000
"""The time-out that an id gets when it is taken over: nothing is begun under it."""
TRIES_MAX: Final = 10
RETRY_S: Final = 0.2
"""How often an abort is asked for while the markers of the transaction before are being written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionListing:
    """A transactional id. `state` is Kafka's: Empty, Ongoing, PrepareCommit, CompleteCommit …"""

    id: str
    producer_id: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionDescription:
    """What a transactional id is doing. Times are milliseconds; `started_ms` is None outside of a
    transaction."""

    id: str
    state: str
    producer_id: int
    producer_epoch: int
    timeout_ms: int
    started_ms: int | None
    coordinator: int
    partitions: tuple[TopicPartition, ...]
    """Those of the transaction that may still wait for its end."""


class Asker(Protocol):
    """Asks a broker, and again while an error may pass: `raftlog.client.admin.Admin` does."""

    async def ask_broker(self, broker: int, api: ApiKey, fields: Fields, what: str) -> Any: ...
    async def retrying(self, attempt: Callable[[], Awaitable[T]], what: str) -> T: ...


@checked()
class TransactionalIds:
    """Made by `Operations.transactions`. Errors and cancellation are those of `Admin`: a call that is
    cancelled may have taken effect."""

    def __init__(self, asker: Asker, live_brokers: Callable[[], Awaitable[list[int]]]) -> None:
        self._asker = asker
        self._live_brokers = live_brokers

    def __repr__(self) -> str:
        return f"<TransactionalIds of {self._asker!r}>"

    async def listed(self, state: str | None = None) -> list[TransactionListing]:
        """All transactional ids, or those in a state, by name."""
        fields = {
            "state_filters": [] if state is None else [state],
            "producer_id_filters": [],
            "duration_filter": -1,
        }

        async def attempt() -> list[TransactionListing]:
            found = {}
            for broker in await self._live_brokers():
                answer = await self._asker.ask_broker(
                    broker, ApiKey.LIST_TRANSACTIONS, fields, "transactions"
                )
                raise_error_in(answer, "transactions")
                if answer.unknown_state_filters:
                    raise ValueError(f"there is no state {state!r} of a transaction")
                for one in answer.transaction_states:
                    name = str(one.transactional_id)
                    found[name] = TransactionListing(
                        id=name, producer_id=int(one.producer_id), state=one.transaction_state
                    )
            return [found[name] for name in sorted(found)]

        return await self._asker.retrying(attempt, "transactions")

    async def describe(self, transactional_id: str) -> TransactionDescription | None:
        """None when its coordinator does not know the id."""
        what = f"transactional id {transactional_id!r}"
        return await self._asker.retrying(lambda: self._described(transactional_id, what), what)

    async def _described(self, transactional_id: str, what: str) -> TransactionDescription | None:
        fields = {"transactional_ids": [transactional_id]}
        is_unknown = False
        for broker in await self._live_brokers():
            answer = await self._asker.ask_broker(
                broker, ApiKey.DESCRIBE_TRANSACTIONS, fields, transactional_id
            )
            (one,) = answer.transaction_states
            code = ErrorCode.of(int(one.error_code))
            if code is ErrorCode.NONE:
                return _description(broker, one)
            if code is ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:
                is_unknown = True
            elif not code.retriable:
                raise_error_in(one, what)
        if not is_unknown:
            raise broker_error(ErrorCode.COORDINATOR_NOT_AVAILABLE, what)
        return None

    async def abort(self, transactional_id: str) -> bool:
        """Abort what is open under the id, and fence its producer: it is taken over, as by a producer that
        starts anew. Returns when the transaction is aborted. False when nobody knows the id."""
        known = await self.describe(transactional_id)
        if known is None:
            return False
        fields = {
            "transactional_id": transactional_id,
            "transaction_timeout": ABORT_TIMEOUT_MS,
            "producer_id": -1,
            "producer_epoch": -1,
        }
        for _ in range(TRIES_MAX):
            answer = await self._asker.ask_broker(
                known.coordinator, ApiKey.INIT_PRODUCER_ID, fields, transactional_id
            )
            if int(answer.error_code) != ErrorCode.CONCURRENT_TRANSACTIONS:
                break
            await trio.sleep(RETRY_S)
        raise_error_in(answer, f"transactional id {transactional_id!r}")
        return True


def _description(coordinator: int, one: Any) -> TransactionDescription:
    started_ms = timestamp_ms(one.transaction_start_time)
    return TransactionDescription(
        id=one.transactional_id,
        state=one.transaction_state,
        producer_id=int(one.producer_id),
        producer_epoch=int(one.producer_epoch),
        timeout_ms=milliseconds(one.transaction_timeout),
        started_ms=None if started_ms < 0 else started_ms,
        coordinator=coordinator,
        partitions=tuple(
            TopicPartition(topic.topic, number) for topic in one.topics for number in topic.partitions
        ),
    )
