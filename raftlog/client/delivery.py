"""What a producer gives for a record: where it was written, or a handle to wait for that."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import trio

from raftlog.client.batches import Batch


class RecordMetadata(NamedTuple):
    """Where a record was written. `offset` is -1 with acks=0, and when a retry found it in the log already
    and the broker no longer knew where; `timestamp` is in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int


class Delivery:
    """A record that is on its way: `await` it for its RecordMetadata.

    Raises DeliveryError when the record was not acknowledged. Waiting may be cancelled and repeated: the
    record is delivered all the same.
    """

    __slots__ = ("_batch", "_index", "_timestamp")

    def __init__(self, batch: Batch, index: int, timestamp: int) -> None:
        self._batch = batch
        self._index = index
        self._timestamp = timestamp

    @property
    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._batch.part_of(self._index)[0].done

    async def wait(self) -> RecordMetadata:
        """What `await delivery` does. It can be cancelled even when the outcome is known."""
        batch, index = self._batch.part_of(self._index)
        if batch.done:
            await trio.lowlevel.checkpoint_if_cancelled()
        while not batch.done:
            if batch.event is None:
                batch.event = trio.Event()
            await batch.event.wait()
            batch, index = self._batch.part_of(self._index)
        if batch.error is not None:
            batch.observed = True
            raise batch.error
        offset = batch.base_offset + index if batch.base_offset >= 0 else -1
        timestamp = self._timestamp if batch.log_append_time < 0 else batch.log_append_time
        return RecordMetadata(batch.topic, batch.partition, offset, timestamp)

    def __await__(self) -> Generator[Any, Any, RecordMetadata]:
        return self.wait().__await__()

    def __repr__(self) -> str:
        batch, _ = self._batch.part_of(self._index)
        state = "failed" if batch.error else "done" if batch.done else "under way"
        return f"<Delivery {batch.topic}-{batch.partition} {state}>"
