"""Every message of every version, both ways, against kio; and bytes that lie."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftlog.errors import InvalidInput
from raftlog.protocol.api import VERSIONS, ApiKey
from raftlog.protocol.codec import (
    decode_request,
    decode_request_header,
    decode_response,
    encode_request,
    encode_response,
)
from raftlog.protocol.encode import encode
from raftlog.protocol.guard import ELEMENTS_MAX, FIXED_SIZES, NUMBERS_AS_ONE, scan, write_varint
from raftlog.protocol.schema import Direction, Field, Struct, message_struct, reader

MESSAGES: list[tuple[ApiKey, int, Direction]] = [
    (api, version, direction)
    for api, versions in VERSIONS.items()
    for version in range(versions.first, versions.last + 1)
    for direction in ("request", "response")
]

_INTEGERS = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "error_code": (-1, 119),
    "timedelta_i32": (0, 2**31 - 1),
    "timedelta_i64": (0, 2**40),
    "datetime_i64": (0, 2**41),
}


def values_of(field: Field) -> st.SearchStrategy[Any]:
    if field.array:
        one = Field(
            name=field.name,
            kind=field.kind,
            array=False,
            nullable=False,
            struct=field.struct,
            tag=None,
            default=None,
        )
        arrays = st.lists(values_of(one), max_size=2)
        return st.none() | arrays if field.nullable and field.tag is None else arrays
    if field.struct:
        plain: st.SearchStrategy[Any] = fields_of(field.struct)
    elif field.kind == "bool":
        plain = st.booleans()
    elif field.kind == "float64":
        plain = st.floats(allow_nan=False)
    elif field.kind == "uuid":
        return st.binary(min_size=16, max_size=16)
    elif field.kind == "string":
        plain = st.text(max_size=4)
    elif field.kind in ("bytes", "records"):
        plain = st.binary(max_size=6) | st.just(b"x" * 5000)
    else:
        return st.integers(*_INTEGERS[field.kind])
    return st.none() | plain if field.nullable and field.tag is None else plain


def fields_of(layout: Struct) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {field.name: values_of(field) for field in layout.fields},
        optional={field.name: values_of(field) for field in layout.tagged.values()},
    )


def written_by_kio(message: Any) -> bytes:
    from kio.serial import entity_writer

    buffer = io.BytesIO()
    entity_writer(type(message))(buffer, message)
    return buffer.getvalue()


quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(data=st.data(), which=st.sampled_from(MESSAGES))
def test_what_is_encoded_is_what_kio_writes(
    data: st.DataObject, which: tuple[ApiKey, int, Direction]
) -> None:
    api, version, direction = which
    fields = data.draw(fields_of(message_struct(api, version, direction)))
    body = b"".join(encode(api, version, direction, fields))
    scanned, position = scan(memoryview(body), 0, api, version, direction)
    assert position == 0 and scanned == body
    message, size = reader(api, version, direction)(scanned, 0)
    assert size == len(body)
    assert written_by_kio(message) == body


def test_an_empty_tagged_array_is_left_out_whatever_it_is_made_of() -> None:
    fields = {"error_code": 0, "api_keys": [], "throttle_time": 0}
    for empty in ([], ()):
        given = encode(ApiKey.API_VERSIONS, 3, "response", fields | {"supported_features": empty})
        assert given == encode(ApiKey.API_VERSIONS, 3, "response", fields)


@pytest.mark.parametrize("api", list(ApiKey))
def test_every_version_can_be_written_and_read(api: ApiKey) -> None:
    versions = VERSIONS[api]
    for version in range(versions.first, versions.last + 1):
        request = smallest(message_struct(api, version, "request"))
        frame = b"".join(encode_request(api, version, 7, "me", request))
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4
        header = decode_request_header(frame[4:])
        assert header[:4] == (api, version, 7, "me")
        decode_request(frame[4:] + b"left behind", header)
        response = smallest(message_struct(api, version, "response"))
        frame = b"".join(encode_response(api, version, 9, response))
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4
        assert decode_response(api, version, frame[4:])[0] == 9


def smallest(layout: Struct) -> dict[str, Any]:
    """A value of every field with one element in every array."""

    def one(field: Field) -> Any:
        if field.struct:
            value: Any = smallest(field.struct)
        elif field.kind in ("string", "bytes", "records"):
            value = "" if field.kind == "string" else b""
        else:
            value = bytes(16) if field.kind == "uuid" else 0
        return [value] if field.array else value

    return {field.name: one(field) for field in layout.fields}


@quick
@given(data=st.data(), which=st.sampled_from(MESSAGES))
def test_a_message_that_is_cut_off_is_refused(
    data: st.DataObject, which: tuple[ApiKey, int, Direction]
) -> None:
    api, version, direction = which
    body = b"".join(encode(api, version, direction, smallest(message_struct(api, version, direction))))
    for end in range(len(body)):
        with pytest.raises(InvalidInput):
            scan(memoryview(body[:end]), 0, api, version, direction)


@settings(quick, max_examples=150)
@given(data=st.data(), which=st.sampled_from(MESSAGES))
def test_bytes_that_lie_end_in_a_message_or_in_invalid_input(
    data: st.DataObject, which: tuple[ApiKey, int, Direction]
) -> None:
    api, version, direction = which
    body = bytearray(
        b"".join(encode(api, version, direction, smallest(message_struct(api, version, direction))))
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(body) - 1)))
        body[at : at + data.draw(st.integers(0, 5))] = data.draw(
            st.sampled_from(
                [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80", b"\x02", b""]
            )
        )
    frame = bytes(4) + bytes(body)
    try:
        if direction == "response":
            decode_response(api, version, frame + bytes(1))
        else:
            request = b"".join(
                encode_request(api, version, 1, None, smallest(message_struct(api, version, direction)))
            )
            header = decode_request_header(request[4:])
            decode_request(request[4 : 4 + header.body] + bytes(body), header)
    except InvalidInput:
        pass


FLEXIBLE = [which for which in MESSAGES if which[1] >= VERSIONS[which[0]].flexible]


@quick
@given(data=st.data(), which=st.sampled_from(FLEXIBLE))
def test_unknown_tagged_fields_are_skipped(data: st.DataObject, which: tuple[ApiKey, int, Direction]) -> None:
    """A newer peer's tagged field changes nothing in what is read, at any depth."""
    api, version, direction = which
    layout = message_struct(api, version, direction)
    fields = data.draw(fields_of(layout))
    plain = b"".join(encode(api, version, direction, fields))
    tagged = _encode_with_unknown_tag(layout, fields)
    scanned, position = scan(memoryview(tagged), 0, api, version, direction)
    read = reader(api, version, direction)
    assert read(scanned.toreadonly(), position)[0] == read(memoryview(plain), 0)[0]


