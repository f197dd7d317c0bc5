"""Batches built and read back, and every way in which a batch can lie to its reader."""

from __future__ import annotations

import pytest

from raftlog.errors import CorruptBatch, UnsupportedBatch
from raftlog.records.batch import HEADER_SIZE, Codec, check_batch, read_header, stamp
from raftlog.records.record import (
    BatchBuilder,
    NewRecord,
    Record,
    decode_batch,
    decode_columns,
    encode_batch,
)
from tests.batches import NOW, PLAIN, batch_of, record_of

RECORDS = [
    NewRecord(NOW, b"key", b"value", (("h", b"1"), ("h", None), ("ключ", b""))),
    NewRecord(NOW + 70, None, b"v" * 200),
    NewRecord(NOW - 9000, b"k" * 9000, None),
    NewRecord(NOW + 10**10, b"", b""),
]


def test_the_helper_makes_a_batch_that_is_read() -> None:
    assert decode_batch(batch_of(PLAIN, count=1)) == [Record(100, NOW, b"k", b"v", ())]


@pytest.mark.parametrize("codec", Codec)
def test_what_is_encoded_comes_back(codec: Codec) -> None:
    batch = encode_batch(RECORDS, codec=codec, base_offset=40)
    assert decode_batch(batch) == [Record(40 + i, *record) for i, record in enumerate(RECORDS)]
    assert read_header(batch).codec is codec


def test_the_header_says_what_was_asked_for() -> None:
    header = check_batch(
        encode_batch(
            RECORDS, producer_id=9, producer_epoch=3, base_sequence=77, transactional=True, control=True
        )
    )
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 3, 77)
    assert header.is_transactional and header.is_control and not header.uses_log_append_time
    assert (header.base_timestamp, header.max_timestamp) == (NOW, NOW + 10**10)
    assert (header.record_count, header.last_offset_delta, header.last_sequence) == (4, 3, 80)


def test_a_batch_is_read_where_it_lies_and_as_it_was_stamped() -> None:
    first, second = encode_batch(RECORDS[:2]), encode_batch(RECORDS[2:])
    stamp(second, 1234, 5)
    data = memoryview(b"??" + first + second + b"rest")
    assert [record.offset for record in decode_batch(data, 2)] == [0, 1]
    assert [record.offset for record in decode_batch(data, 2 + len(first))] == [1234, 1235]


def test_offset_deltas_of_every_width() -> None:
    count = (1 << 13) + 70
    records = decode_batch(encode_batch(NewRecord(NOW + i, None, b"%d" % i) for i in range(count)))
    assert [record.offset for record in records] == list(range(count))
    assert [record.value for record in records] == [b"%d" % i for i in range(count)]


def test_the_builder_knows_its_size_and_refuses_what_does_not_fit() -> None:
    builder = BatchBuilder(size_max=400)
    for record in RECORDS[:2]:
        assert builder.append(*record)
        assert builder.size == len(builder.build())
    before = builder.build()
    assert not builder.append(NOW, b"k", b"v" * 100)
    assert builder.build() == before
    assert builder.append(NOW, None, b"small")
    assert len(builder.build()) == builder.size <= 400
    assert repr(builder) == f"<BatchBuilder records=3 size={builder.size}>"


def test_a_first_record_is_taken_at_any_size() -> None:
    builder = BatchBuilder(size_max=100)
    assert builder.append(NOW, None, bytes(1000))
    assert not builder.append(NOW, None, b"")


def test_building_again_gives_the_retry_its_own_sequence() -> None:
    builder = BatchBuilder()
    builder.append(NOW, None, b"v")
    first = builder.build(producer_id=1, producer_epoch=0, base_sequence=5)
    again = builder.build(producer_id=1, producer_epoch=1, base_sequence=0)
    assert read_header(first).base_sequence == 5
    assert read_header(again).producer_epoch == 1
    assert decode_batch(first) == decode_batch(again)


def test_columns_are_the_records_field_by_field() -> None:
    batch = encode_batch(RECORDS)
    assert [Record(*fields) for fields in zip(*decode_columns(batch), strict=True)] == decode_batch(batch)


@pytest.mark.parametrize("codec", Codec)
def test_keys_alone_are_those_of_the_records(codec: Codec) -> None:
    batch = encode_batch(RECORDS, codec=codec, base_offset=40)
    assert decode_columns(batch, keys_only=True) == decode_columns(batch)._replace(
        values=[None] * 4, headers=[()] * 4
    )


