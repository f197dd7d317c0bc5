"""Requests whose fields lie: names, numbers, counts, tagged fields."""

from __future__ import annotations

import math
import struct
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.badinput import requests
from tests.badinput.conftest import Victim
from tests.badinput.wire import (
    ALTER_CLIENT_QUOTAS,
    API_VERSIONS,
    CREATE_PARTITIONS,
    CREATE_TOPICS,
    DELETE_RECORDS,
    DELETE_TOPICS,
    DESCRIBE_CLIENT_QUOTAS,
    FIND_COORDINATOR,
    HEARTBEAT,
    INIT_PRODUCER_ID,
    JOIN_GROUP,
    METADATA,
    OFFSET_FETCH,
    Reader,
    array,
    compact,
    compact_array,
    framed,
    header,
    i8,
    i16,
    i32,
    i64,
    string,
    uvarint,
)

UNKNOWN_TOPIC = 3
TIMED_OUT = 7
OFFSET_METADATA_TOO_LARGE = 12
INVALID_TOPIC = 17
INVALID_REQUIRED_ACKS = 21
ILLEGAL_GENERATION = 22
INCONSISTENT_GROUP_PROTOCOL = 23
INVALID_GROUP_ID = 24
UNKNOWN_MEMBER_ID = 25
INVALID_SESSION_TIMEOUT = 26
UNSUPPORTED_VERSION = 35
INVALID_PARTITIONS = 37
INVALID_REPLICATION_FACTOR = 38
INVALID_CONFIG = 40
MEMBER_ID_REQUIRED = 79
GROUP_MAX_SIZE_REACHED = 81

BAD_NAMES = {
    "empty": "",
    "dot": ".",
    "dots": "..",
    "slash": "a/b",
    "path": "../../etc/passwd",
    "nul": "a\0b",
    "newline": "a\nb",
    "space": "a b",
    "colon": "a:b",
    "umlaut": "ünï",
    "the metadata log's": "__cluster_metadata",
    "the share groups'": "__share_group_state",
    "250": "x" * 250,
    "32767": "x" * 32767,
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_topic_names_that_cannot_be(victim: Victim, name: str) -> None:
    with victim.connect() as raw:
        assert requests.create_topic(raw, name) == INVALID_TOPIC
        assert requests.metadata(raw, name) == {name: INVALID_TOPIC}, "nor is it created on first use"
        assert requests.produce(raw, name, b"").error in (INVALID_TOPIC, UNKNOWN_TOPIC)
        assert requests.fetch(raw, name, 0).error in (INVALID_TOPIC, UNKNOWN_TOPIC)
        assert requests.list_offsets(raw, name, -1)[0] in (INVALID_TOPIC, UNKNOWN_TOPIC)


def test_names_leave_no_trace_in_the_file_system(victim: Victim) -> None:
    """2017-12610 and the like: nothing that a client says is a path. Folders of topics are made by us."""
    data = Path(victim.broker.data_dir)
    before = {path.name for path in data.parent.iterdir()}
    with victim.connect() as raw:
        for name in BAD_NAMES.values():
            requests.create_topic(raw, name)
            requests.metadata(raw, name)
            requests.find_coordinator(raw, name)
            requests.join_group(raw, f"../{name}"[:300], rebalance_timeout_ms=1000)
            requests.offset_commit(raw, f"/tmp/{name}"[:300], "bystander", 1)
    assert {path.name for path in data.parent.iterdir()} == before
    assert all(path.resolve().is_relative_to(data.resolve()) for path in data.rglob("*"))
    assert not [path for path in data.rglob("*") if "etc" in path.name or "passwd" in path.name]


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80"], ids=lambda name: name.hex())
def test_a_topic_name_that_is_not_utf8(victim: Victim, name: bytes) -> None:
    body = requests.metadata_body(name)
    victim.assert_closed(framed(header(METADATA, 4) + body), "METADATA v4 request")


def test_names_that_collide_in_metrics(victim: Victim) -> None:
    """Kafka refuses a.b beside a_b; names that differ in case are two topics."""
    base = victim.topic().replace("-", "")
    with victim.connect() as raw:
        assert requests.create_topic(raw, f"{base}.x_y") == 0
        assert requests.create_topic(raw, f"{base}_x.y") == INVALID_TOPIC
        assert requests.create_topic(raw, f"{base}-case") == 0
        assert requests.create_topic(raw, f"{base}-CASE") == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"partitions": 0}, INVALID_PARTITIONS),
        ({"partitions": -2}, INVALID_PARTITIONS),
        ({"partitions": 2**31 - 1}, INVALID_PARTITIONS),
        ({"partitions": 1_000_000}, INVALID_PARTITIONS),
        ({"replicas": 0}, INVALID_REPLICATION_FACTOR),
        ({"replicas": -2}, INVALID_REPLICATION_FACTOR),
        ({"replicas": 32767}, INVALID_REPLICATION_FACTOR),
        ({"configs": {"retention.ms": "-2"}}, INVALID_CONFIG),
        ({"configs": {"segment.bytes": "1e9"}}, INVALID_CONFIG),
        ({"configs": {"": "1"}}, INVALID_CONFIG),
        ({"configs": {"x" * 30000: "1"}}, INVALID_CONFIG),
    ],
    ids=str,
)
def test_topics_that_cannot_be(victim: Victim, fields: dict[str, object], code: int) -> None:
    with victim.connect() as raw:
        assert requests.create_topic(raw, "never", **fields) == code  # type: ignore[arg-type]
        assert requests.metadata(raw, "never", create=False) == {"never": UNKNOWN_TOPIC}


