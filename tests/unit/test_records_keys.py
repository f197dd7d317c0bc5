"""Which records of a batch have no key."""

from __future__ import annotations

import pytest

from raftlog.errors import InvalidBatch
from raftlog.records.batch import Codec, read_header, stamp_append_time
from raftlog.records.keys import keyless_records
from raftlog.records.record import NewRecord, encode_batch


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([b"a"], []),
        ([b""], []),
        ([None], [0]),
        ([b"a", None, b"b" * 300, None], [1, 3]),
        ([b"k"] * 9000 + [None], [9000]),
    ],
)
def test_they_are_named_by_their_place(codec: Codec, keys: list[bytes | None], expected: list[int]) -> None:
    records = [
        NewRecord(10**12 + number * 7000, key, b"v" * (number % 200)) for number, key in enumerate(keys)
    ]
    batch = encode_batch(records, codec=codec)
    assert keyless_records(read_header(batch), batch, 100) == expected


def test_so_many_are_enough() -> None:
    batch = encode_batch([NewRecord(0, None, b"v")] * 50)
    assert keyless_records(read_header(batch), batch, 3) == [0, 1, 2]


@pytest.mark.parametrize("at", range(61, 61 + 10))
def test_records_that_are_none_are_refused(at: int) -> None:
    for value in (0x00, 0x01, 0x7F, 0xFF):
        batch = encode_batch([NewRecord(0, b"k", b"v"), NewRecord(0, b"k", b"v")])
        batch[at] = value
        stamp_append_time(batch, 5)
        try:
            assert keyless_records(read_header(batch), batch, 100) in ([], [0], [1])
        except InvalidBatch:
            pass


@pytest.mark.parametrize("cut", range(1, 18))
def test_a_batch_that_ends_too_early_is_refused(cut: int) -> None:
    batch = encode_batch([NewRecord(0, b"k", b"v"), NewRecord(0, b"k", b"v")])
    header = read_header(batch)
    with pytest.raises(InvalidBatch):
        keyless_records(header._replace(length=header.length - cut), batch, 100)
