"""Batches made by hand, with a true header and CRC around records that need not be true."""

from __future__ import annotations

import struct

from crc32c import crc32c

NOW = 1_700_000_000_000


def batch_of(payload: bytes, *, count: int, last_delta: int | None = None, attributes: int = 0) -> bytearray:
    """A batch with a true CRC around records that need not be true."""
    last = count - 1 if last_delta is None else last_delta
    head = struct.pack(">hiqqqhii", attributes, last, NOW, NOW + 5, -1, -1, -1, count)
    body = head + payload
    return bytearray(struct.pack(">qiibI", 100, len(body) + 9, 7, 2, crc32c(body)) + body)


def record_of(body: bytes) -> bytes:
    assert len(body) < 64
    return bytes((len(body) * 2,)) + body


PLAIN = record_of(b"\0\0\0\x02k\x02v\0")  # attributes, two deltas, key, value, no headers
