"""The write-ahead log's bytes: blocks, the records in them, the seal behind them.

    block   magic | wal id | sequence number | body length | record count | flags | body crc | header crc
            heads of all records, then their payloads in the same order, zeros up to the next page
    seal    magic | wal id | sequence number | crc       where the next block will go

Blocks begin at page boundaries, so that a torn write never touches a block that was synced before it.
Sequence numbers rise by one from block to block for the whole life of the log, over all files: they tell
a block from what a reused file held before. The wal id is random, so that no payload looks like a block.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from crc32c import crc32c

PAGE: Final = 4096

_BLOCK = struct.Struct(">4sQQQIIII")
_SEAL = struct.Struct(">4sQQI")
_HEAD = struct.Struct(">BB20sqqqqqI")
_CRC = struct.Struct(">I")

_BLOCK_MAGIC: Final = b"rlwb"
_SEAL_MAGIC: Final = b"rlws"

BLOCK_HEADER_SIZE: Final = _BLOCK.size
HEAD_SIZE: Final = _HEAD.size
SEAL_SIZE: Final = _SEAL.size

FLAG_CHECKPOINT: Final = 1
"""The block holds a CHECKPOINT record."""

pack_head = _HEAD.pack


class RecordKind(IntEnum):
    """What a record does to its group when it is replayed; the numbers are in the files."""

    ENTRY = 1
    """The log is what it was below `index`, and then this entry."""
    HARD_STATE = 2
    """`term`; voted for `index`, -1 for nobody."""
    TRUNCATE = 3
    """Nothing is left from `index` on."""
    RESET = 4
    """Nothing is left at all; the log starts behind `index`, `term`, `base_offset`, in a new folder."""
    CREATE = 5
    """A group begins; the payload is its folder's name and who is in it."""
    DELETE = 6
    CHECKPOINT = 7
    """Of the store, not of a group: where replay starts, and every group as it was there."""
    LOG_START = 8
    """Offsets below `base_offset` are gone for readers."""
    MAY_LACK = 9
    """`index` 1: the log may lack what its replica has acknowledged; 0: it lacks nothing any more."""
    FILLED = 10
    """Nothing is left of the log; it goes on in a folder that was filled beside it, and ends there at
    `index`, `term`, `base_offset`. The payload is the folder's name."""


class RecordHead(NamedTuple):
    """The fixed part of a record. `commit` is what the group had committed when this was written: entries
    up to it, as they stand in the log at this point of the replay, were committed."""

    kind: int
    entry_kind: int
    key: bytes
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    term: int
    commit: int
    base_offset: int
    next_offset: int
    payload_size: int


class BlockHeader(NamedTuple):
    sequence: int
    body_size: int
    records: int
    flags: int
    body_crc: int

    @property
    def size(self) -> int:
        """Bytes that the block takes in its file, with the padding."""
        return pages(BLOCK_HEADER_SIZE + self.body_size)


def pages(size: int) -> int:
    """`size` rounded up to whole pages."""
    return (size + PAGE - 1) & -PAGE


def pack_block_header(
    wal_id: int, sequence: int, body_size: int, count: int, flags: int, body_crc: int
) -> bytearray:
    header = bytearray(BLOCK_HEADER_SIZE)
    _BLOCK.pack_into(header, 0, _BLOCK_MAGIC, wal_id, sequence, body_size, count, flags, body_crc, 0)
    _CRC.pack_into(header, BLOCK_HEADER_SIZE - 4, crc32c(memoryview(header)[:-4]))
    return header


def read_block_header(data: bytes, position: int, wal_id: int | None) -> BlockHeader | None:
    """The block header at `position`, or None when there is no sound one of this log (None: of any)."""
    if data[position : position + 4] != _BLOCK_MAGIC or len(data) - position < BLOCK_HEADER_SIZE:
        return None
    _, found_id, sequence, body_size, count, flags, body_crc, crc = _BLOCK.unpack_from(data, position)
    if wal_id is not None and found_id != wal_id:
        return None
    if crc32c(data[position : position + BLOCK_HEADER_SIZE - 4]) != crc:
        return None
    return BlockHeader(sequence, body_size, count, flags, body_crc)


def pack_seal(wal_id: int, sequence: int) -> bytes:
    """The mark that block `sequence` was synced."""
    body = _SEAL.pack(_SEAL_MAGIC, wal_id, sequence, 0)[:-4]
    return body + _CRC.pack(crc32c(body))


def read_seal(data: bytes, position: int, wal_id: int | None) -> int | None:
    """The sequence number of the seal at `position`, or None when there is none."""
    if data[position : position + 4] != _SEAL_MAGIC or len(data) - position < SEAL_SIZE:
        return None
    _, found_id, sequence, crc = _SEAL.unpack_from(data, position)
    if wal_id is not None and found_id != wal_id:
        return None
    if crc32c(data[position : position + SEAL_SIZE - 4]) != crc:
        return None
    assert isinstance(sequence, int)
    return sequence


def iter_records(body: memoryview, count: int) -> Iterator[tuple[RecordHead, memoryview]]:
    """(head, payload) of the records of a block whose CRC was found right."""
    position = count * HEAD_SIZE
    for number in range(count):
        head = RecordHead._make(_HEAD.unpack_from(body, number * HEAD_SIZE))
        yield head, body[position : position + head.payload_size]
        position += head.payload_size
    assert position == len(body), (position, len(body), count)
