"""The header of a Kafka v2 record batch, read from bytes where they lie.

A batch is kept as its producer sent it. Two fields lie outside its CRC and are stamped by the leader:
the base offset and the leader epoch. Everything else is looked at, never changed.

    base offset i64 | length i32 | leader epoch i32 | magic i8 | crc u32 | attributes i16 |
    last offset delta i32 | base timestamp i64 | max timestamp i64 | producer id i64 |
    producer epoch i16 | base sequence i32 | record count i32 | records …

The length counts what follows it; the CRC-32C covers everything from the attributes on (KIP-98).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from crc32c import crc32c

from raftlog.errors import CorruptBatch, UnsupportedBatch

HEADER_SIZE: Final = 61
LOG_OVERHEAD: Final = 12
"""Bytes before the part that a batch's length counts."""
CRC_START: Final = 21
MAGIC: Final = 2
NO_TIMESTAMP: Final = -1
NO_PRODUCER: Final = -1
NO_LEADER_EPOCH: Final = -1

_HEADER = struct.Struct(">qiibIhiqqqhii")
_OFFSET = struct.Struct(">q")
_EPOCH = struct.Struct(">i")
_CRC = struct.Struct(">I")
_ATTRIBUTES = struct.Struct(">h")

_CODEC_MASK = 0x07
_LOG_APPEND_TIME = 0x08
_TRANSACTIONAL = 0x10
_CONTROL = 0x20


class Codec(IntEnum):
    """The compression of a batch's records, by its number in the attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class BatchHeader(NamedTuple):
    """The fixed part of a batch. Offsets are absolute, timestamps milliseconds since the epoch."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.length + LOG_OVERHEAD

    @property
    def next_offset(self) -> int:
        """The offset after the batch's last record."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def codec(self) -> Codec:
        return Codec(self.attributes & _CODEC_MASK)

    @property
    def uses_log_append_time(self) -> bool:
        return bool(self.attributes & _LOG_APPEND_TIME)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & _CONTROL)

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last record; it wraps to 0 after 2³¹-1 (KIP-98)."""
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF


def read_header(data: bytes | bytearray | memoryview, position: int = 0) -> BatchHeader:
    """The header at `position`, unchecked but for its presence; raises CorruptBatch when it is cut off."""
    if len(data) - position < HEADER_SIZE:
        raise CorruptBatch(f"a batch header takes {HEADER_SIZE} bytes, {len(data) - position} are left")
    return BatchHeader._make(_HEADER.unpack_from(data, position))


def check_batch(data: bytes | bytearray | memoryview, position: int = 0) -> BatchHeader:
    """The header of the batch at `position` after checking the batch against it: magic, length, CRC, codec
    and counts. The batch may be followed by more bytes.

    Raises UnsupportedBatch or CorruptBatch, saying which field lies.
    """
    header = check_bytes(data, position)
    if header.last_offset_delta < 0 or header.record_count < 0:
        raise CorruptBatch(
            f"record count {header.record_count}, last offset delta {header.last_offset_delta}"
        )
    return header


def check_bytes(data: bytes | bytearray | memoryview, position: int = 0) -> BatchHeader:
    """As `check_batch`, but for the counts: that the bytes are those that were sealed, in a known format.
    The CRC comes before whatever it covers, so that a flipped bit is not taken for its producer's mistake.
    """
    if len(data) - position > 16 and data[position + 16] != MAGIC:
        raise UnsupportedBatch(f"batches of magic {data[position + 16]} are not kept, only of magic {MAGIC}")
    header = read_header(data, position)
    size = header.length + LOG_OVERHEAD
    if size < HEADER_SIZE or size > len(data) - position:
        raise CorruptBatch(f"batch length {header.length} does not fit {len(data) - position} bytes")
    actual = crc32c(memoryview(data)[position + CRC_START : position + size])
    if actual != header.crc:
        raise CorruptBatch(f"crc {actual:#010x} of the bytes is not {header.crc:#010x} of the header")
    if (header.attributes & _CODEC_MASK) > Codec.ZSTD:
        raise UnsupportedBatch(f"unknown codec {header.attributes & _CODEC_MASK}")
    return header


def stamp(data: bytearray | memoryview, base_offset: int, leader_epoch: int, position: int = 0) -> None:
    """Write the two fields that the leader owns; both lie outside the CRC."""
    _OFFSET.pack_into(data, position, base_offset)
    _EPOCH.pack_into(data, position + 12, leader_epoch)


def seal(
    data: bytearray,
    *,
    base_offset: int,
    codec: Codec,
    transactional: bool,
    control: bool,
    last_offset_delta: int,
    base_timestamp: int,
    max_timestamp: int,
    producer_id: int,
    producer_epoch: int,
    base_sequence: int,
    record_count: int,
) -> None:
    """Make a batch of `data`: fill its first HEADER_SIZE bytes, the CRC over what follows among them."""
    attributes = codec | (_TRANSACTIONAL if transactional else 0) | (_CONTROL if control else 0)
    _HEADER.pack_into(
        data,
        0,
        base_offset,
        len(data) - LOG_OVERHEAD,
        NO_LEADER_EPOCH,
        MAGIC,
        0,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        record_count,
    )
    _CRC.pack_into(data, CRC_START - _CRC.size, crc32c(memoryview(data)[CRC_START:]))


def iter_headers(data: bytes | bytearray | memoryview) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each whole batch in `data`; stops before one that is cut off at the end.

    Raises CorruptBatch where a length cannot be.
    """
    position, end = 0, len(data)
    while end - position >= HEADER_SIZE:
        header = BatchHeader._make(_HEADER.unpack_from(data, position))
        if header.length < HEADER_SIZE - LOG_OVERHEAD:
            raise CorruptBatch(f"batch length {header.length} at byte {position}")
        if position + header.length + LOG_OVERHEAD > end:
            return
        yield position, header
        position += header.length + LOG_OVERHEAD


def stamp_append_time(data: bytearray | memoryview, now_ms: int, position: int = 0) -> None:
    """Make a batch LogAppendTime: its timestamps become `now_ms`. It changes what the CRC covers, so the
    CRC is written anew; the records themselves are not touched, nor decompressed (KIP-32)."""
    attributes = _ATTRIBUTES.unpack_from(data, position + CRC_START)[0] | _LOG_APPEND_TIME
    _ATTRIBUTES.pack_into(data, position + CRC_START, attributes)
    _OFFSET.pack_into(data, position + 35, now_ms)
    size = read_header(data, position).size
    crc = crc32c(memoryview(data)[position + CRC_START : position + size])
    _CRC.pack_into(data, position + 17, crc)
