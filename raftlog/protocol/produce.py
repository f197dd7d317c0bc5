"""Produce by hand: the request that carries the data, and its answer.

kio would copy the records once and take 26 µs for an answer. Here records are slices of the frame they
came in (writable when the frame is: the leader stamps offsets in place), and an answer costs a microsecond.
`tests/property/test_protocol_fast_paths.py` holds both against kio for every version.

A partition may name the offset that its batch must get (`expected_offset`), which Kafka does not know.

Versions 0 to 13; kio has none before 3, which are read so that they can be refused politely. From 9 on
lengths are compact; 13 names topics by id (KIP-516).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from raftlog.errors import InvalidInput
from raftlog.protocol.codec import RequestHeader, skip_tags
from raftlog.protocol.expected_offset import TAG as EXPECTED_OFFSET_TAG
from raftlog.protocol.guard import read_varint, write_varint

FLEXIBLE_FROM: Final = 9
TOPIC_IDS_FROM: Final = 13
ID_SIZE: Final = 16
PARTITIONS_MAX: Final = 20_000
"""Topics and partitions of a request; more would hold everyone up for a good part of a second."""

_I16 = struct.Struct(">h")
_I32 = struct.Struct(">i")
_ACKS_TIMEOUT = struct.Struct(">hi")
_INDEX_SIZE = struct.Struct(">ii")
_ANSWER = struct.Struct(">ihqq")
_OLD_ANSWER = struct.Struct(">ihq")
_I64 = struct.Struct(">q")
_LEADER = struct.Struct(">ii")


class ProduceData(NamedTuple):
    """One partition's share of a request. `records` is a slice of the frame; None for null."""

    partition: int
    records: memoryview | None
    expected_offset: int | None = None
    """The offset that the batch must get; None: any."""


class ProduceTopic(NamedTuple):
    """One topic of a request: a name, or 16 bytes of topic id from version 13 on."""

    topic: str | bytes
    partitions: list[ProduceData]


class ProduceRequest(NamedTuple):
    """A Produce request; `timeout_ms` is how long the producer waits for the acks."""

    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: list[ProduceTopic]
    compares: bool = False
    """Whether a partition has an `expected_offset`."""


class NodeEndpoint(NamedTuple):
    """Where a leader that is named in an answer listens (KIP-951)."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


class ProduceAnswer(NamedTuple):
    """One partition's answer. `base_offset` is the log's end where that is not what was expected; `leader` is
    (id, epoch), for an error that another leader would not give."""

    partition: int
    error: int
    base_offset: int = -1
    log_append_time: int = -1
    log_start_offset: int = -1
    message: str | None = None
    leader: tuple[int, int] | None = None
    bad_records: Sequence[int] = ()
    """The places in the batch of the records that `message` is about (KIP-467)."""


def decode_produce_request(frame: bytearray | memoryview, header: RequestHeader) -> ProduceRequest:
    """The request in `frame`; its records share the frame's memory. Raises InvalidInput."""
    view = memoryview(frame)
    try:
        if header.version >= FLEXIBLE_FROM:
            return _decode_flexible(view, header.body, header.version)
        return _decode_legacy(view, header.body, header.version)
    except (IndexError, struct.error):
        reason = "it ends in the middle of a field"
    except UnicodeDecodeError:
        reason = "a name is not UTF-8"
    except InvalidInput as error:
        reason = str(error)
    raise InvalidInput(f"PRODUCE v{header.version} request: {reason}")


