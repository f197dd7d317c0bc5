"""What is refused from a producer, and what is let through on purpose."""

from __future__ import annotations

import pytest

from raftlog.errors import CorruptBatch, InvalidBatch
from raftlog.records.batch import HEADER_SIZE, Codec, check_batch
from raftlog.records.produced import check_produced_batch
from raftlog.records.record import NewRecord, encode_batch
from tests.batches import PLAIN, batch_of, record_of


def records(count: int, size: int) -> list[NewRecord]:
    return [NewRecord(i, b"k", b"%d " % i * (size // 2)) for i in range(count)]


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize(("count", "size"), [(1, 0), (3, 100), (32, 10), (33, 10), (500, 100), (2, 9000)])
def test_an_honest_batch_passes(codec: Codec, count: int, size: int) -> None:
    batch = encode_batch(records(count, size), codec=codec, producer_id=4, producer_epoch=0, base_sequence=0)
    assert check_produced_batch(b"before" + batch + b"after", 6) == check_batch(batch)


@pytest.mark.parametrize("codec", Codec)
def test_zeros_pass_however_well_they_compress(codec: Codec) -> None:
    assert check_produced_batch(encode_batch([NewRecord(0, None, bytes(1024 * 1024))], codec=codec))


REFUSED = {
    "no records": batch_of(b"", count=0, last_delta=0),
    "an empty batch with offsets": batch_of(b"", count=0, last_delta=5),
    "last offset delta too large": batch_of(PLAIN, count=1, last_delta=1),
    "last offset delta too small": batch_of(PLAIN + PLAIN, count=2, last_delta=0),
    "control bit": batch_of(PLAIN, count=1, attributes=0x20),
    "one record too many": batch_of(PLAIN * 3, count=4),
    "one record too few": batch_of(PLAIN * 3, count=2),
    "more records than bytes could hold": batch_of(PLAIN * 100, count=2**31 - 1),
    "one long record that claims to be forty": batch_of(PLAIN * 2 + record_of(bytes(60)) * 20, count=40),
    "one record that is the whole batch": batch_of(b"\xfe\xff\x7f" + bytes(2**20), count=1000),
    "a record of a negative length": batch_of(b"\x11" + PLAIN[1:], count=1),
    "a length of eleven bytes": batch_of(b"\x80" * 10 + b"\x00", count=1),
    "a length cut off": batch_of(b"\x80" * 7, count=1),
    "garbage in compressed records": batch_of(PLAIN, count=1, attributes=Codec.LZ4),
}


@pytest.mark.parametrize("batch", REFUSED.values(), ids=REFUSED.keys())
def test_a_batch_that_no_producer_may_send_is_refused(batch: bytearray) -> None:
    check_batch(batch)
    with pytest.raises(InvalidBatch):
        check_produced_batch(batch)


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("claim", [2, 4])
def test_a_count_that_lies_is_refused_in_a_small_batch(codec: Codec, claim: int) -> None:
    payload = bytes(encode_batch(records(3, 50), codec=codec)[HEADER_SIZE:])
    assert check_produced_batch(batch_of(payload, count=3, attributes=codec))
    with pytest.raises(InvalidBatch):
        check_produced_batch(batch_of(payload, count=claim, attributes=codec))


@pytest.mark.parametrize("codec", Codec)
def test_a_count_of_everything_is_refused_in_a_large_batch(codec: Codec) -> None:
    payload = bytes(encode_batch(records(2000, 50), codec=codec)[HEADER_SIZE:])
    with pytest.raises(InvalidBatch):
        check_produced_batch(batch_of(payload, count=2**31 - 1, attributes=codec))


@pytest.mark.parametrize(
    ("epoch", "sequence"), [(-1, -1), (0, -1), (-1, 0)], ids=["neither", "no sequence", "no epoch"]
)
def test_a_producer_id_comes_with_an_epoch_and_a_sequence(epoch: int, sequence: int) -> None:
    batch = encode_batch(records(1, 5), producer_id=1, producer_epoch=epoch, base_sequence=sequence)
    with pytest.raises(InvalidBatch, match="producer 1"):
        check_produced_batch(batch)


@pytest.mark.parametrize("position", [*range(17, HEADER_SIZE, 3), -1])
def test_a_flipped_bit_is_not_taken_for_the_producers_mistake(position: int) -> None:
    """It may arrive whole the next time: only what came as it was sent is refused for good."""
    batch = encode_batch(records(2, 50), producer_id=1, producer_epoch=0, base_sequence=0)
    batch[position] ^= 0x80
    with pytest.raises(CorruptBatch):
        check_produced_batch(batch)
