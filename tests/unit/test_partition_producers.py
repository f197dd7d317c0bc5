"""Which batches are new, repeats or out of sequence: by example, and against random schedules."""

import random

import cbor2
import pytest

from raftlog.errors import DamagedLog
from raftlog.partition import producers as producers_module
from raftlog.partition.producers import (
    FORMAT_VERSION,
    REMEMBERED_BATCHES,
    NewBatch,
    OutOfSequence,
    Producers,
    RepeatedBatch,
    StaleEpoch,
    UnknownProducer,
    Verdict,
)
from raftlog.records.batch import BatchHeader
from raftlog.types import Offset, RaftIndex

WRAP = 2**31


def header(
    sequence: int, count: int = 1, *, epoch: int = 0, producer: int = 7, offset: int = 0
) -> BatchHeader:
    return BatchHeader(
        base_offset=offset,
        length=100,
        leader_epoch=1,
        magic=2,
        crc=0,
        attributes=0,
        last_offset_delta=count - 1,
        base_timestamp=0,
        max_timestamp=0,
        producer_id=producer,
        producer_epoch=epoch,
        base_sequence=sequence,
        record_count=count,
    )


def write(producers: Producers, batch: BatchHeader, index: int) -> None:
    producers.appended(batch, Offset(batch.base_offset), RaftIndex(index))
    producers.committed(batch, RaftIndex(index), now_ms=1000)


def test_a_repeat_is_recognised_before_and_after_its_commit() -> None:
    producers, batch = Producers(), header(0, 3, offset=40)
    producers.appended(batch, Offset(40), RaftIndex(5))
    assert producers.check(batch) == RepeatedBatch(Offset(40), RaftIndex(5))
    producers.committed(batch, RaftIndex(5), now_ms=0)
    assert producers.check(batch) == RepeatedBatch(Offset(40), RaftIndex(5))
    assert producers.check(header(3)) == NewBatch()


def test_a_gap_and_an_old_batch_are_out_of_sequence() -> None:
    producers = Producers()
    for number in range(REMEMBERED_BATCHES + 1):
        write(producers, header(number, offset=number), number + 1)
    assert producers.check(header(REMEMBERED_BATCHES + 2)) == OutOfSequence(6, 7)
    assert producers.check(header(0)) == OutOfSequence(6, 0)
    assert isinstance(producers.check(header(1)), RepeatedBatch)


def test_sequences_wrap_at_two_to_the_31() -> None:
    producers = Producers()
    write(producers, header(WRAP - 2, 4), 1)
    assert producers.check(header(2)) == NewBatch()
    assert producers.check(header(3)) == OutOfSequence(2, 3)


@pytest.mark.parametrize(
    ("batch", "verdict"),
    [
        (header(0, epoch=1), StaleEpoch(2)),
        (header(0, epoch=3), NewBatch()),
        (header(4, epoch=3), OutOfSequence(0, 4)),
        (header(1, epoch=2), NewBatch()),
    ],
)
def test_a_newer_incarnation_fences_the_older(batch: BatchHeader, verdict: Verdict) -> None:
    producers = Producers()
    write(producers, header(0, epoch=2), 1)
    assert producers.check(batch) == verdict


def test_a_truncation_forgets_what_was_pending_and_nothing_else() -> None:
    producers = Producers()
    write(producers, header(0), 1)
    producers.appended(header(1), Offset(1), RaftIndex(2))
    producers.truncated()
    assert producers.check(header(1)) == NewBatch()
    assert isinstance(producers.check(header(0)), RepeatedBatch)


def test_a_silent_producer_is_forgotten() -> None:
    producers = Producers()
    write(producers, header(0), 1)
    assert not producers.expire(before_ms=1000)
    assert isinstance(producers.check(header(0)), RepeatedBatch)
    assert producers.expire(before_ms=1001)
    assert producers.check(header(99)) == UnknownProducer(99)


def test_the_producer_that_was_silent_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producers_module, "MAX_PRODUCERS", 3)
    producers = Producers()
    for index, producer in enumerate((1, 2, 3, 1, 4)):
        write(producers, header(index, epoch=index, producer=producer), index + 1)
    assert producers.check(header(0, producer=2)) == UnknownProducer(0)
    assert len(producers) == 3


def test_a_snapshot_answers_as_the_original() -> None:
    producers, restored = Producers(), Producers()
    for number in range(9):
        write(producers, header(number, offset=number, producer=number % 2), number + 1)
    restored.restore(producers.to_bytes())
    assert producers.to_bytes()[0] == FORMAT_VERSION
    for batch in (header(s, producer=p, epoch=e) for s in range(12) for p in (0, 1, 2) for e in (0, 1)):
        assert restored.check(batch) == producers.check(batch)


def test_a_snapshot_of_before_it_had_a_version_is_read() -> None:
    producers, restored = Producers(), Producers()
    for number in range(7):
        write(producers, header(number, offset=10 + number), number + 1)
    batches = [[number, number, 10 + number, number + 1] for number in range(2, 7)]
    restored.restore(cbor2.dumps([True, [[7, 0, 1000, batches]]]))
    assert restored.to_bytes() == producers.to_bytes()
    with pytest.raises(DamagedLog, match="format 99"):
        restored.restore(b"\x63")


@pytest.mark.parametrize("seed", range(30))
def test_no_schedule_writes_a_batch_twice_or_leaves_a_gap(seed: int) -> None:
    """A producer that repeats what it likes, a leader that loses its tail: the committed log has each batch
    once and in order."""
    rng, producers = random.Random(seed), Producers()
    log: list[BatchHeader] = []  # the first `committed` of them are
    committed = sequence = 0
    for _ in range(300):
        match rng.randrange(4):
            case 0 | 1:
                first = rng.choice([sequence, sequence, max(0, sequence - rng.randrange(4)), sequence + 1])
                batch = header(first, offset=len(log))
                verdict = producers.check(batch)
                if verdict in (NewBatch(), UnknownProducer(0)):
                    log.append(batch)
                    producers.appended(batch, Offset(batch.base_offset), RaftIndex(len(log)))
                    sequence = first + 1
            case 2 if committed < len(log):
                committed += 1
                producers.committed(log[committed - 1], RaftIndex(committed), now_ms=0)
            case 3 if rng.random() < 0.2:
                del log[committed:]
                producers.truncated()
                sequence = log[-1].base_sequence + 1 if log else 0
    assert [batch.base_sequence for batch in log[:committed]] == list(range(committed))
    assert committed > 10
