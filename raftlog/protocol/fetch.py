"""The Fetch answer by hand: a gather list in which the records stay where they are.

Records are any objects of a known size (bytes, a range of a file); they appear in the list as they are,
between the bytes around them, so that the connection can hand them to `sendmsg` or `sendfile`.

Versions 4 to 17. From 12 on lengths are compact, 13 names topics by id (KIP-516), 16 names leaders (KIP-951).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from raftlog.protocol.guard import write_varint
from raftlog.protocol.produce import NodeEndpoint, endpoints_tag, leader_tag

FLEXIBLE_FROM: Final = 12
LEADER_TAG: Final = 1

_I16 = struct.Struct(">h")
_I32 = struct.Struct(">i")
_I64 = struct.Struct(">q")
_FRAME = struct.Struct(">ii")
_PARTITION = struct.Struct(">ihqq")
_ABORTED = struct.Struct(">qq")


class FetchAnswer(NamedTuple):
    """One partition's answer; `records` takes `size` bytes, and size 0 is empty, never null."""

    partition: int
    error: int
    high_watermark: int = -1
    log_start_offset: int = -1
    records: object = b""
    size: int = 0
    leader: tuple[int, int] | None = None
    last_stable_offset: int = -1
    aborted: Sequence[tuple[int, int]] = ()
    """(producer id, first offset) of the transactions whose records do not count (KIP-98)."""


def encode_fetch_response(
    version: int,
    correlation_id: int,
    topics: Sequence[tuple[str | bytes, Sequence[FetchAnswer]]],
    endpoints: Sequence[NodeEndpoint] = (),
    *,
    error: int = 0,
    throttle_ms: int = 0,
) -> list[object]:
    """The whole frame of an answer, its length included: bytes, and the records of each partition between
    them. `topics` as the request named them; the session id is 0: there are no sessions (KIP-227)."""
    chunks: list[object] = []
    records_size = bytes_size = 0
    flexible = version >= FLEXIBLE_FROM
    out = bytearray(8)
    if flexible:
        out += b"\0"  # the header's tagged fields
    out += _I32.pack(throttle_ms)
    if version >= 7:
        out += _I16.pack(error) + b"\0\0\0\0"
    out += write_varint(len(topics) + 1) if flexible else _I32.pack(len(topics))
    for topic, answers in topics:
        if isinstance(topic, bytes):
            out += topic
        else:
            name = topic.encode()
            out += write_varint(len(name) + 1) if flexible else _I16.pack(len(name))
            out += name
        out += write_varint(len(answers) + 1) if flexible else _I32.pack(len(answers))
        for answer in answers:
            out += _PARTITION.pack(
                answer.partition, answer.error, answer.high_watermark, answer.last_stable_offset
            )
            if version >= 5:
                out += _I64.pack(answer.log_start_offset)
            out += write_varint(len(answer.aborted) + 1) if flexible else _I32.pack(len(answer.aborted))
            for producer_id, first_offset in answer.aborted:
                out += _ABORTED.pack(producer_id, first_offset)
                if flexible:
                    out += b"\0"
            if version >= 11:
                out += b"\xff\xff\xff\xff"  # no preferred read replica
            out += write_varint(answer.size + 1) if flexible else _I32.pack(answer.size)
            if answer.size:
                bytes_size += len(out)
                records_size += answer.size
                chunks += (out, answer.records)
                out = bytearray()
            if flexible:
                out += leader_tag(LEADER_TAG, answer.leader) if answer.leader else b"\0"
        if flexible:
            out += b"\0"
    if flexible:
        out += endpoints_tag(endpoints) if version >= 16 and endpoints else b"\0"
    chunks.append(out)
    first = chunks[0]
    assert isinstance(first, bytearray)
    _FRAME.pack_into(first, 0, bytes_size + len(out) + records_size - 4, correlation_id)
    return chunks