@pytest.mark.parametrize("partition", [-1, 1, 2**31 - 1, -(2**31)])
def test_partitions_that_are_not_there(victim: Victim, partition: int) -> None:
    topic = victim.topic()
    with victim.connect() as raw:
        assert requests.produce(raw, topic, b"", partition=partition).error == UNKNOWN_TOPIC
        assert requests.fetch(raw, topic, 0, partition=partition).error == UNKNOWN_TOPIC
        assert requests.list_offsets(raw, topic, -1, partition=partition)[0] == UNKNOWN_TOPIC


@pytest.mark.parametrize("acks", [2, -2, 32767])
def test_acks_that_mean_nothing(victim: Victim, acks: int) -> None:
    with victim.connect() as raw:
        produced = requests.produce(raw, victim.topic(), b"", acks=acks)
        assert produced.error == INVALID_REQUIRED_ACKS


def test_an_error_of_acks_0_closes_the_connection(victim: Victim) -> None:
    """There is no answer that could say it."""
    body = requests.produce_body("no-such-topic", b"junk", acks=0)
    victim.assert_closed(framed(header(0, 7) + body), "acks=0")


@pytest.mark.parametrize(
    "records", [i32(-2), i32(-(2**31)), i32(2**31 - 1), i32(1000) + b"x"], ids=lambda length: length.hex()
)
def test_a_length_of_records_that_lies(victim: Victim, records: bytes) -> None:
    one = string(victim.topic()) + array([i32(0) + records])
    body = string(None) + i16(-1) + i32(1000) + array([one])
    victim.assert_closed(framed(header(0, 7) + body), "PRODUCE")


# Counts that announce more than there is.

HUGE = [2**31 - 1, 2**24, 1000]


@pytest.mark.parametrize("count", [*HUGE, -2, -(2**31)])
def test_cve_2026_111108_an_array_count_that_lies(victim: Victim, count: int) -> None:
    """Kafka up to 4.3.1 allocated the array before its elements were there."""
    victim.assert_closed(
        framed(header(METADATA, 4) + requests.metadata_body("a", count=count)), "METADATA v4 request"
    )


