"""The records inside a v2 batch: building a batch from them, reading them back.

Decides how records lie in a batch and what a well-formed batch is to a reader. Knows nothing of where
batches are kept or sent. Invariants: whatever the bytes, reading raises CorruptBatch or
UnsupportedBatch and nothing else; reading costs time and memory in proportion to the bytes there are
and to the decompression's bound, never to a length or a count that they claim.

    record: length | attributes i8 | timestamp delta | offset delta | key length | key |
            value length | value | header count | headers …
    header: key length | key | value length | value

Lengths, deltas and counts are zigzag varints; a length of -1 is null (KIP-82, KIP-98).

The loops here are the client's cost for each record, so they are written out: one- and two-byte
varints, which are nearly all there are, are read in place, and columns are filled instead of objects.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from raftlog.errors import CorruptBatch
from raftlog.records.batch import HEADER_SIZE, NO_PRODUCER, BatchHeader, Codec, check_batch, seal
from raftlog.records.codecs import OUTPUT_MAX, Buffer, compress, decompress

Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]
"""In the order sent; a key may occur more than once."""

RECORD_SIZE_MIN: Final = 7
"""Bytes of a record without key, value and headers."""
_REST_SIZE_MIN: Final = 2
"""Of them those behind the key."""

_VARINT_BYTES_MAX: Final = 10  # of 64 bits
_SMALL: Final = 8192
"""Zigzag varints from 0 up to here take one or two bytes."""

_VARINTS: Final = tuple(
    bytes((2 * n,)) if n < 64 else bytes((2 * n & 0x7F | 0x80, n >> 6)) for n in range(_SMALL)
)
_NULL: Final = b"\x01"  # the varint of -1
_NO_ATTRIBUTES: Final = b"\0"
_NO_HEADERS: Final = b"\0"
_HEADER_SPACE: Final = bytes(HEADER_SIZE)


class Record(NamedTuple):
    """A record as it was read. `timestamp` is in milliseconds since the epoch, -1 for none."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class NewRecord(NamedTuple):
    """A record to be written. `timestamp` is in milliseconds since the epoch."""

    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()


class Columns(NamedTuple):
    """The records of a batch, field by field, all of one length: `zip(*columns)` gives them one by one.

    For callers with a record type of their own, which would otherwise build every record twice.
    """

    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]


