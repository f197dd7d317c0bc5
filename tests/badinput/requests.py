"""Whole requests, in versions that are easy to write by hand, with every field open to lies."""

from __future__ import annotations

from typing import NamedTuple

from tests.badinput.wire import (
    CREATE_TOPICS,
    DELETE_TOPICS,
    FETCH,
    FIND_COORDINATOR,
    INIT_PRODUCER_ID,
    JOIN_GROUP,
    LIST_OFFSETS,
    METADATA,
    OFFSET_COMMIT,
    PRODUCE,
    SASL_AUTHENTICATE,
    SASL_HANDSHAKE,
    Raw,
    Reader,
    array,
    i8,
    i16,
    i32,
    i64,
    string,
)

PRODUCE_VERSION = 7
FETCH_VERSION = 11


class Produced(NamedTuple):
    error: int
    base_offset: int


class Fetched(NamedTuple):
    error: int
    high_watermark: int
    records: bytes


def produce_body(
    topic: str | bytes,
    records: bytes | None,
    *,
    partition: int = 0,
    acks: int = -1,
    timeout_ms: int = 10_000,
    transactional_id: str | None = None,
    size: int | None = None,
) -> bytes:
    """`size` is what is said of the records' length."""
    length = i32(-1 if records is None else len(records) if size is None else size)
    one = i32(partition) + length + (records or b"")
    return string(transactional_id) + i16(acks) + i32(timeout_ms) + array([string(topic) + array([one])])


def produce(raw: Raw, topic: str | bytes, records: bytes | None, **fields: object) -> Produced:
    answer = raw.ask(PRODUCE, PRODUCE_VERSION, produce_body(topic, records, **fields))  # type: ignore[arg-type]
    reader = Reader(answer)
    assert reader.i32() == 1
    reader.string()
    assert reader.i32() == 1
    reader.i32()
    return Produced(reader.i16(), reader.i64())


def fetch_body(
    topic: str | bytes,
    offset: int,
    *,
    partition: int = 0,
    replica: int = -1,
    max_wait_ms: int = 100,
    min_bytes: int = 1,
    max_bytes: int = 1_000_000,
    partition_max_bytes: int = 1_000_000,
    isolation: int = 0,
    session_id: int = 0,
    session_epoch: int = -1,
    leader_epoch: int = -1,
    log_start: int = -1,
) -> bytes:
    one = i32(partition) + i32(leader_epoch) + i64(offset) + i64(log_start) + i32(partition_max_bytes)
    return (
        i32(replica)
        + i32(max_wait_ms)
        + i32(min_bytes)
        + i32(max_bytes)
        + i8(isolation)
        + i32(session_id)
        + i32(session_epoch)
        + array([string(topic) + array([one])])
        + array([])
        + string("")
    )


def fetch(raw: Raw, topic: str | bytes, offset: int, **fields: int) -> Fetched:
    return read_fetch(raw.ask(FETCH, FETCH_VERSION, fetch_body(topic, offset, **fields)))


def read_fetch(answer: bytes) -> Fetched:
    reader = Reader(answer)
    reader.i32()
    error = reader.i16()
    reader.i32()
    if reader.i32() == 0:
        return Fetched(error, -1, b"")
    reader.string()
    assert reader.i32() == 1
    reader.i32()
    error = reader.i16() or error
    high_watermark = reader.i64()
    reader.i64()
    reader.i64()
    for _ in range(max(0, reader.i32())):
        reader.i64(), reader.i64()
    reader.i32()
    return Fetched(error, high_watermark, reader.bytes(max(0, reader.i32())))


def metadata_body(*topics: str | bytes | None, count: int | None = None, create: bool = True) -> bytes:
    """Version 4."""
    return array([string(topic) for topic in topics], count) + i8(create)


def metadata(raw: Raw, *topics: str | bytes, create: bool = True) -> dict[str | None, int]:
    """Error by topic."""
    reader = Reader(raw.ask(METADATA, 4, metadata_body(*topics, create=create)))
    reader.i32()
    for _ in range(reader.i32()):
        reader.i32(), reader.string(), reader.i32(), reader.string()
    reader.string(), reader.i32()
    errors: dict[str | None, int] = {}
    for _ in range(reader.i32()):
        error = reader.i16()
        errors[reader.string()] = error
        reader.i8()
        for _ in range(reader.i32()):
            reader.i16(), reader.i32(), reader.i32()
            for _ in range(2):
                for _ in range(reader.i32()):
                    reader.i32()
    return errors


