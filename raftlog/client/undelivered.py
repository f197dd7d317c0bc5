"""What a producer says of records that were not delivered, or cannot be."""

from __future__ import annotations

from raftlog.client.batches import Batch
from raftlog.client.errors import BrokerError, ClientError, DeliveryError, RecordTooLarge
from raftlog.protocol.errors import ErrorCode


def failure_of(batch: Batch, error: ClientError) -> DeliveryError:
    """What who waits for the records of a batch is told."""
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


def too_large(size: int, limit: int, topic: str) -> RecordTooLarge:
    """A record that max.request.size forbids."""
    return RecordTooLarge(
        ErrorCode.MESSAGE_TOO_LARGE,
        f"a record of {size} bytes to {topic}: max_request_size of this producer is {limit} bytes"
        " (beyond it, max.message.bytes of the topic has to allow it, too)",
        topic=topic,
    )
