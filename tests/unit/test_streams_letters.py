"""Records for the DLQ: as they came, and never too large to be sent."""

from __future__ import annotations

import pytest

from raftlog.client.record import Record
from raftlog.records.record import NewRecord, encode_batch
from raftlog.streams.outputs import Output, dead_letter

TOPIC_BYTES_MAX = 1_048_588
"""max.message.bytes of a topic by default."""


def letter(
    key: int = 1, value: int = 1, header: int = 1, message: str = "why", trace: int = 1
) -> tuple[Output, dict[str, bytes | None]]:
    """The letter of a record whose parts have so many bytes, and its headers."""
    error = ValueError(message)
    error.add_note("x" * trace)
    read = Record("in", 2, 7, 1_000, b"k" * key, b"v" * value, (("trace", b"h" * header),))
    made = dead_letter("dead", read, error)
    records = [NewRecord(made.timestamp, made.key, made.value, made.headers)]
    assert len(encode_batch(records, base_offset=0)) <= TOPIC_BYTES_MAX
    return made, dict(made.headers)


def test_a_record_comes_as_it_was_with_why_and_from_where() -> None:
    made, headers = letter()
    assert (made.key, made.value, made.timestamp, headers["trace"]) == (b"k", b"v", 1_000, b"h")
    assert headers["__streams.errors.message"] == b"why"
    assert headers["__streams.errors.offset"] == b"7"
    assert "__streams.errors.left_out" not in headers


def test_what_an_error_says_is_cut() -> None:
    _, headers = letter(message="y" * 5_000_000, trace=5_000_000)
    assert headers["__streams.errors.message"] == b"y" * 1_000
    assert headers["__streams.errors.stacktrace"] == b"x" * 7_999 + b"\n"


def test_what_an_error_says_need_not_be_unicode() -> None:
    _, headers = letter(message="\udcff")
    assert headers["__streams.errors.message"] == b"\\udcff"


@pytest.mark.parametrize(
    ("sizes", "left_out"),
    [
        ({"value": 1_040_000}, None),
        ({"value": 1_047_000, "trace": 7_000}, b"stacktrace"),
        ({"value": 600_000, "header": 600_000}, b"stacktrace, headers"),
        ({"value": 1_048_576}, b"stacktrace, value"),
        ({"value": 1_048_576, "header": 1_048_576}, b"stacktrace, headers, value"),
        ({"key": 1_048_576, "value": 100}, b"stacktrace, headers, value, key"),
    ],
)
def test_of_a_record_that_is_too_large_with_them_something_is_left_out(
    sizes: dict[str, int], left_out: bytes | None
) -> None:
    made, headers = letter(**sizes)  # type: ignore[arg-type]
    assert headers.get("__streams.errors.left_out") == left_out
    told = left_out or b""
    assert ("__streams.errors.stacktrace" in headers, "trace" in headers) == (
        b"stacktrace" not in told,
        b"headers" not in told,
    )
    assert (made.key is None, made.value is None) == (b"key" in told, b"value" in told)
    assert headers["__streams.errors.topic"] == b"in"