def _encode_with_unknown_tag(layout: Struct, fields: dict[str, Any]) -> bytes:
    """As `encode` writes it, with tag 60 of 300 bytes at the end of every struct. Written apart from it."""
    out = b""
    for field in layout.fields:
        out += _value(field, fields[field.name])
    tags = [
        (tag, _value(field, fields[field.name], tagged=True))
        for tag, field in layout.tagged.items()
        if field.name in fields and fields[field.name] != field.default
    ]
    tags.append((60, b"z" * 300))
    return (
        out + write_varint(len(tags)) + b"".join(write_varint(t) + write_varint(len(v)) + v for t, v in tags)
    )


def _value(field: Field, value: Any, *, tagged: bool = False) -> bytes:
    if field.array:
        if value is None:
            return b"\0"
        one = Field(
            name="", kind=field.kind, array=False, nullable=False, struct=field.struct, tag=None, default=None
        )
        return write_varint(len(value) + 1) + b"".join(_value(one, each) for each in value)
    if field.struct:
        marked = field.nullable and not tagged
        if value is None:
            return b"\xff"
        return (b"\x01" if marked else b"") + _encode_with_unknown_tag(field.struct, value)
    if field.kind in FIXED_SIZES:
        import struct

        if field.kind == "uuid":
            return bytes(value)
        if field.kind == "float64":
            return struct.pack(">d", value)
        return int(value).to_bytes(FIXED_SIZES[field.kind], "big", signed=field.kind != "uint16")
    if value is None:
        return b"\0"
    raw = value.encode() if isinstance(value, str) else value
    return write_varint(len(raw) + 1) + raw


@pytest.mark.parametrize("count", [b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x08"])
def test_a_count_larger_than_the_message_is_refused_before_kio_sees_it(count: bytes) -> None:
    """33 bytes that abort a process (kio 0.6.5): Metadata v12 of four billion topics."""
    frame = b"\0\x03\0\x0c\0\0\0\x01\xff\xff\0" + count + bytes(16)
    with pytest.raises(InvalidInput, match="elements"):
        decode_request(frame, decode_request_header(frame))


def test_more_elements_than_anybody_needs_are_refused() -> None:
    """A byte each on the wire, an object each in memory."""
    most = ELEMENTS_MAX["request"]

    def decode(groups: int) -> Any:
        fields = {"groups": [""] * groups, "include_authorized_operations": False}
        frame = b"".join(encode_request(ApiKey.DESCRIBE_GROUPS, 5, 1, None, fields))[4:]
        return decode_request(frame, decode_request_header(frame))

    assert len(decode(most).groups) == most
    with pytest.raises(InvalidInput, match="elements"):
        decode(most + 1)


def test_more_rows_of_fixed_size_and_more_numbers_than_anybody_needs_are_refused() -> None:
    """They need no walk, yet each is an object of the reader's and a row of the handler's: a Fetch of
    100 MB of them would stop everything for minutes."""
    most = ELEMENTS_MAX["request"]

    def decode(api: ApiKey, fields: dict[str, Any]) -> Any:
        frame = b"".join(encode_request(api, 0, 1, None, fields))[4:]
        return decode_request(frame, decode_request_header(frame))

    def deletion(rows: int) -> dict[str, Any]:
        row = {"partition_index": 0, "offset": 0}
        return {"topics": [{"name": "t", "partitions": [row] * rows}], "timeout": 1000}

    def numbers(count: int) -> dict[str, Any]:
        return {"timeout": 1000, "topics": [{"name": "t", "partition_indexes": [1] * count}]}

    decode(ApiKey.DELETE_RECORDS, deletion(most - 1))
    decode(ApiKey.LIST_PARTITION_REASSIGNMENTS, numbers(most))
    with pytest.raises(InvalidInput, match="elements"):
        decode(ApiKey.DELETE_RECORDS, deletion(most))
    with pytest.raises(InvalidInput, match="elements"):
        decode(ApiKey.LIST_PARTITION_REASSIGNMENTS, numbers(NUMBERS_AS_ONE * most))


def test_the_rows_of_ten_thousand_partitions_are_not_too_many() -> None:
    """What a consumer or a mover of that many names in one request; ten times as many held up the loop."""
    assert 2 * 10_000 <= ELEMENTS_MAX["request"] < 10 * 10_000
