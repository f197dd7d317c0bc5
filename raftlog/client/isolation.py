"""What of a fetch's records is handed out, by the isolation level (KIP-98).

Pure. An answer to a fetch at read_committed ends before the first transaction that is still open, and names
those that were aborted: producer and first offset. From there to the producer's abort marker its
transactional batches are left out. Markers are never handed out, at either level.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final

from raftlog.records.batch import BatchHeader, iter_headers
from raftlog.records.record import decode_columns

READ_UNCOMMITTED: Final = 0
READ_COMMITTED: Final = 1

_ABORT_MARKER: Final = b"\0\0\0\0"
"""Two int16: the key's version, and 0 for an abort; 1 is a commit."""

Aborted = Iterable[tuple[int, int]]
"""Producer id and first offset of each transaction that was aborted."""


def iter_visible(data: bytes, aborted: Aborted) -> Iterator[tuple[int, BatchHeader, bool]]:
    """The batches of a fetch: position, header, and whether its records are handed out.

    A marker that no entry of `aborted` belongs to changes nothing. Raises CorruptBatch, as `iter_headers`.
    """
    coming = sorted(aborted, key=itemgetter(1), reverse=True)
    open_now: set[int] = set()
    for position, header in iter_headers(data):
        while coming and coming[-1][1] < header.next_offset:
            open_now.add(coming.pop()[0])
        if header.is_control:
            if header.producer_id in open_now and _is_abort(data, position, header):
                open_now.discard(header.producer_id)
            yield position, header, False
        else:
            yield position, header, not (header.is_transactional and header.producer_id in open_now)


def _is_abort(data: bytes, position: int, header: BatchHeader) -> bool:
    """Compaction may have left the batch of a marker without its record."""
    if not header.record_count:
        return False
    (key, *_) = decode_columns(data, position).keys
    return key == _ABORT_MARKER
