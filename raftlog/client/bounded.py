"""Reading what strangers wrote, in a process that has other things to do.

A batch of some hundred kilobytes may unpack to tens of megabytes and a million records: that takes long, and
memory. So a thread unpacks, one batch at a time in the whole process, and larger ones are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import trio

from raftlog.client.assignment import unpack
from raftlog.client.consumer import Consumer
from raftlog.client.record import Record

BYTES_MAX: Final = 16 << 20
"""Of the records of a batch, unpacked."""
RECORDS_MAX: Final = 100_000
"""In a batch; a record takes some hundred bytes beside what is in it."""

_limiters: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("unpackers")


@dataclass(frozen=True, slots=True)
class BoundedReader:
    """A consumer that is read within bounds."""

    consumer: Consumer[Any, Any]

    async def poll(self, max_records: int, *, max_wait_ms: float) -> list[Record[Any, Any]]:
        """As `Consumer.poll`. A batch beyond the bounds raises Disconnected, as a damaged one does."""
        consumer = self.consumer
        await consumer._wait_for_records(trio.current_time() + max_wait_ms / 1000, max_records)
        reading, records = consumer._reading, list[Record[Any, Any]]()
        while len(records) < max_records:
            if not reading.left:
                following = reading.following()
                if following is None:
                    break
                await trio.to_thread.run_sync(unpack, following, BYTES_MAX, RECORDS_MAX, limiter=_unpackers())
                if not reading.take():
                    break
            records += reading.take_many(min(reading.left, max_records - len(records)))
        return records


def _unpackers() -> trio.CapacityLimiter:
    try:
        return _limiters.get()
    except LookupError:
        limiter = trio.CapacityLimiter(1)
        _limiters.set(limiter)
        return limiter
