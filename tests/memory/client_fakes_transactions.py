"""The transactional half of the scripted cluster: a coordinator by the first version of the protocol.

It is strict where Kafka is: a record outside of a transaction that has its partition is refused, so is an
older epoch, so is an end that contradicts the last one. Markers are written at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raftlog.partition.markers import Marker, encode_marker
from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from tests.memory.client_fakes import FakeLog

Fields = dict[str, Any]
Key = tuple[str, int]

SERVED = frozenset(
    (
        ApiKey.ADD_PARTITIONS_TO_TXN, ApiKey.ADD_OFFSETS_TO_TXN, ApiKey.TXN_OFFSET_COMMIT, ApiKey.END_TXN,
        ApiKey.LIST_TRANSACTIONS, ApiKey.DESCRIBE_TRANSACTIONS,
    )
)  # fmt: skip


@dataclass
class FakeTransaction:
    """What the coordinator knows of a transactional id."""

    producer_id: int
    epoch: int = 0
    last_epoch: int = -1
    state: str = "Empty"
    partitions: set[Key] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    pending: dict[Key, int] = field(default_factory=dict)


class FakeTransactions:
    """What a transactional producer asks; `FakeCluster` is one."""

    logs: dict[Key, FakeLog]
    committed: dict[Key, int]
    coordinator: int
    generation: int
    member: str | None
    producers: int
    transactions: dict[str, FakeTransaction]
    _coordinates: Callable[[int, ErrorCode], ErrorCode]

    def unstable(self) -> set[Key]:
        """Partitions with offsets of which nobody knows whether they count."""
        return {key for one in self.transactions.values() for key in one.pending}

    def fence(self, name: str) -> None:
        """The transaction's time is over."""
        one = self.transactions[name]
        one.last_epoch, one.epoch = -1, one.epoch + 1
        self._finish(one, commit=False)

    def initialize(self, message: Any) -> tuple[ErrorCode, int, int]:
        """InitProducerId of a transactional id."""
        one = self.transactions.get(message.transactional_id)
        if one is None:
            self.producers += 1
            one = self.transactions[message.transactional_id] = FakeTransaction(self.producers)
            return ErrorCode.NONE, one.producer_id, one.epoch
        asked = getattr(message, "producer_epoch", -1)
        if asked >= 0 and asked not in (one.epoch, one.last_epoch):
            return ErrorCode.PRODUCER_FENCED, -1, -1
        if not (asked >= 0 and asked == one.last_epoch):
            if one.state == "Ongoing":
                one.epoch += 1
                self._finish(one, commit=False)
            one.last_epoch, one.epoch, one.state = asked, one.epoch + 1, "Empty"
        return ErrorCode.NONE, one.producer_id, one.epoch

    def _refuses(self, broker: int, message: Any, error: ErrorCode) -> ErrorCode:
        code = self._coordinates(broker, error)
        if code:
            return code
        name = getattr(message, "transactional_id", None) or message.v3_and_below_transactional_id
        one = self.transactions.get(name)
        if one is None or one.producer_id != self._of(message, "producer_id"):
            return ErrorCode.INVALID_PRODUCER_ID_MAPPING
        if one.epoch != self._of(message, "producer_epoch"):
            return ErrorCode.PRODUCER_FENCED
        return ErrorCode.NONE

    @staticmethod
    def _of(message: Any, name: str) -> int:
        value = getattr(message, name, None)
        return int(getattr(message, f"v3_and_below_{name}") if value is None else value)

    async def _add_partitions_to_txn(
        self, broker: int, message: Any, error: ErrorCode, version: int
    ) -> Fields:
        code = self._refuses(broker, message, error)
        results = []
        for topic in message.v3_and_below_topics:
            if not code:
                one = self.transactions[message.v3_and_below_transactional_id]
                one.state = "Ongoing"
                one.partitions |= {(str(topic.name), int(number)) for number in topic.partitions}
            rows = [
                {"partition_index": int(number), "partition_error_code": code} for number in topic.partitions
            ]
            results.append({"name": str(topic.name), "results_by_partition": rows})
        return {"results_by_topic_v3_and_below": results}

    async def _add_offsets_to_txn(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        code = self._refuses(broker, message, error)
        if not code:
            one = self.transactions[message.transactional_id]
            one.state = "Ongoing"
            one.groups.add(str(message.group_id))
        return {"error_code": code}

    async def _txn_offset_commit(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        code = self._refuses(broker, message, error)
        one = self.transactions[message.transactional_id]
        if not code and str(message.group_id) not in one.groups:
            code = ErrorCode.INVALID_TXN_STATE
        elif not code and message.member_id != self.member:
            code = ErrorCode.UNKNOWN_MEMBER_ID
        elif not code and message.generation_id != self.generation:
            code = ErrorCode.ILLEGAL_GENERATION
        topics = []
        for topic in message.topics:
            rows = []
            for part in topic.partitions:
                if not code:
                    one.pending[str(topic.name), int(part.partition_index)] = int(part.committed_offset)
                rows.append({"partition_index": int(part.partition_index), "error_code": code})
            topics.append({"name": str(topic.name), "partitions": rows})
        return {"topics": topics}

    async def _end_txn(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        code = self._refuses(broker, message, error)
        if code:
            return {"error_code": code}
        one = self.transactions[message.transactional_id]
        if one.state == "Ongoing":
            self._finish(one, commit=bool(message.committed))
        elif one.state != ("Committed" if message.committed else "Aborted"):
            return {"error_code": ErrorCode.INVALID_TXN_STATE}
        return {"error_code": ErrorCode.NONE}

    async def _list_transactions(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        known = self.transactions if not error and broker == self.coordinator else {}
        rows = [
            {"transactional_id": name, "producer_id": one.producer_id, "transaction_state": one.state}
            for name, one in known.items()
        ]
        return {"error_code": error, "unknown_state_filters": [], "transaction_states": rows}

    async def _describe_transactions(
        self, broker: int, message: Any, error: ErrorCode, version: int
    ) -> Fields:
        (name,) = message.transactional_ids
        code = self._coordinates(broker, error)
        one = self.transactions.get(name)
        if not code and one is None:
            code = ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
        one = one or FakeTransaction(-1)
        row = {
            "error_code": code, "transactional_id": name, "transaction_state": one.state,
            "transaction_timeout": 1000, "transaction_start_time": 0, "producer_id": one.producer_id,
            "producer_epoch": one.epoch, "topics": [],
        }  # fmt: skip
        return {"transaction_states": [row]}

    def _finish(self, one: FakeTransaction, *, commit: bool) -> None:
        for key in sorted(one.partitions):
            self.logs[key].end_transaction(
                encode_marker(Marker(one.producer_id, one.epoch, commit, 1, 0), 0), one.producer_id, commit
            )
        if commit:
            self.committed.update(one.pending)
        one.state = "Committed" if commit else "Aborted"
        one.partitions.clear()
        one.groups.clear()
        one.pending.clear()

    def not_in_transaction(self, key: Key, producer_id: int) -> bool:
        """Whether a transactional batch to a partition belongs to no transaction."""
        return not any(
            one.producer_id == producer_id and key in one.partitions for one in self.transactions.values()
        )
