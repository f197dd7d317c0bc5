"""Any records survive encoding and decoding; no bytes make the decoder raise anything but its own errors."""

from __future__ import annotations

import struct

from crc32c import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftlog.errors import CorruptBatch, InvalidBatch, UnsupportedBatch
from raftlog.records.batch import CRC_START, HEADER_SIZE, Codec, check_batch
from raftlog.records.produced import check_produced_batch
from raftlog.records.record import NewRecord, decode_batch, decode_columns, encode_batch
from tests.batches import batch_of

codecs = st.sampled_from(Codec)
blobs = st.one_of(st.none(), st.binary(max_size=40), st.integers(60, 70).map(bytes), st.just(bytes(8200)))
headers = st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=3).map(tuple)
timestamps = st.integers(-(2**63), 2**63 - 1) | st.integers(1_700_000_000_000, 1_700_000_020_000)
records = st.builds(NewRecord, timestamps, blobs, blobs, headers)
batches = st.lists(records, min_size=1, max_size=8).filter(
    lambda batch: all(abs(record.timestamp - batch[0].timestamp) < 2**63 for record in batch)
)


def keys_of(data: bytes | bytearray) -> list[bytes | None]:
    return list(decode_columns(data, keys_only=True).keys)


@given(batches, codecs, st.integers(0, 2**62))
@settings(max_examples=150, deadline=None)
def test_what_is_encoded_comes_back(batch: list[NewRecord], codec: Codec, base_offset: int) -> None:
    data = encode_batch(batch, codec=codec, base_offset=base_offset)
    decoded = decode_batch(data)
    assert [record.offset for record in decoded] == list(range(base_offset, base_offset + len(batch)))
    assert [record[1:] for record in decoded] == batch
    alone = decode_columns(data, keys_only=True)
    assert list(zip(*alone[:3], strict=True)) == [record[:3] for record in decoded]
    header = check_produced_batch(data)
    assert header.max_timestamp == max(record.timestamp for record in batch)


@given(batches, codecs, st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_in_what_the_crc_covers_is_found(
    batch: list[NewRecord], codec: Codec, data: st.DataObject
) -> None:
    encoded = encode_batch(batch, codec=codec)
    position = data.draw(st.integers(CRC_START, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        decode_batch(encoded)
    except CorruptBatch:
        return
    raise AssertionError("read as if nothing had changed")


@given(batches, codecs, st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_records_under_a_true_crc_are_corrupt_or_records(
    batch: list[NewRecord], codec: Codec, data: st.DataObject
) -> None:
    encoded = encode_batch(batch, codec=codec)
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(CRC_START + 2, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    struct.pack_into(">I", encoded, CRC_START - 4, crc32c(encoded[CRC_START:]))
    for read in (decode_batch, keys_of, check_produced_batch, check_batch):
        try:
            read(encoded)
        except (CorruptBatch, InvalidBatch):
            pass


@given(st.binary(max_size=200), st.integers(-2, 20), st.integers(-2, 20), st.sampled_from([0, 1, 2, 3, 4, 8]))
@settings(max_examples=400, deadline=None)
def test_any_bytes_as_records_are_corrupt_or_records(
    payload: bytes, count: int, last_delta: int, attributes: int
) -> None:
    batch = batch_of(payload, count=count, last_delta=last_delta, attributes=attributes)
    try:
        keys: list[bytes | None] | None = keys_of(batch)
    except CorruptBatch:
        keys = None
    try:
        decoded = decode_batch(batch)
    except CorruptBatch:
        return
    assert keys == [record.key for record in decoded]
    assert len(decoded) == count
    assert all(100 <= record.offset <= 100 + last_delta for record in decoded)


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 12, 13, 14, 20, 127, 128, 255]), max_size=60))
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bytes_near_to_records_are_corrupt_or_records(numbers: list[int]) -> None:
    for count in (1, 2, 3):
        try:
            batch = batch_of(bytes(numbers), count=count)
            assert keys_of(batch) == [record.key for record in decode_batch(batch)]
            assert len(keys_of(batch)) == count
        except CorruptBatch:
            continue


@given(st.binary(max_size=2 * HEADER_SIZE))
@settings(max_examples=300, deadline=None)
def test_any_bytes_as_a_batch_are_refused(data: bytes) -> None:
    for read in (decode_batch, keys_of, check_produced_batch, check_batch):
        try:
            read(data)
        except (CorruptBatch, InvalidBatch, UnsupportedBatch):
            continue
        raise AssertionError("32 bits of CRC and a length agreed by chance")