def test_keys_alone_of_a_compacted_batch() -> None:
    payload = record_of(b"\0\0\x06\x02k\x02v\0") + record_of(b"\0\x02\x0e\x01\x01\x02\x02h\x01")
    columns = decode_columns(batch_of(payload, count=2, last_delta=9), keys_only=True)
    assert list(zip(*columns, strict=True)) == [
        (103, NOW, b"k", None, ()),
        (107, NOW + 1, None, None, ()),
    ]


def test_log_append_time_is_the_time_of_all() -> None:
    records = decode_batch(batch_of(PLAIN + record_of(b"\0\x08\x02\x01\x01\0"), count=2, attributes=8))
    assert [record.timestamp for record in records] == [NOW + 5, NOW + 5]


def test_a_compacted_batch_keeps_its_gaps() -> None:
    payload = record_of(b"\0\0\x06\x01\x01\0") + record_of(b"\0\0\x0e\x01\x01\0")
    records = decode_batch(batch_of(payload, count=2, last_delta=9))
    assert [record.offset for record in records] == [103, 107]


def test_a_batch_that_compaction_emptied_has_no_records() -> None:
    assert decode_batch(batch_of(b"", count=0, last_delta=9)) == []


def test_varints_longer_than_they_need_are_read() -> None:
    padded = b"\0" + b"\x80\x00" + b"\0" + b"\x82\x80\x80\x00" + b"k" + b"\x82\x00" + b"v" + b"\x80\x80\x00"
    assert decode_batch(batch_of(record_of(padded), count=1)) == [Record(100, NOW, b"k", b"v", ())]


def test_the_widest_timestamps_there_are() -> None:
    widest = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    (record,) = decode_batch(batch_of(record_of(b"\0" + widest + b"\0\x01\x01\0"), count=1))
    assert record.timestamp == NOW + 2**63 - 1


def test_a_header_key_that_is_not_utf8_does_not_stop_its_reader() -> None:
    (record,) = decode_batch(batch_of(record_of(b"\0\0\0\x01\x01\x02\x02\xff\x01"), count=1))
    assert record.headers == (("�", None),)


def varint_of(length: int) -> bytes:
    return b"\x80" * (length - 1) + b"\x02"


LIES = {
    "count of one too many": batch_of(PLAIN, count=2),
    "count of one too few": batch_of(PLAIN + PLAIN, count=1),
    "count of all numbers": batch_of(PLAIN, count=2**31 - 1),
    "no records but bytes": batch_of(PLAIN, count=0, last_delta=0),
    "records but no bytes": batch_of(b"", count=1),
    "record longer than the batch": batch_of(b"\x7e" + PLAIN[1:], count=1),
    "record shorter than its fields": batch_of(b"\x0c" + PLAIN[1:], count=1),
    "record of a negative length": batch_of(b"\x11" + PLAIN[1:], count=1),
    "key past the end": batch_of(record_of(b"\0\0\0\x7ek\x02v\0"), count=1),
    "key of length -2": batch_of(record_of(b"\0\0\0\x03k\x02v\0"), count=1),
    "key of 2**62 bytes": batch_of(
        record_of(b"\0\0\0" + b"\xfe" + b"\xff" * 7 + b"\x7f" + b"\x02v\0"), count=1
    ),
    "value past the end": batch_of(record_of(b"\0\0\0\x02k\x7ev\0"), count=1),
    "value of length -2": batch_of(record_of(b"\0\0\0\x02k\x03v\0"), count=1),
    "value of length -64": batch_of(record_of(b"\0\0\0\x02k\xff\x01v\0"), count=1),
    "header count of -1": batch_of(record_of(b"\0\0\0\x02k\x02v\x01"), count=1),
    "header count of 2**30": batch_of(record_of(b"\0\0\0\x02k\x02v\x80\x80\x80\x80\x08"), count=1),
    "header key of null": batch_of(record_of(b"\0\0\0\x01\x01\x02\x01\x01"), count=1),
    "header value past the end": batch_of(record_of(b"\0\0\0\x01\x01\x02\x02h\x7e"), count=1),
    "header value of length -2": batch_of(record_of(b"\0\0\0\x01\x01\x02\x02h\x03"), count=1),
    "last offset delta of another": batch_of(record_of(b"\0\0\x02\x01\x01\0"), count=1),
    "offset deltas that fall": batch_of(
        record_of(b"\0\0\x06\x01\x01\0") + record_of(b"\0\0\x04\x01\x01\0"), count=2, last_delta=9
    ),
    "offset delta past the last": batch_of(record_of(b"\0\0\x06\x01\x01\0"), count=1, last_delta=2),
    "offset delta below none": batch_of(record_of(b"\0\0\x01\x01\x01\0"), count=1, last_delta=2),
    "time delta of 66 bits": batch_of(record_of(b"\0" + b"\xff" * 9 + b"\x7f" + b"\0\x01\x01\0"), count=1),
    "record cut off in its length": batch_of(PLAIN + b"\x80" * 7, count=2),
} | {f"length in {n} bytes": batch_of(varint_of(n) + bytes(20), count=1) for n in range(6, 12)}