def _decode_flexible(view: memoryview, position: int, version: int) -> ProduceRequest:
    # Lengths and counts are one byte as a rule, and the call for more is what would cost.
    end = len(view)
    size = view[position]
    position += 1
    if size > 0x7F:
        size, position = read_varint(view, position - 1)
    transactional_id = None
    if size:
        transactional_id, position = _text(view, position, size - 1)
    acks, timeout_ms = _ACKS_TIMEOUT.unpack_from(view, position)
    topic_count, position = read_varint(view, position + 6)
    topics: list[ProduceTopic] = []
    left = PARTITIONS_MAX
    compares = False
    for _ in range(_count(topic_count - 1, min(end - position, left))):
        topic: str | bytes
        if version >= TOPIC_IDS_FROM:
            topic, position = bytes(view[position : position + ID_SIZE]), position + ID_SIZE
        else:
            size = view[position]
            position += 1
            if size > 0x7F:
                size, position = read_varint(view, position - 1)
            topic, position = _text(view, position, size - 1)
        partition_count, position = read_varint(view, position)
        partitions: list[ProduceData] = []
        left -= partition_count  # one more than there are: it stands for the topic
        for _ in range(_count(partition_count - 1, min(end - position, left + partition_count))):
            (index,) = _I32.unpack_from(view, position)
            size, position = read_varint(view, position + 4)
            records = None
            if size:
                records, position = _slice(view, position, size - 1)
            if view[position]:
                expected, position = _read_expected_offset(view, position)
                compares = compares or expected is not None
                partitions.append(ProduceData(index, records, expected))
            else:
                position += 1
                partitions.append(ProduceData(index, records))
        position = skip_tags(view, position) if view[position] else position + 1
        topics.append(ProduceTopic(topic, partitions))
    if view[position]:
        skip_tags(view, position)
    return ProduceRequest(transactional_id, acks, timeout_ms, topics, compares)


def _read_expected_offset(view: memoryview, position: int) -> tuple[int | None, int]:
    """What the tagged fields of a partition say of it, and the position behind them."""
    behind = skip_tags(view, position)
    count, position = read_varint(view, position)
    expected = None
    for _ in range(count):
        tag, position = read_varint(view, position)
        size, position = read_varint(view, position)
        if tag == EXPECTED_OFFSET_TAG:
            if size != _I64.size:
                raise InvalidInput(f"an expected offset of {size} bytes")
            (expected,) = _I64.unpack_from(view, position)
            if expected < 0:
                raise InvalidInput(f"an expected offset of {expected}")
        position += size
    return expected, behind


def _decode_legacy(view: memoryview, position: int, version: int) -> ProduceRequest:
    end = len(view)
    transactional_id = None
    if version >= 3:
        (size,) = _I16.unpack_from(view, position)
        position += 2
        if size != -1:
            transactional_id, position = _text(view, position, size)
    acks, timeout_ms = _ACKS_TIMEOUT.unpack_from(view, position)
    (topic_count,) = _I32.unpack_from(view, position + 6)
    position += 10
    topics: list[ProduceTopic] = []
    left = PARTITIONS_MAX
    for _ in range(_count(topic_count, min(end - position, left))):
        (size,) = _I16.unpack_from(view, position)
        topic, position = _text(view, position + 2, size)
        (partition_count,) = _I32.unpack_from(view, position)
        position += 4
        partitions: list[ProduceData] = []
        left -= partition_count + 1
        for _ in range(_count(partition_count, min(end - position, left + partition_count))):
            index, size = _INDEX_SIZE.unpack_from(view, position)
            position += 8
            records = None
            if size != -1:
                records, position = _slice(view, position, size)
            partitions.append(ProduceData(index, records))
        topics.append(ProduceTopic(topic, partitions))
    return ProduceRequest(transactional_id, acks, timeout_ms, topics)


def _count(count: int, count_max: int) -> int:
    if not 0 <= count <= count_max:
        raise InvalidInput(f"{count} elements in an array that can have {count_max}")
    return count


def _slice(view: memoryview, position: int, size: int) -> tuple[memoryview, int]:
    end = position + size
    if size < 0 or end > len(view):
        raise InvalidInput(f"{size} bytes of records, {len(view) - position} left")
    return view[position:end], end


