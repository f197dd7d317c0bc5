"""What a batch must be before it is appended on behalf of a producer.

Decides more than `check_batch` does, which holds for what other brokers send and disks return as well: a
producer's batch has no gaps, is not a control batch, and its record count is what the leader will
advance the log's offsets by, so a count that lies would leave a hole or a record nobody can read.

How far the count is verified, since a walk over the records of a batch costs 0.15 to 0.3 us each (CPython
3.11), at 100 B as much a MB as everything else that a leader does with them:

- always: a record takes 7 bytes at least, times the codec's highest ratio where they are compressed;
- the record lengths are walked: all of them where there are at most 32 or where they average 4 KiB, the
  first 32 otherwise, and then what is left must have room for the rest of the count;
- compressed records are decompressed and walked where they are at most 2 KiB and become at most 64 KiB.

So what may still lie is a count in a large batch of small records, by a producer that computes it on
purpose: its readers get CorruptBatch for that batch, and the log stays what it is.

Bytes that are not what was sealed may have been spoilt on their way, and come again whole: CorruptBatch. What
arrived as it was sent is no better the next time: InvalidBatch.
"""

from __future__ import annotations

from typing import Final

from raftlog.errors import CorruptBatch, InvalidBatch
from raftlog.records.batch import HEADER_SIZE, NO_PRODUCER, BatchHeader, Codec, check_bytes, read_header
from raftlog.records.codecs import Buffer, OutputTooLarge, decompress
from raftlog.records.record import RECORD_SIZE_MIN, read_varint

_WALKED_RECORDS_MAX: Final = 32
_WALKED_RECORD_SIZE: Final = 4096
_UNPACKED_SIZE_MAX: Final = 2048
_UNPACKED_OUTPUT_MAX: Final = 64 * 1024

# What a byte can become at most: deflate's 258 bytes for two bits, lz4's run lengths, a zstd block of
# 128 KiB from four bytes, a snappy copy of 64 bytes from three.
_RATIO_MAX: Final = {Codec.NONE: 1, Codec.GZIP: 1032, Codec.SNAPPY: 22, Codec.LZ4: 255, Codec.ZSTD: 32768}


def check_produced_batch(data: Buffer, position: int = 0) -> BatchHeader:
    """As `check_batch`, for a batch that a producer has sent; the module says what it checks further.

    Raises UnsupportedBatch, CorruptBatch or InvalidBatch, saying what is wrong.
    """
    left = len(data) - position
    if left < HEADER_SIZE or read_header(data, position).size > left:
        raise InvalidBatch(f"{left} bytes are not a whole batch")  # as Kafka says it
    header = check_bytes(data, position)
    count = header.record_count
    if count < 1 or header.last_offset_delta != count - 1:
        raise InvalidBatch(f"record count {count}, last offset delta {header.last_offset_delta}")
    if header.is_control:
        raise InvalidBatch("a control batch from a producer")
    if header.producer_id != NO_PRODUCER and (header.producer_epoch < 0 or header.base_sequence < 0):
        raise InvalidBatch(
            f"producer {header.producer_id}, epoch {header.producer_epoch}, sequence {header.base_sequence}"
        )
    codec = header.codec
    start, end = position + HEADER_SIZE, position + header.size
    if count * RECORD_SIZE_MIN > (end - start) * _RATIO_MAX[codec]:
        raise InvalidBatch(f"{count} records in {end - start} bytes")
    if codec is Codec.NONE:
        _walk(data, start, end, count)
    elif end - start <= _UNPACKED_SIZE_MAX:
        try:
            records = decompress(codec, memoryview(data)[start:end], _UNPACKED_OUTPUT_MAX)
        except OutputTooLarge:
            return header
        except CorruptBatch as error:  # the bytes are those that were sealed
            raise InvalidBatch(str(error)) from error
        _walk(records, 0, len(records), count)
    return header


def _walk(data: Buffer, position: int, end: int, count: int) -> None:
    """Raise InvalidBatch unless `count` records can be what lies between `position` and `end`."""
    whole = count <= _WALKED_RECORDS_MAX or count * _WALKED_RECORD_SIZE <= end - position
    walked = count if whole else _WALKED_RECORDS_MAX
    try:
        for _ in range(walked):
            length = data[position]
            if length < 0x80:
                position += 1 + (length >> 1)
            elif (high := data[position + 1]) < 0x80:
                position += (length >> 1) + (high << 6) - 62
            else:
                length, position = read_varint(data, position)
                position += length >> 1
            if length & 1:
                raise InvalidBatch("a record of a negative length")
    except IndexError:
        position = end + 1
    except CorruptBatch as error:
        raise InvalidBatch(str(error)) from error
    if position > end or (position != end if whole else (count - walked) * RECORD_SIZE_MIN > end - position):
        raise InvalidBatch(f"{count} records do not end where their batch does")