class BatchBuilder:
    """A batch in the making. `size` is exact, in bytes before compression and with the batch's header.

    `size_max` bounds it: a record that would not fit is refused, unless it is the first, which is taken
    at any size. Not bounded without it.
    """

    __slots__ = ("_parts", "base_timestamp", "max_timestamp", "record_count", "size", "size_max")

    def __init__(self, size_max: int | None = None) -> None:
        self.size_max = size_max
        self.size = HEADER_SIZE
        self.record_count = 0
        self.base_timestamp = 0
        self.max_timestamp = 0
        self._parts: list[bytes] = [_HEADER_SPACE]

    def __repr__(self) -> str:
        return f"<BatchBuilder records={self.record_count} size={self.size}>"

    def append(self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> bool:
        """Add a record; False when it does not fit any more, and then nothing has changed."""
        index = self.record_count
        if index == 0:
            self.base_timestamp = self.max_timestamp = timestamp
            delta = 0
        else:
            delta = timestamp - self.base_timestamp
        time_delta = _VARINTS[delta] if 0 <= delta < _SMALL else _varint(delta)
        offset_delta = _VARINTS[index] if index < _SMALL else _varint(index)
        size = len(time_delta) + len(offset_delta) + 2  # and the attributes and the header count
        if key is None:
            key_length, key = _NULL, b""
            size += 1
        else:
            count = len(key)
            key_length = _VARINTS[count] if count < _SMALL else _varint(count)
            size += len(key_length) + count
        if value is None:
            value_length, value = _NULL, b""
            size += 1
        else:
            count = len(value)
            value_length = _VARINTS[count] if count < _SMALL else _varint(count)
            size += len(value_length) + count
        if headers:
            header_bytes = _encode_headers(headers)
            size += len(header_bytes) - 1
        else:
            header_bytes = _NO_HEADERS
        length = _VARINTS[size] if size < _SMALL else _varint(size)
        size += self.size + len(length)
        if index and self.size_max is not None and size > self.size_max:
            return False
        self._parts += (length, _NO_ATTRIBUTES, time_delta, offset_delta)
        self._parts += (key_length, key, value_length, value, header_bytes)
        self.size = size
        self.record_count = index + 1
        if timestamp > self.max_timestamp:
            self.max_timestamp = timestamp
        return True

    def build(
        self,
        *,
        codec: Codec = Codec.NONE,
        level: int | None = None,
        producer_id: int = NO_PRODUCER,
        producer_epoch: int = -1,
        base_sequence: int = -1,
        transactional: bool = False,
        control: bool = False,
        base_offset: int = 0,
    ) -> bytearray:
        """The batch, ready to be sent. The builder is not changed and may build again."""
        batch = bytearray().join(self._parts)
        if codec is not Codec.NONE:
            batch[HEADER_SIZE:] = compress(codec, memoryview(batch)[HEADER_SIZE:], level)
        seal(
            batch,
            base_offset=base_offset,
            codec=codec,
            transactional=transactional,
            control=control,
            last_offset_delta=self.record_count - 1,
            base_timestamp=self.base_timestamp,
            max_timestamp=self.max_timestamp,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
            record_count=self.record_count,
        )
        return batch


def encode_batch(
    records: Iterable[NewRecord],
    *,
    codec: Codec = Codec.NONE,
    level: int | None = None,
    producer_id: int = NO_PRODUCER,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
    base_offset: int = 0,
) -> bytearray:
    """One batch of all `records`, however large. There must be at least one."""
    builder = BatchBuilder()
    for record in records:
        builder.append(*record)
    assert builder.record_count, "a batch without records"
    return builder.build(
        codec=codec,
        level=level,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        transactional=transactional,
        control=control,
        base_offset=base_offset,
    )


def decode_batch(data: Buffer, position: int = 0, max_output: int = OUTPUT_MAX) -> list[Record]:
    """The records of the batch at `position`, which is checked first and may be followed by more bytes.

    `max_output` bounds what they may decompress to, in bytes. Raises CorruptBatch or UnsupportedBatch.
    """
    return list(map(_new_record, zip(*decode_columns(data, position, max_output), strict=True)))


_new_record = partial(tuple.__new__, Record)  # a third of the cost of Record(...)


def decode_columns(
    data: Buffer, position: int = 0, max_output: int = OUTPUT_MAX, *, keys_only: bool = False
) -> Columns:
    """As `decode_batch`, with the records field by field.

    With `keys_only` values and headers are stepped over by the record's length: values are all None, headers
    empty, and it is not checked that they fill the record.
    """
    header = check_batch(data, position)
    start, end = position + HEADER_SIZE, position + header.size
    if header.codec is not Codec.NONE:
        data = decompress(header.codec, memoryview(data)[start:end], max_output)
        start, end = 0, len(data)
    elif (
        type(data) is not bytes
    ):  # whose slices are what a caller can keep; of a fetch's answer nothing is copied
        data = bytes(memoryview(data)[start:end])
        start, end = 0, len(data)
    try:
        return _decode_records(data, start, end, header, keys_only)
    except (IndexError, struct.error):
        raise CorruptBatch(f"records cut off in the batch at offset {header.base_offset}") from None


_HEAD: Final = struct.Struct("5B")  # less than the shortest record

# Bytes that an offset delta takes and the records that take them, in a batch without gaps.
_DELTA_WIDTHS: Final = ((1, 0, 1 << 6), (2, 1 << 6, 1 << 13), (3, 1 << 13, 1 << 20), (4, 1 << 20, 1 << 27))


def _decode_records(
    data: bytes, position: int, last_end: int, header: BatchHeader, keys_only: bool
) -> Columns:
    """The records that are the bytes from `position` to `last_end`; other batches may follow.

    An IndexError or a struct.error means that a record runs out of `data`. One that runs into what follows
    is found out in the end.
    """
    count, size = header.record_count, last_end - position
    if count * RECORD_SIZE_MIN > size:
        raise CorruptBatch(f"{count} records in {size} bytes")
    # Without gaps an offset delta is the record's place: it is stepped over, and checked on the last one.
    dense = count == header.last_offset_delta + 1
    deltas: list[int] = []
    times: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    headers: dict[int, Headers] = {}
    unpack_head, delta_at = _HEAD.unpack_from, position
    length = high = number = time = time_high = start = end = 0  # numbers, says this where it is compiled
    for width, first, last in _DELTA_WIDTHS if dense else ((0, 0, count),):
        for _ in range(first, min(last, count)):
            # The length, the attributes (none are defined) and the time delta: nearly always in five bytes.
            length, high, number, time, time_high = unpack_head(data, position)
            if length < 0x80:
                start = position + 1
                time, time_high = number, time
            elif high < 0x80:
                length += (high << 7) - 0x80
                start = position + 2
            else:
                length, start = read_varint(data, position)
                time, time_high = data[start + 1], data[start + 2]
            if time < 0x80:
                position = start + 2
            elif time_high < 0x80:
                time += (time_high << 7) - 0x80
                position = start + 3
            else:
                time, position = read_varint(data, start + 1)
            times.append(time)

            delta_at = position
            position += width
            if not dense:
                number, position = read_varint(data, position)
                deltas.append(number)

            number = data[position]
            if number == 1:
                keys.append(None)
                position += 1
            else:
                if number < 0x80:
                    position += 1
                else:
                    number, position = read_varint(data, position)
                if number & 1:
                    raise _negative(number)
                end = position + (number >> 1)
                keys.append(data[position:end])
                position = end

            if keys_only:
                end = start + (length >> 1)
                if end - position < _REST_SIZE_MIN or length & 1:
                    raise CorruptBatch(f"record {len(keys) - 1} of {count} is not as long as it says")
                position = end
                continue

            number = data[position]
            if number == 1:
                values.append(None)
                position += 1
            else:
                if number < 0x80:
                    position += 1
                elif (high := data[position + 1]) < 0x80:
                    number += (high << 7) - 0x80
                    position += 2
                else:
                    number, position = read_varint(data, position)
                if number & 1:
                    raise _negative(number)
                end = position + (number >> 1)
                values.append(data[position:end])
                position = end

            if data[position]:
                headers[len(values) - 1], position = _read_headers(data, position)
            else:
                position += 1
            if (position - start) << 1 != length:
                raise CorruptBatch(f"record {len(keys) - 1} of {count} is not as long as it says")
    if position != last_end or len(keys) != count:
        raise CorruptBatch(f"{count} records in {position - last_end + size} of {size} bytes")
    if dense and count and read_varint(data, delta_at)[0] >> 1 != header.last_offset_delta:
        raise CorruptBatch("the last record's offset delta is not the batch's")
    return Columns(
        _dense_offsets(header) if dense else _sparse_offsets(header, deltas),
        _timestamps(header, times),
        keys,
        [None] * count if keys_only else values,
        [headers.get(index, ()) for index in range(count)] if headers else [()] * count,
    )


def _dense_offsets(header: BatchHeader) -> Sequence[int]:
    return range(header.base_offset, header.next_offset)


def _sparse_offsets(header: BatchHeader, deltas: list[int]) -> Sequence[int]:
    """The offsets of a batch that compaction left gaps in; they rise strictly within the batch."""
    previous = -2
    for delta in deltas:
        if delta & 1 or delta <= previous:
            raise CorruptBatch(f"offset delta {_zigzag(delta)} after {_zigzag(previous)}")
        previous = delta
    if previous >> 1 > header.last_offset_delta:
        raise CorruptBatch(f"offset delta {previous >> 1} past the last, {header.last_offset_delta}")
    base = header.base_offset
    return [base + (delta >> 1) for delta in deltas]


def _timestamps(header: BatchHeader, deltas: list[int]) -> Sequence[int]:
    """Milliseconds since the epoch; one for all where the log has set it (KIP-32)."""
    if header.uses_log_append_time:
        return [header.max_timestamp] * len(deltas)
    base = header.base_timestamp
    return [base + ((delta >> 1) ^ -(delta & 1)) for delta in deltas]


def _read_headers(data: bytes, position: int) -> tuple[Headers, int]:
    count, position = _read_length(data, position)
    # Two lengths each, so a count that lies is out of bytes before it is out of patience.
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count >> 1):
        number, position = _read_length(data, position)
        end = position + (number >> 1)
        # A key that is not UTF-8 must not keep a consumer from its log: the Java client replaces as well.
        key = data[position:end].decode("utf-8", "replace")
        position = end
        if data[position] == 1:
            headers.append((key, None))
            position += 1
        else:
            number, position = _read_length(data, position)
            end = position + (number >> 1)
            headers.append((key, data[position:end]))
            position = end
    return tuple(headers), position