def _text(view: memoryview, position: int, size: int) -> tuple[str, int]:
    end = position + size
    if size < 0 or end > len(view):
        raise InvalidInput(f"a name of {size} bytes, {len(view) - position} left")
    return str(view[position:end], "utf-8"), end


def encode_produce_response(
    version: int,
    correlation_id: int,
    topics: Sequence[tuple[str | bytes, Sequence[ProduceAnswer]]],
    endpoints: Sequence[NodeEndpoint] = (),
    *,
    throttle_ms: int = 0,
) -> bytes:
    """The whole frame of an answer, its length included. `topics` as the request named them."""
    out = bytearray(8)
    if version >= FLEXIBLE_FROM:
        _encode_flexible(out, version, topics, endpoints, throttle_ms)
    else:
        _encode_legacy(out, version, topics, throttle_ms)
    _LEADER.pack_into(out, 0, len(out) - 4, correlation_id)
    return bytes(out)


def _encode_flexible(
    out: bytearray,
    version: int,
    topics: Sequence[tuple[str | bytes, Sequence[ProduceAnswer]]],
    endpoints: Sequence[NodeEndpoint],
    throttle_ms: int,
) -> None:
    out += b"\0"  # the header's tagged fields
    out += write_varint(len(topics) + 1)
    for topic, answers in topics:
        out += topic if isinstance(topic, bytes) else compact(topic)
        out += write_varint(len(answers) + 1)
        for answer in answers:
            out += _ANSWER.pack(answer.partition, answer.error, answer.base_offset, answer.log_append_time)
            out += _I64.pack(answer.log_start_offset)
            out += write_varint(len(answer.bad_records) + 1)
            for number in answer.bad_records:
                out += _I32.pack(number) + compact(answer.message) + b"\0"
            out += compact(answer.message)
            out += leader_tag(0, answer.leader) if version >= 10 and answer.leader else b"\0"
        out += b"\0"
    out += _I32.pack(throttle_ms)
    out += endpoints_tag(endpoints) if version >= 10 and endpoints else b"\0"


def _encode_legacy(
    out: bytearray,
    version: int,
    topics: Sequence[tuple[str | bytes, Sequence[ProduceAnswer]]],
    throttle_ms: int,
) -> None:
    out += _I32.pack(len(topics))
    for topic, answers in topics:
        name = topic.encode() if isinstance(topic, str) else topic
        out += _I16.pack(len(name))
        out += name
        out += _I32.pack(len(answers))
        for answer in answers:
            out += _OLD_ANSWER.pack(answer.partition, answer.error, answer.base_offset)
            if version >= 2:
                out += _I64.pack(answer.log_append_time)
            if version >= 5:
                out += _I64.pack(answer.log_start_offset)
            if version >= 8:
                message = b"\xff\xff"
                if answer.message is not None:
                    said = answer.message.encode()
                    message = _I16.pack(len(said)) + said
                out += _I32.pack(len(answer.bad_records))
                for number in answer.bad_records:
                    out += _I32.pack(number) + message
                out += message
    if version >= 1:
        out += _I32.pack(throttle_ms)


def compact(text: str | None) -> bytes:
    """A compact string that may be null."""
    if text is None:
        return b"\0"
    data = text.encode()
    return write_varint(len(data) + 1) + data


def leader_tag(tag: int, leader: tuple[int, int]) -> bytes:
    """The tagged fields of a partition's answer when there is one: its current leader (KIP-951)."""
    return bytes((1, tag, 9)) + _LEADER.pack(*leader) + b"\0"


def endpoints_tag(endpoints: Sequence[NodeEndpoint]) -> bytes:
    """The tagged fields of an answer when there is one: where the leaders it names listen (KIP-951)."""
    content = write_varint(len(endpoints) + 1)
    for node_id, host, port, rack in endpoints:
        content += _I32.pack(node_id) + compact(host) + _I32.pack(port) + compact(rack) + b"\0"
    return b"\1\0" + write_varint(len(content)) + content
