"""Byte for byte what the clients write, and what they read: aiokafka's (Cython) and kafka-python's codecs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch as AiokafkaBatch
from aiokafka.record.default_records import DefaultRecordBatchBuilder as AiokafkaBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.records.batch import Codec
from raftlog.records.record import NewRecord, Record, decode_batch, encode_batch

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # importlib.resources.read_text, at its import
    from kafka.record.default_records import DefaultRecordBatch as KafkaPythonBatch
    from kafka.record.default_records import DefaultRecordBatchBuilder as KafkaPythonBuilder

NOW = 1_700_000_000_000

blobs = st.none() | st.binary(max_size=150)
headers = st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=3).map(tuple)
records = st.builds(NewRecord, st.integers(NOW, NOW + 20_000), blobs, blobs, headers)
batches = st.lists(records, min_size=1, max_size=100)

BUILDERS = [AiokafkaBuilder, KafkaPythonBuilder]
READERS = [AiokafkaBatch, KafkaPythonBatch]


def built_by(
    builder_class: Any,
    batch: Sequence[NewRecord],
    codec: Codec,
    producer: tuple[int, int, int],
    transactional: bool,
) -> bytes:
    builder = builder_class(2, codec, transactional, *producer, 1 << 20)
    for offset, record in enumerate(batch):
        builder.append(offset, record.timestamp, record.key, record.value, list(record.headers))
    return bytes(builder.build())


def read_by(reader_class: Any, data: bytearray) -> list[Record]:
    batch = reader_class(data)
    assert batch.validate_crc()
    return [
        Record(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
        for record in batch
    ]


def read_codecs(reader_class: Any) -> list[Codec]:
    """kafka-python brings gzip alone; the others need libraries that aiokafka does not."""
    return [Codec.NONE, Codec.GZIP] if reader_class is KafkaPythonBatch else list(Codec)


@pytest.mark.parametrize("builder_class", BUILDERS)
@given(batches, st.tuples(st.integers(0, 2**40), st.integers(0, 2**15 - 1), st.integers(0, 2**31 - 1)))
@settings(max_examples=60, deadline=None)
def test_our_bytes_are_theirs(
    builder_class: Any, batch: list[NewRecord], producer: tuple[int, int, int]
) -> None:
    theirs = bytearray(built_by(builder_class, batch, Codec.NONE, producer, True))
    ours = encode_batch(
        batch,
        producer_id=producer[0],
        producer_epoch=producer[1],
        base_sequence=producer[2],
        transactional=True,
    )
    theirs[12:16] = ours[12:16]  # the leader epoch, which is the broker's to fill: they write 0, Java -1
    assert ours == theirs


@pytest.mark.parametrize("builder_class", BUILDERS)
@given(batches, st.data())
@settings(max_examples=40, deadline=None)
def test_we_read_what_they_write(builder_class: Any, batch: list[NewRecord], data: st.DataObject) -> None:
    available = read_codecs(KafkaPythonBatch if builder_class is KafkaPythonBuilder else AiokafkaBatch)
    codec = data.draw(st.sampled_from(available))
    theirs = built_by(builder_class, batch, codec, (-1, -1, -1), False)
    assert decode_batch(theirs) == [Record(i, *record) for i, record in enumerate(batch)]


@pytest.mark.parametrize("reader_class", READERS)
@given(batches, st.data(), st.integers(0, 2**50))
@settings(max_examples=40, deadline=None)
def test_they_read_what_we_write(
    reader_class: Any, batch: list[NewRecord], data: st.DataObject, base_offset: int
) -> None:
    codec = data.draw(st.sampled_from(read_codecs(reader_class)))
    ours = encode_batch(batch, codec=codec, base_offset=base_offset)
    assert read_by(reader_class, ours) == [Record(base_offset + i, *record) for i, record in enumerate(batch)]