@pytest.mark.parametrize("batch", LIES.values(), ids=LIES.keys())
def test_a_batch_that_lies_inside_is_corrupt(batch: bytearray) -> None:
    assert check_batch(batch)  # its header and CRC are true: the lie is in the records
    with pytest.raises(CorruptBatch):
        decode_batch(batch)


BEHIND_THE_KEY = {name for name in LIES if name.startswith(("value", "header"))}
SHORT = {
    "no value": batch_of(record_of(b"\0\0\0\x02k"), count=1),
    "no header count": batch_of(record_of(b"\0\0\0\x02k\x01"), count=1),
    "key past the record's end": batch_of(record_of(b"\0\0\0\x0ek") + PLAIN, count=2),
}


@pytest.mark.parametrize("name", sorted(LIES.keys() - BEHIND_THE_KEY | SHORT.keys()))
def test_who_wants_keys_alone_finds_the_same_lies(name: str) -> None:
    with pytest.raises(CorruptBatch):
        decode_columns((LIES | SHORT)[name], keys_only=True)


@pytest.mark.parametrize("name", sorted(BEHIND_THE_KEY))
def test_who_wants_keys_alone_is_told_no_lie_about_values_and_headers(name: str) -> None:
    assert len(decode_columns(LIES[name], keys_only=True).keys) == 1


@pytest.mark.parametrize("codec", Codec)
def test_a_batch_cut_off_anywhere_is_corrupt(codec: Codec) -> None:
    batch = encode_batch(RECORDS[:2], codec=codec)
    for end in range(len(batch)):
        with pytest.raises(CorruptBatch):
            decode_batch(batch[:end])


@pytest.mark.parametrize("codec", Codec)
def test_records_cut_off_anywhere_under_a_true_crc_are_corrupt(codec: Codec) -> None:
    payload = bytes(encode_batch(RECORDS[:2], codec=codec)[HEADER_SIZE:])
    assert decode_batch(batch_of(payload, count=2, attributes=codec))
    for end in range(len(payload)):
        cut = batch_of(payload[:end], count=2, attributes=codec)
        with pytest.raises(CorruptBatch):
            decode_batch(cut)
        with pytest.raises(CorruptBatch):
            decode_columns(cut, keys_only=True)


@pytest.mark.parametrize("codec", [codec for codec in Codec if codec])
def test_a_batch_that_decompresses_to_too_much_is_corrupt(codec: Codec) -> None:
    batch = encode_batch([NewRecord(NOW, None, bytes(4 * 1024 * 1024))], codec=codec)
    with pytest.raises(CorruptBatch, match="more than 1048576 bytes"):
        decode_batch(batch, max_output=1024 * 1024)


@pytest.mark.parametrize("position", [16, 17, 20, 21, 30, HEADER_SIZE - 1, HEADER_SIZE, -1])
def test_a_flipped_bit_is_found(position: int) -> None:
    batch = encode_batch(RECORDS)
    batch[position] ^= 0x10
    with pytest.raises((CorruptBatch, UnsupportedBatch)):
        decode_batch(batch)


@pytest.mark.parametrize("magic", [0, 1, 3, 255])
def test_other_magics_are_not_kept(magic: int) -> None:
    batch = encode_batch(RECORDS)
    batch[16] = magic
    with pytest.raises(UnsupportedBatch):
        decode_batch(batch)


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_unknown_codecs_are_not_kept(codec: int) -> None:
    with pytest.raises(UnsupportedBatch):
        decode_batch(batch_of(PLAIN, count=1, attributes=codec))
