"""What is read and written by hand, against kio, in every version."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.errors import InvalidInput
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import (
    RequestHeader,
    decode_request_header,
    decode_response,
    encode_request,
    encode_response,
)
from raftlog.protocol.fetch import FetchAnswer, encode_fetch_response
from raftlog.protocol.heartbeat import encode_heartbeat_response
from raftlog.protocol.produce import (
    PARTITIONS_MAX,
    NodeEndpoint,
    ProduceAnswer,
    decode_produce_request,
    encode_produce_response,
)

quick = settings(max_examples=60, deadline=None)

i16 = st.integers(-(2**15), 2**15 - 1)
i32 = st.integers(-(2**31), 2**31 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
codes = st.integers(-1, 119)
names = st.text(max_size=8) | st.just("n" * 200)
ids = st.binary(min_size=16, max_size=16).filter(any)
leaders = st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9))
endpoints = st.lists(
    st.builds(NodeEndpoint, i32, names, st.integers(0, 65535), st.none() | names), max_size=3
)
records = st.none() | st.binary(max_size=300)


def expected_offsets(version: int) -> st.SearchStrategy[int | None]:
    """Which offset a batch must get: in a tagged field, which the first versions do not have."""
    return st.none() | st.integers(0, 2**63 - 1) if version >= 9 else st.none()


def topics_of(version: int, ids_from: int, partitions: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(
        st.tuples(ids if version >= ids_from else names, st.lists(partitions, max_size=3)), max_size=3
    )


@quick
@given(data=st.data(), version=st.integers(3, 13), acks=i16, timeout=i32, name=st.none() | names)
def test_produce_requests_are_read_as_they_were_written(
    data: st.DataObject, version: int, acks: int, timeout: int, name: str | None
) -> None:
    topics = data.draw(topics_of(version, 13, st.tuples(i32, records, expected_offsets(version))))
    fields = {
        "transactional_id": name,
        "acks": acks,
        "timeout": timeout,
        "topic_data": [
            {
                "name": topic,
                "topic_id": topic,
                "partition_data": [
                    {"index": index, "records": each, "expected_offset": -1 if expected is None else expected}
                    for index, each, expected in partitions
                ],
            }
            for topic, partitions in topics
        ],
    }
    frame = bytearray(b"".join(encode_request(ApiKey.PRODUCE, version, 5, "me", fields))[4:])
    request = decode_produce_request(frame, decode_request_header(frame))
    assert request.transactional_id == name
    assert (request.acks, request.timeout_ms) == (acks, timeout)
    assert [(topic, [tuple(each) for each in partitions]) for topic, partitions in request.topics] == topics
    expected = [each[2] for _, partitions in topics for each in partitions]
    assert request.compares is any(each is not None for each in expected)
    for end in range(data.draw(st.integers(10, len(frame) - 1)), len(frame)):
        with pytest.raises(InvalidInput):
            cut = frame[:end]
            decode_produce_request(cut, decode_request_header(cut))


def test_records_share_the_frame_they_came_in() -> None:
    fields = {
        "acks": -1,
        "timeout": 1,
        "topic_data": [{"name": "t", "partition_data": [{"index": 0, "records": b"abc"}]}],
    }
    frame = bytearray(b"".join(encode_request(ApiKey.PRODUCE, 9, 5, "me", fields))[4:])
    data = decode_produce_request(frame, decode_request_header(frame)).topics[0].partitions[0].records
    assert data is not None
    data[0] = ord("z")
    assert b"zbc" in frame


@quick
@given(junk=st.binary(max_size=60), version=st.integers(3, 13))
def test_a_produce_request_of_junk_is_refused_or_read(junk: bytes, version: int) -> None:
    try:
        decode_produce_request(bytearray(junk), RequestHeader(0, version, 1, None, 0))
    except InvalidInput:
        pass


@quick
@given(data=st.data(), version=st.integers(3, 13), nodes=endpoints)
def test_produce_answers_are_what_kio_would_write(
    data: st.DataObject, version: int, nodes: list[NodeEndpoint]
) -> None:
    times = st.just(-1) | st.integers(0, 2**41)
    bad = st.lists(st.integers(0, 1000), max_size=3)
    answers = st.builds(ProduceAnswer, i32, codes, i64, times, i64, st.none() | names, leaders, bad)
    topics = data.draw(topics_of(version, 13, answers))
    frame = encode_produce_response(version, 77, topics, nodes)
    fields = {
        "responses": [
            {
                "name": topic,
                "topic_id": topic,
                "partition_responses": [
                    {
                        "index": a.partition,
                        "error_code": a.error,
                        "base_offset": a.base_offset,
                        "log_append_time": a.log_append_time,
                        "log_start_offset": a.log_start_offset,
                        "record_errors": [
                            {"batch_index": number, "batch_index_error_message": a.message}
                            for number in a.bad_records
                        ],
                        "error_message": a.message,
                        **_leader_of(a.leader),
                    }
                    for a in partitions
                ],
            }
            for topic, partitions in topics
        ],
        **_nodes_of(nodes),
    }
    assert frame == b"".join(encode_response(ApiKey.PRODUCE, version, 77, fields))
    assert decode_response(ApiKey.PRODUCE, version, frame[4:])[0] == 77


@quick
@given(data=st.data(), version=st.integers(4, 17), nodes=endpoints, error=codes)
def test_fetch_answers_are_what_kio_would_write(
    data: st.DataObject, version: int, nodes: list[NodeEndpoint], error: int
) -> None:
    batches = st.binary(max_size=300)
    answers = st.builds(
        lambda index, code, end, start, each, leader, stable, aborted: FetchAnswer(
            index, code, end, start, each, len(each), leader, stable, aborted
        ),
        i32,
        codes,
        i64,
        i64,
        batches,
        leaders,
        i64,
        st.lists(st.tuples(i64, i64), max_size=3),
    )
    topics = data.draw(topics_of(version, 13, answers))
    chunks = encode_fetch_response(version, 77, topics, nodes, error=error)
    fields = {
        "error_code": error,
        "session_id": 0,
        "responses": [
            {
                "topic": topic,
                "topic_id": topic,
                "partitions": [
                    {
                        "partition_index": a.partition,
                        "error_code": a.error,
                        "high_watermark": a.high_watermark,
                        "last_stable_offset": a.last_stable_offset,
                        "log_start_offset": a.log_start_offset,
                        "aborted_transactions": [
                            {"producer_id": producer_id, "first_offset": first}
                            for producer_id, first in a.aborted
                        ],
                        "preferred_read_replica": -1,
                        "records": a.records,
                        **_leader_of(a.leader),
                    }
                    for a in partitions
                ],
            }
            for topic, partitions in topics
        ],
        **_nodes_of(nodes),
    }
    frame = b"".join(bytes(chunk) for chunk in chunks)  # type: ignore[call-overload]
    assert frame == b"".join(encode_response(ApiKey.FETCH, version, 77, fields))
    assert decode_response(ApiKey.FETCH, version, frame[4:])[0] == 77


@quick
@given(version=st.integers(0, 4), correlation_id=i32, error=codes)
def test_heartbeat_answers_are_what_kio_would_write(version: int, correlation_id: int, error: int) -> None:
    written = b"".join(encode_response(ApiKey.HEARTBEAT, version, correlation_id, {"error_code": error}))
    assert encode_heartbeat_response(version, correlation_id, error) == written


def _leader_of(leader: tuple[int, int] | None) -> dict[str, Any]:
    return {"current_leader": {"leader_id": leader[0], "leader_epoch": leader[1]}} if leader else {}


def _nodes_of(nodes: list[NodeEndpoint]) -> dict[str, Any]:
    return {"node_endpoints": [node._asdict() for node in nodes]} if nodes else {}


@pytest.mark.parametrize("version", [8, 9])
def test_more_partitions_than_anybody_needs_are_refused(version: int) -> None:
    def request(topics: int, partitions: int) -> bytearray:
        data = [{"index": 0, "records": None}] * partitions
        fields = {"acks": 1, "timeout": 1, "topic_data": [{"name": "", "partition_data": data}] * topics}
        return bytearray(b"".join(encode_request(ApiKey.PRODUCE, version, 1, None, fields))[4:])

    fits = request(100, 198)
    assert len(decode_produce_request(fits, decode_request_header(fits)).topics) == 100
    for topics, partitions in ((1, PARTITIONS_MAX + 1), (101, 200), (PARTITIONS_MAX + 1, 0)):
        frame = request(topics, partitions)
        with pytest.raises(InvalidInput, match="elements"):
            decode_produce_request(frame, decode_request_header(frame))