@pytest.mark.parametrize("count", [2**32 - 2, *HUGE, 2**63])
def test_cve_2022_34917_a_compact_array_count_that_lies(victim: Victim, count: int) -> None:
    """The reader of this broker's codec would abort the process for it: 33 bytes, unauthenticated."""
    topics = compact_array([bytes(16) + compact("a") + b"\0"], count)
    victim.assert_closed(
        framed(header(METADATA, 12, tags=b"\0") + topics + i8(0) + i8(0) + b"\0"), "METADATA v12 request"
    )


@pytest.mark.parametrize("count", [2**32 - 2, 2**31 - 1])
def test_nested_counts_that_lie(victim: Victim, count: int) -> None:
    topic = compact("t") + i32(1) + i16(1) + compact_array([], count)
    body = compact_array([topic]) + i32(1000) + i8(0) + b"\0"
    victim.assert_closed(framed(header(CREATE_TOPICS, 7, tags=b"\0") + body), "CREATE_TOPICS v7 request")


@pytest.mark.parametrize("size", range(6, 12))
def test_a_number_of_too_many_bytes(victim: Victim, size: int) -> None:
    number = b"\xff" * (size - 1) + b"\x01"
    victim.assert_closed(
        framed(header(METADATA, 12, tags=b"\0") + number + bytes(20)), "METADATA v12 request"
    )


@pytest.mark.parametrize("number", [b"\x80\0", b"\x80\x80\x80\x80\0"], ids=lambda number: number.hex())
def test_a_number_that_is_longer_than_it_need_be(victim: Victim, number: bytes) -> None:
    """Zero, as nobody writes it: taken for what it is, or refused, and the next request is none the worse."""
    with victim.connect() as raw:
        raw.send(framed(header(API_VERSIONS, 3, tags=number) + _api_versions(number)))
        raw.send_no_more()
        raw.wait_closed()


@pytest.mark.parametrize("length", [-2, -32768, 32767])
def test_a_string_length_that_lies(victim: Victim, length: int) -> None:
    body = array([i16(length) + b"abc"]) + i8(1)
    victim.assert_closed(framed(header(METADATA, 4) + body), "METADATA v4 request")


# Tagged fields.


def _tags(*fields: tuple[int, bytes], count: int | None = None) -> bytes:
    body = b"".join(uvarint(number) + uvarint(len(data)) + data for number, data in fields)
    return uvarint(len(fields) if count is None else count) + body


def _api_versions(tags: bytes) -> bytes:
    return compact("test") + compact("1.0") + tags


@pytest.mark.parametrize(
    "tags",
    [
        _tags((1000, b"x")),
        _tags((0, b""), (1, b"x" * 100)),
        _tags((2**31 - 1, b"x" * 10_000)),
    ],
    ids=["one", "two", "large"],
)
def test_unknown_tagged_fields_are_skipped(victim: Victim, tags: bytes) -> None:
    """As newer clients will send them, in the header and in the body."""
    with victim.connect() as raw:
        assert raw.ask(API_VERSIONS, 3, _api_versions(tags), tags=tags)[:2] == i16(0)


@pytest.mark.parametrize(
    "tags",
    [_tags((1000, b"x"), (1000, b"y")), _tags((1001, b"x"), (1000, b"y"))],
    ids=["one twice", "out of order"],
)
def test_tagged_fields_that_do_not_rise(victim: Victim, tags: bytes) -> None:
    """KIP-482: each once, in their order."""
    victim.assert_closed(
        framed(header(API_VERSIONS, 3, tags=b"\0") + _api_versions(tags)), "API_VERSIONS v3 request"
    )


@pytest.mark.parametrize("count", [2**31 - 1, 2**32 - 1, 1_000_000])
def test_cve_2026_111115_a_flood_of_tagged_fields(victim: Victim, count: int) -> None:
    """Kafka kept them all, by the million."""
    tags = _tags(count=count)
    victim.assert_closed(framed(header(API_VERSIONS, 3, tags=tags) + _api_versions(b"\0")), "tagged fields")
    victim.assert_closed(
        framed(header(API_VERSIONS, 3, tags=b"\0") + _api_versions(tags)), "API_VERSIONS v3 request"
    )


