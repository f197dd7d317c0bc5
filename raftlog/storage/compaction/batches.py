"""The batches of a log that is cleaned: read and checked, and made again with some of their records."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import compress as select
from typing import Final

from crc32c import crc32c

from raftlog.errors import CorruptBatch, DamagedLog, InvalidInput
from raftlog.records.batch import CRC_START, HEADER_SIZE, LOG_OVERHEAD, BatchHeader, check_batch, read_header
from raftlog.records.codecs import compress, decompress
from raftlog.records.record import read_varint
from raftlog.storage.compaction.job import Source
from raftlog.storage.disk import Disk

CHUNK: Final = 1 << 20
"""Bytes that are read at once; more for a batch that is larger."""

_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8
_CRC: Final = struct.Struct(">I")
_CRC_AT: Final = 17
_MAX_TIMESTAMP: Final = struct.Struct(">q")
_MAX_TIMESTAMP_AT: Final = 35
_COUNT: Final = struct.Struct(">i")
_COUNT_AT: Final = 57


def read_batches(
    disk: Disk, source: Source, epochs: Sequence[tuple[int, int]]
) -> Iterator[tuple[BatchHeader, memoryview]]:
    """Every batch of a segment, held to its CRC, its place and its term: a new CRC over damaged bytes would
    hide the damage. Raises DamagedLog."""
    position, offset, epoch = 0, source.base_offset, 0
    try:
        file = disk.open(source.path)
        while position < source.size:
            data = file.pread(min(CHUNK, source.size - position), position)
            if len(data) >= HEADER_SIZE and (needed := read_header(data).size) > len(data):
                data = file.pread(min(needed, source.size - position), position)
            view, at = memoryview(data), 0
            while len(data) - at >= HEADER_SIZE:
                size = read_header(data, at).size
                if at and size > len(data) - at:
                    break
                header = check_batch(data, at)
                while epoch + 1 < len(epochs) and epochs[epoch + 1][1] <= header.base_offset:
                    epoch += 1
                if not offset <= header.base_offset < header.next_offset <= source.next_offset:
                    raise CorruptBatch(f"offset {header.base_offset} where {offset} or more is expected")
                if epochs and header.leader_epoch != epochs[epoch][0]:
                    raise CorruptBatch(f"leader epoch {header.leader_epoch}, expected {epochs[epoch][0]}")
                yield header, view[at : at + size]
                offset, at = header.next_offset, at + size
            if not at:
                raise CorruptBatch(f"{len(data)} bytes are no batch")
            position += at
    except (InvalidInput, OSError) as error:
        raise DamagedLog(f"{source.path}: byte {position}: {error}") from error


def keep_records(
    header: BatchHeader, batch: memoryview, kept: Sequence[bool], timestamps: Sequence[int]
) -> bytearray:
    """The batch with the records that `kept` says, at least one. Base offset, last offset delta, term,
    producer, codec and the records' own bytes stay; count, greatest timestamp, length and CRC are made
    again. Raises CorruptBatch."""
    records = decompress(header.codec, batch[HEADER_SIZE:])
    spans = list(_spans(records, header.record_count))
    body = compress(header.codec, b"".join([records[start:end] for start, end in select(spans, kept)]), None)
    result = bytearray(batch[:HEADER_SIZE])
    result += body
    _LENGTH.pack_into(result, _LENGTH_AT, len(result) - LOG_OVERHEAD)
    _COUNT.pack_into(result, _COUNT_AT, sum(kept))
    if not header.uses_log_append_time:
        _MAX_TIMESTAMP.pack_into(result, _MAX_TIMESTAMP_AT, max(select(timestamps, kept)))
    _CRC.pack_into(result, _CRC_AT, crc32c(memoryview(result)[CRC_START:]))
    return result


def _spans(records: bytes, count: int) -> Iterator[tuple[int, int]]:
    """Where each record begins and ends."""
    position = 0
    for _ in range(count):
        length, body = read_varint(records, position)
        end = body + (length >> 1)
        if length & 1 or end > len(records):
            raise CorruptBatch(f"a record at byte {position} of {len(records)} is not whole")
        yield position, end
        position = end
