"""Transaction markers: the control batch with which a coordinator ends a transaction on a partition (KIP-98).

A marker is a record batch of one record, so that clients find it in the stream. Its key says whether the
transaction was committed or aborted. Its value says who wrote it: the coordinator's epoch, and the index of
the entry of the metadata log that decided. Clients read the key alone.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from raftlog.errors import CorruptBatch
from raftlog.records.batch import BatchHeader
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from raftlog.storage.entry import Payload

_KEY: Final = struct.Struct(">hh")
"""Version, and 0 for an abort or 1 for a commit."""
_VALUE: Final = struct.Struct(">hiq")
"""Version, the coordinator's epoch, and the index of the decision: that one is raftlog's own."""
_VERSION: Final = 0
_ABORT: Final = 0
_COMMIT: Final = 1

BY_HAND: Final = -1
"""In place of the index of a decision: an administrator ends a transaction that hangs."""


class Marker(NamedTuple):
    """How the transaction of a producer ended."""

    producer_id: int
    producer_epoch: int
    """That of the transaction, or a higher one: then whoever writes with the older is fenced."""
    is_commit: bool
    coordinator_epoch: int
    """The term in which the coordinator leads the metadata group."""
    decided_at: int
    """The index of the metadata entry that decided. It grows from one transaction of a producer to the next,
    so that a late copy of a marker is known for one."""


def encode_marker(marker: Marker, now_ms: int) -> bytearray:
    """The control batch of a marker, to be stamped by the partition's leader."""
    key = _KEY.pack(_VERSION, _COMMIT if marker.is_commit else _ABORT)
    value = _VALUE.pack(_VERSION, marker.coordinator_epoch, marker.decided_at)
    return encode_batch(
        [NewRecord(now_ms, key, value, ())],
        producer_id=marker.producer_id,
        producer_epoch=marker.producer_epoch,
        transactional=True,
        control=True,
    )


def decode_marker(header: BatchHeader, batch: Payload) -> Marker:
    """The marker in a control batch with this header. Raises CorruptBatch for a batch that is none."""
    (record,) = decode_batch(batch)
    key, value = record.key or b"", record.value or b""
    if len(key) != _KEY.size or len(value) < _VALUE.size:
        raise CorruptBatch(f"a control batch with a key of {len(key)} and a value of {len(value)} bytes")
    _, kind = _KEY.unpack(key)
    _, coordinator_epoch, decided_at = _VALUE.unpack_from(value)
    return Marker(header.producer_id, header.producer_epoch, kind == _COMMIT, coordinator_epoch, decided_at)