def _encode_headers(headers: Headers) -> bytes:
    parts = [_varint(len(headers))]
    for key, value in headers:
        key_bytes = key.encode()
        parts += (_varint(len(key_bytes)), key_bytes)
        parts += (_NULL,) if value is None else (_varint(len(value)), value)
    return b"".join(parts)


def _read_length(data: bytes, position: int) -> tuple[int, int]:
    """The varint at `position`, still zigzag, and where it ends; it must not be negative."""
    number, position = read_varint(data, position)
    if number & 1:
        raise _negative(number)
    return number, position


def _negative(number: int) -> CorruptBatch:
    return CorruptBatch(f"a length of {_zigzag(number)}")


def read_varint(data: Buffer, position: int) -> tuple[int, int]:
    """The varint at `position`, still zigzag, and where it ends. Padded varints are read, as Java does."""
    number = shift = 0
    for byte in data[position : position + _VARINT_BYTES_MAX]:
        number |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            if number >> 64:
                break
            return number, position
        shift += 7
    if shift < 7 * _VARINT_BYTES_MAX and position >= len(data):
        raise IndexError(position)
    raise CorruptBatch(f"a varint of more than 64 bits before byte {position}")


def _varint(number: int) -> bytes:
    """`number`, of 64 bits with its sign, as a zigzag varint."""
    if 0 <= number < _SMALL:
        return _VARINTS[number]
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(number: int) -> int:
    return (number >> 1) ^ -(number & 1)
