"""What a partition is asked and answers, in plain values, and the settings that it acts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from raftlog.partition.aborted import AbortedTransaction
from raftlog.storage.segment_reader import Slice
from raftlog.types import Offset

EARLIEST: Final = -2
LATEST: Final = -1
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
"""The timestamps that ListOffsets gives a meaning of their own (KIP-734, KIP-405)."""


class PartitionError(Enum):
    """Why a partition refused. The broker maps each to one Kafka error code."""

    NOT_LEADER = auto()
    MAY_STILL_HAPPEN = auto()
    STORAGE_FAILED = auto()
    CORRUPT_BATCH = auto()
    UNSUPPORTED_BATCH = auto()
    INVALID_RECORD = auto()
    BATCH_TOO_LARGE = auto()
    INVALID_TIMESTAMP = auto()
    OUT_OF_SEQUENCE = auto()
    STALE_PRODUCER_EPOCH = auto()
    OFFSET_OUT_OF_RANGE = auto()
    OFFSET_NOT_AVAILABLE = auto()
    FENCED_LEADER_EPOCH = auto()
    UNKNOWN_LEADER_EPOCH = auto()
    OVERLOADED = auto()
    NO_TRANSACTIONAL_ID = auto()
    """A transactional batch in a request that names no transactional id."""
    NOT_IN_TRANSACTION = auto()
    """The partition is not in an open transaction of the producer, or the batch is outside of one that is."""
    WRONG_PRODUCER_ID = auto()
    """The transactional id is another producer's, or nobody's."""
    OFFSET_MISMATCH = auto()
    """The log does not end where the batch was to begin; the answer says where it does."""
    UNVERIFIED = auto()
    """The coordinator could not be asked; nothing was appended."""


class ProduceResult(NamedTuple):
    """The answer to one batch. Offsets are -1 with an error, but for OFFSET_MISMATCH, whose base offset is
    the log's end; `append_time` is -1 under CreateTime."""

    error: PartitionError | None
    base_offset: int = -1
    append_time: int = -1
    log_start_offset: int = -1
    message: str | None = None
    keyless: Sequence[int] = ()
    """The places in the batch of records without the key that they need."""


class FetchResult(NamedTuple):
    """A byte range of a segment, or an error; no slice means that there is nothing to read yet."""

    error: PartitionError | None
    slice: Slice | None
    high_watermark: Offset
    log_start_offset: Offset
    last_stable_offset: Offset = Offset(-1)
    aborted: Sequence[AbortedTransaction] = ()
    """For a reader of what is committed: whose records in the slice do not count."""


class ActiveProducer(NamedTuple):
    """A producer as a partition knows it: what DescribeProducers tells. -1 where there is nothing to tell."""

    producer_id: int
    epoch: int
    last_sequence: int
    last_used_ms: int
    coordinator_epoch: int
    transaction_start: int


class FoundOffset(NamedTuple):
    """What a timestamp maps to; offset -1 when no record is that late."""

    error: PartitionError | None
    offset: int = -1
    timestamp: int = -1
    leader_epoch: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSettings:
    """The topic configs that a partition acts on, in Kafka's units."""

    max_message_bytes: int = 1_048_588
    log_append_time: bool = False
    timestamp_before_max_ms: int = 2**63 - 1
    timestamp_after_max_ms: int = 3_600_000
    retention_ms: int = 7 * 24 * 3_600_000
    retention_bytes: int = -1
    producer_expiration_ms: int = 86_400_000
    compacts: bool = False
    """Whether the last value of each key stays, and so every record has a key."""
    min_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = 2**63 - 1
    delete_retention_ms: int = 24 * 3_600_000