def test_a_million_tagged_fields_that_are_there(victim: Victim) -> None:
    many = _tags(*((number, b"") for number in range(300_000)))
    for tags, body in ((many, _api_versions(b"\0")), (b"\0", _api_versions(many))):
        with victim.connect() as raw:
            raw.send(framed(header(API_VERSIONS, 3, tags=tags) + body))
            raw.wait_closed()


@pytest.mark.parametrize("size", [2**31 - 1, 2**32 - 1, 1000])
def test_a_tagged_field_larger_than_the_request(victim: Victim, size: int) -> None:
    tags = uvarint(1) + uvarint(5) + uvarint(size) + b"x"
    victim.assert_closed(
        framed(header(API_VERSIONS, 3, tags=b"\0") + _api_versions(tags)), "API_VERSIONS v3 request"
    )


# Groups.


@pytest.mark.parametrize("session_ms", [0, -1, 1, 2**31 - 1, -(2**31)])
def test_session_timeouts_that_cannot_be(victim: Victim, session_ms: int) -> None:
    with victim.connect() as raw:
        error, _, _ = requests.join_group(raw, "bad-session", session_timeout_ms=session_ms)
        assert error == INVALID_SESSION_TIMEOUT


def test_groups_without_a_name_or_a_protocol(victim: Victim) -> None:
    with victim.connect() as raw:
        assert requests.join_group(raw, "")[0] == INVALID_GROUP_ID
        assert requests.join_group(raw, "no-type", protocol_type="")[0] == INCONSISTENT_GROUP_PROTOCOL


def test_members_that_nobody_knows(victim: Victim) -> None:
    with victim.connect() as raw:
        assert requests.join_group(raw, "strangers", member="ghost")[0] == UNKNOWN_MEMBER_ID
        heartbeat = string("strangers") + i32(1) + string("ghost")
        assert raw.ask(HEARTBEAT, 0, heartbeat)[:2] == i16(UNKNOWN_MEMBER_ID)
        topic = victim.topic()
        # With a generation and no such group: ILLEGAL_GENERATION, as Kafka says it.
        error = requests.offset_commit(raw, "strangers", topic, 1, generation=3, member="ghost")
        assert error in (ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID)


def test_commits_of_another_generation_are_refused(victim: Victim) -> None:
    topic, group = victim.topic(), "generations"
    with victim.connect() as raw:
        error, generation, member = requests.join_group(raw, group)
        assert error == 0 and member
        wrong = {"generation": generation + 1, "member": member}
        assert requests.offset_commit(raw, group, topic, 1, **wrong) == ILLEGAL_GENERATION  # type: ignore[arg-type]
        stranger = {"generation": generation, "member": "ghost"}
        assert requests.offset_commit(raw, group, topic, 1, **stranger) == UNKNOWN_MEMBER_ID  # type: ignore[arg-type]


def test_a_commit_with_a_long_text(victim: Victim) -> None:
    topic = victim.topic()
    with victim.connect() as raw:
        assert requests.offset_commit(raw, "texts", topic, 1, text="x" * 4096) == 0
        error = requests.offset_commit(raw, "texts", topic, 2, text="x" * 4097)
        assert error == OFFSET_METADATA_TOO_LARGE


@pytest.mark.parametrize("group", ["../../x", "a\0b", "ünï", "x" * 32767], ids=lambda name: name[:8])
def test_group_names_may_be_anything_and_are_not_paths(victim: Victim, group: str) -> None:
    topic = victim.topic()
    with victim.connect() as raw:
        assert requests.offset_commit(raw, group, topic, 5) in (0, INVALID_GROUP_ID)
        raw.ask(OFFSET_FETCH, 1, string(group) + array([string(topic) + array([i32(0)])]))


