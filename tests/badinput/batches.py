"""Record batches, right by default, wrong where a test says so."""

from __future__ import annotations

import struct
import time
import zlib
from typing import Any

import cramjam
from crc32c import crc32c

from tests.badinput.wire import varint

_ZEROS = bytes(1024 * 1024)


def record(
    value: bytes | None = b"value",
    key: bytes | None = b"key",
    *,
    offset_delta: int = 0,
    timestamp_delta: int = 0,
    headers: bytes = b"\0",
    key_length: int | None = None,
    value_length: int | None = None,
    length: int | None = None,
) -> bytes:
    """One record; the three lengths may lie, `headers` is the count and what follows."""
    body = b"\0" + varint(timestamp_delta) + varint(offset_delta)
    body += varint(key_length if key_length is not None else -1 if key is None else len(key)) + (key or b"")
    body += varint(value_length if value_length is not None else -1 if value is None else len(value))
    body += (value or b"") + headers
    return varint(len(body) if length is None else length) + body


def records(count: int, value: bytes = b"value") -> bytes:
    return b"".join(record(value, offset_delta=n) for n in range(count))


def batch(
    payload: bytes | None = None,
    *,
    count: int = 1,
    last_delta: int | None = None,
    base_offset: int = 0,
    length: int | None = None,
    magic: int = 2,
    crc: int | None = None,
    attributes: int = 0,
    timestamp: int | None = None,
    max_timestamp: int | None = None,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> bytes:
    """A batch of `count` records, or of `payload` that claims to be; `length` and `crc` replace what is
    true."""
    if payload is None:
        payload = records(count)
    now = int(time.time() * 1000) if timestamp is None else timestamp
    body = struct.pack(
        ">hiqqqhii",
        attributes,
        count - 1 if last_delta is None else last_delta,
        now,
        now if max_timestamp is None else max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        count,
    )
    body += payload
    true_length = len(body) + 9
    head = struct.pack(
        ">qiibI",
        base_offset,
        true_length if length is None else length,
        -1,
        magic,
        crc32c(body) if crc is None else crc,
    )
    return head + body


def message_set(magic: int, value: bytes = b"old") -> bytes:
    """What producers of Kafka 0.9 (magic 0) and 0.10 (magic 1) sent."""
    body = struct.pack(">bb", magic, 0)
    if magic == 1:
        body += struct.pack(">q", int(time.time() * 1000))
    body += struct.pack(">i", -1) + struct.pack(">i", len(value)) + value
    message = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", 0, len(message)) + message


class _Zstd:
    """As zlib's packers are used."""

    def __init__(self) -> None:
        self._packer = cramjam.zstd.Compressor()

    def compress(self, data: bytes) -> bytes:
        self._packer.compress(data)
        return bytes(self._packer.flush())

    def flush(self) -> bytes:
        return bytes(self._packer.finish())


def gzip_bomb(megabytes: int, *, count: int) -> bytes:
    """A batch of `count` records of zero bytes, a thousandth on the wire of what they become."""
    return _bomb(megabytes, count, zlib.compressobj(1, wbits=31), 1)


def zstd_bomb(megabytes: int, *, count: int) -> bytes:
    """The same, a ten thousandth, and made in a tenth of the time."""
    return _bomb(megabytes, count, _Zstd(), 4)


def _bomb(megabytes: int, count: int, packer: Any, attributes: int) -> bytes:
    size = megabytes * 1024 * 1024 // count
    packed = []
    for number in range(count):
        head = record(b"", offset_delta=number, value_length=size, length=len(record(b"")) + size)
        packed.append(packer.compress(head[:-1]))
        packed += (packer.compress(_ZEROS) for _ in range(size // len(_ZEROS)))
        packed.append(packer.compress(bytes(size % len(_ZEROS)) + b"\0"))
    return batch(b"".join([*packed, packer.flush()]), count=count, attributes=attributes)


def sized_batch(size: int) -> bytes:
    """A batch of exactly `size` bytes."""
    padding = size - len(batch(record(b"")))
    found = batch(record(b"x" * padding))
    while len(found) > size:  # the lengths themselves take more bytes
        padding -= 1
        found = batch(record(b"x" * padding))
    assert len(found) == size, (len(found), size)
    return found
