"""A consumer's partitions: what comes out is in order, once, and not from before a seek."""

from __future__ import annotations

import pytest

from raftlog.client.assignment import EARLIEST, Decoder, Partition
from raftlog.client.errors import DeserializationError
from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.errors import CorruptBatch
from raftlog.records.record import NewRecord, encode_batch

KEY = TopicPartition("t", 3)


def batch(first: int, count: int, *, control: bool = False) -> bytes:
    records = [NewRecord(1000 + i, b"k", b"%d" % i, (("h", b"v"),)) for i in range(first, first + count)]
    return bytes(encode_batch(records, base_offset=first, control=control))


def placed(offset: int = 0) -> Partition:
    partition = Partition(KEY)
    partition.seek(offset)
    return partition


def test_batches_come_out_one_by_one() -> None:
    partition, decoder = placed(), Decoder(None, None)
    data = batch(0, 3) + batch(3, 2)
    partition.add(data, 9, 0)
    assert (partition.fetch_offset, partition.buffered, partition.lag) == (5, len(data), 9)
    records, behind = decoder.next_records(partition)
    assert records[1] == Record("t", 3, 1, 1001, b"k", b"1", (("h", b"v"),))
    assert ([r.offset for r in records], behind) == ([0, 1, 2], 3)
    assert partition.buffered == len(batch(3, 2))
    records, behind = decoder.next_records(partition)
    assert ([r.offset for r in records], behind, partition.buffered) == ([3, 4], 5, 0)


def test_records_before_the_position_are_dropped() -> None:
    partition = placed(2)
    partition.add(batch(0, 5), 5, 0)
    records, behind = Decoder(None, None).next_records(partition)
    assert ([r.offset for r in records], behind) == ([2, 3, 4], 5)


def test_control_batches_give_nothing_and_move_on() -> None:
    partition = placed()
    partition.add(batch(0, 1, control=True), 1, 0)
    assert Decoder(None, None).next_records(partition) == ([], 1)


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch() -> None:
    partition = placed()
    partition.add(batch(0, 3) + batch(3, 3)[:-1], 6, 0)
    assert partition.fetch_offset == 3
    assert len(partition.batches) == 1


def test_a_seek_drops_what_was_fetched() -> None:
    partition = placed()
    partition.add(batch(0, 3), 3, 0)
    era = partition.era
    partition.seek(1)
    assert partition.era > era
    assert (len(partition.batches), partition.buffered, partition.fetch_offset) == (0, 0, 1)
    partition.seek_to(EARLIEST)
    assert (partition.position, partition.reset) == (None, EARLIEST)
    assert partition.lag is None
    assert repr(partition) == "<Partition t-3 position=None buffered=0>"


def test_deserializers_and_their_failures() -> None:
    def number(data: bytes) -> int:
        if data == b"1":
            raise ValueError("one")
        return int(data)

    partition = placed()
    partition.add(batch(0, 1) + batch(1, 1), 2, 0)
    decoder = Decoder(bytes.decode, number)
    ((record,), _) = decoder.next_records(partition)
    assert (record.key, record.value) == ("k", 0)
    for _ in range(2):
        with pytest.raises(DeserializationError, match=r"t-3 at offset 1: .*ValueError: one"):
            decoder.next_records(partition)


def test_damage_is_noticed() -> None:
    partition = placed()
    data = bytearray(batch(0, 3))
    data[-1] ^= 1
    partition.add(bytes(data), 3, 0)
    with pytest.raises(CorruptBatch):
        Decoder(None, None).next_records(partition)