@pytest.mark.parametrize("size", [1_000_000, 4_000_000])
def test_a_member_with_megabytes_of_metadata(victim: Victim, size: int) -> None:
    """It may be large, it may be nonsense; others can still look at the group."""
    group = f"heavy-{size}"
    with victim.connect() as raw:
        error, _, member = requests.join_group(raw, group, metadata=b"\xff" * size)
        assert (error, bool(member)) == (0, True) or error == GROUP_MAX_SIZE_REACHED
        reader = Reader(raw.ask(15, 0, array([string(group)])))
        assert reader.i32() == 1


def test_a_member_with_more_metadata_than_a_request_may_have(victim: Victim) -> None:
    victim.assert_closed(i32(10 << 20) + header(JOIN_GROUP, 2), f"frame of {10 << 20} bytes")


@pytest.mark.slow
@pytest.mark.long
def test_ten_thousand_members_that_never_come_back(victim: Victim) -> None:
    """Each is given an id, and should ask again by it (KIP-394). Whoever means it becomes a member."""
    body = requests.join_group_body("crowd")
    with victim.connect() as raw:
        for _ in range(100):
            answers = raw.ask_many(JOIN_GROUP, 4, [body] * 100)
            errors = {Reader(answer[4:]).i16() for answer in answers}
            assert errors <= {MEMBER_ID_REQUIRED, GROUP_MAX_SIZE_REACHED}, errors
        error, _, member = requests.join_group(raw, "another")
        assert (error, bool(member)) == (0, True)


@pytest.mark.slow
def test_a_thousand_members(victim: Victim) -> None:
    """Each on a connection of its own, with ten kilobytes of metadata: all of them are told of each other."""
    join = framed(header(JOIN_GROUP, 2) + requests.join_group_body("large", metadata=b"x" * 10_000))
    with ExitStack() as stack:
        members = [stack.enter_context(victim.connect()) for _ in range(1000)]
        for raw in members:
            raw.send(join)
        victim.bystander.check()
        for raw in members[:3]:
            raw.receive()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7e308], ids=str)
def test_quotas_that_are_no_numbers(victim: Victim, value: float) -> None:
    entity = array([string("client-id") + string("nan")])
    op = string("producer_byte_rate") + struct.pack(">d", value) + i8(0)
    with victim.connect() as raw:
        raw.ask(ALTER_CLIENT_QUOTAS, 0, array([entity + array([op])]) + i8(0))
        raw.ask(DESCRIBE_CLIENT_QUOTAS, 0, array([]) + i8(0))


@pytest.mark.parametrize(
    "name", ["", "../../x", "a\0b", "a\nb", "ünï", "x" * 32767], ids=lambda name: name[:8]
)
def test_transactional_ids_may_be_anything_and_are_not_paths(victim: Victim, name: str) -> None:
    data = Path(victim.broker.data_dir)
    before = {path.name for path in data.parent.iterdir()}
    with victim.connect() as raw:
        raw.ask(INIT_PRODUCER_ID, 0, string(name) + i32(60_000))
        raw.ask(INIT_PRODUCER_ID, 0, string(name) + i32(-1))
        raw.ask(FIND_COORDINATOR, 1, string(name) + i8(1))
    assert {path.name for path in data.parent.iterdir()} == before
    assert all(path.resolve().is_relative_to(data.resolve()) for path in data.rglob("*"))


@pytest.mark.parametrize("timeout_ms", [-1, -(1 << 31)])
def test_a_time_out_below_nothing_is_over_at_once(victim: Victim, timeout_ms: int) -> None:
    """Found by the fuzzer: the handlers failed, which is an ERROR in the log."""
    topic, timeout = victim.topic(), i32(timeout_ms)
    with victim.connect() as raw:
        assert requests.create_topic(raw, f"{topic}-2", timeout_ms=timeout_ms) in (0, TIMED_OUT)
        raw.ask(DELETE_RECORDS, 0, array([string(topic) + array([i32(0) + i64(-1)])]) + timeout)
        raw.ask(CREATE_PARTITIONS, 0, array([string(topic) + i32(2) + i32(-1)]) + timeout + i8(0))
        raw.ask(DELETE_TOPICS, 1, array([string(topic)]) + timeout)