def list_offsets(raw: Raw, topic: str | bytes, timestamp: int, *, partition: int = 0) -> tuple[int, int]:
    """(error, offset)"""
    body = i32(-1) + array([string(topic) + array([i32(partition) + i64(timestamp)])])
    reader = Reader(raw.ask(LIST_OFFSETS, 1, body))
    assert reader.i32() == 1
    reader.string()
    assert reader.i32() == 1
    reader.i32()
    error = reader.i16()
    reader.i64()
    return error, reader.i64()


def create_topic(
    raw: Raw,
    name: str | bytes,
    *,
    partitions: int = 1,
    replicas: int = 1,
    configs: dict[str, str | None] | None = None,
    timeout_ms: int = 20_000,
) -> int:
    """The error code."""
    entries = [string(key) + string(value) for key, value in (configs or {}).items()]
    topic = string(name) + i32(partitions) + i16(replicas) + array([]) + array(entries)
    reader = Reader(raw.ask(CREATE_TOPICS, 2, array([topic]) + i32(timeout_ms) + i8(0)))
    reader.i32()
    assert reader.i32() == 1
    reader.string()
    return reader.i16()


def delete_topic(raw: Raw, name: str) -> int:
    """The error code."""
    reader = Reader(raw.ask(DELETE_TOPICS, 1, array([string(name)]) + i32(20_000)))
    reader.i32()
    assert reader.i32() == 1
    reader.string()
    return reader.i16()


def init_producer_id(raw: Raw) -> tuple[int, int, int]:
    """(error, id, epoch)"""
    reader = Reader(raw.ask(INIT_PRODUCER_ID, 0, string(None) + i32(60_000)))
    reader.i32()
    return reader.i16(), reader.i64(), reader.i16()


def find_coordinator(raw: Raw, group: str | bytes) -> int:
    """The error code."""
    return Reader(raw.ask(FIND_COORDINATOR, 0, string(group))).i16()


def join_group_body(
    group: str | bytes,
    *,
    member: str = "",
    metadata: bytes = b"\0\0\0\0\0\0\0\0\0\0",
    protocol_type: str = "consumer",
    session_timeout_ms: int = 10_000,
    rebalance_timeout_ms: int = 10_000,
) -> bytes:
    """Versions 2 to 4."""
    protocols = array([string("range") + i32(len(metadata)) + metadata])
    body = string(group) + i32(session_timeout_ms) + i32(rebalance_timeout_ms) + string(member)
    return body + string(protocol_type) + protocols


def join_group(
    raw: Raw,
    group: str | bytes,
    *,
    member: str = "",
    metadata: bytes = b"\0\0\0\0\0\0\0\0\0\0",
    protocol_type: str = "consumer",
    session_timeout_ms: int = 10_000,
    rebalance_timeout_ms: int = 10_000,
) -> tuple[int, int, str | None]:
    """(error, generation, member id), version 2: one request is enough to be a member."""
    body = join_group_body(
        group,
        member=member,
        metadata=metadata,
        protocol_type=protocol_type,
        session_timeout_ms=session_timeout_ms,
        rebalance_timeout_ms=rebalance_timeout_ms,
    )
    reader = Reader(raw.ask(JOIN_GROUP, 2, body))
    reader.i32()
    error, generation = reader.i16(), reader.i32()
    reader.string(), reader.string()
    return error, generation, reader.string()


def offset_commit(
    raw: Raw,
    group: str | bytes,
    topic: str | bytes,
    offset: int,
    *,
    generation: int = -1,
    member: str = "",
    partition: int = 0,
    text: str | None = "",
) -> int:
    """The error code of the partition, version 2."""
    one = i32(partition) + i64(offset) + string(text)
    body = string(group) + i32(generation) + string(member) + i64(-1)
    reader = Reader(raw.ask(OFFSET_COMMIT, 2, body + array([string(topic) + array([one])])))
    assert reader.i32() == 1
    reader.string()
    assert reader.i32() == 1
    reader.i32()
    return reader.i16()


def choose_mechanism(raw: Raw, mechanism: str) -> int:
    """The error code."""
    return Reader(raw.ask(SASL_HANDSHAKE, 1, string(mechanism))).i16()


def show_token(raw: Raw, token: bytes) -> tuple[int, bytes]:
    """The error code and the answer to a token."""
    reader = Reader(raw.ask(SASL_AUTHENTICATE, 1, i32(len(token)) + token))
    error, _ = reader.i16(), reader.string()
    return error, reader.bytes(max(0, reader.i32()))


def log_in(raw: Raw, user: str, password: str) -> None:
    """By PLAIN. Raises ConnectionRefusedError."""
    error = choose_mechanism(raw, "PLAIN") or show_token(raw, f"\0{user}\0{password}".encode())[0]
    if error:
        raise ConnectionRefusedError(f"{user} may not log in: error {error}")
