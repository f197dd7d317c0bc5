"""What a producer says of records that were not delivered, or cannot be."""

from __future__ import annotations

from raftlog.client.batches import Batch
from raftlog.client.errors import (
    BrokerError,
    ClientError,
    DeliveryError,
    NotSupported,
    OffsetMismatch,
    RecordTooLarge,
)
from raftlog.protocol.errors import ErrorCode


def failure_of(batch: Batch, error: ClientError) -> DeliveryError:
    """What who waits for the records of a batch is told."""
    if isinstance(error, OffsetMismatch) or (isinstance(error, NotSupported) and not batch.uncertain):
        return error
    count = batch.builder.record_count
    where = f"{count} record{'s' * (count != 1)} to {batch.topic}-{batch.partition}"
    if isinstance(error, RecordTooLarge) and not batch.uncertain:
        failure: DeliveryError = RecordTooLarge(
            error.code,
            f"{where}: {batch.builder.size} bytes are more than the topic takes, or its broker:"
            f" max.message.bytes of the topic says how many ({error})",
            topic=batch.topic,
            partition=batch.partition,
        )
        failure.__cause__ = BrokerError(error.code, str(error))
        return failure
    failure = DeliveryError(
        f"{where}: {error} ({'may be in the log' if batch.uncertain else 'not in the log'})",
        topic=batch.topic,
        partition=batch.partition,
        records=count,
        may_be_written=batch.uncertain,
    )
    failure.__cause__ = error
    return failure


def mismatch(batch: Batch, end: int) -> OffsetMismatch:
    """The log does not end where a batch was to be appended. A log never gets shorter, so that it is past
    there is final. Where it is not an earlier attempt may still be under way, and find it there."""
    expected = batch.expected_offset
    assert expected is not None
    if end > expected:
        batch.uncertain = False
    return OffsetMismatch(
        f"1 record to {batch.topic}-{batch.partition}: the log ends at {end}, not at {expected}"
        f" ({'may be in the log' if batch.uncertain else 'not in the log'})",
        end=end,
        expected=expected,
        topic=batch.topic,
        partition=batch.partition,
        may_be_written=batch.uncertain,
    )


def too_large(size: int, limit: int, topic: str) -> RecordTooLarge:
    """A record that max.request.size forbids."""
    return RecordTooLarge(
        ErrorCode.MESSAGE_TOO_LARGE,
        f"a record of {size} bytes to {topic}: max_request_size of this producer is {limit} bytes"
        " (beyond it, max.message.bytes of the topic has to allow it, too)",
        topic=topic,
    )
