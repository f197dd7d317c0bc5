"""The producer's accumulator against a model of a broker: nothing lost, nothing twice, nothing out of order.

The model keeps one partition's log and checks sequence numbers as brokers do (KIP-98). A seeded run makes
requests fail in every way that there is: refused, written and not answered, not written and not answered,
answered with an error after all, too late. What the accumulator says of each record must be true of the log.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from raftlog.client.accumulator import EPOCH_MAX, Accumulator
from raftlog.client.batches import Batch
from raftlog.client.errors import Disconnected, OffsetMismatch
from raftlog.client.settings import ProducerSettings
from raftlog.protocol.errors import ErrorCode
from raftlog.records.batch import read_header
from raftlog.records.record import decode_batch

REMEMBERED = 5
"""Batches of a producer that a broker remembers."""


@dataclass
class ModelBroker:
    """One partition. `append` gives (error, base offset)."""

    log: list[bytes | None] = field(default_factory=list)
    epoch: int = -1
    last_sequence: int = -1
    remembered: list[tuple[int, int, int]] = field(default_factory=list)

    def append(self, wire: bytes, expected: int | None) -> tuple[ErrorCode, int]:
        header = read_header(wire)
        if header.producer_id >= 0:
            error, offset = self._check(header.producer_epoch, header.base_sequence, header.last_sequence)
            if error is not ErrorCode.NONE or offset >= 0:
                return error, offset
        base = len(self.log)
        if expected not in (None, base):
            return ErrorCode.OFFSET_OUT_OF_RANGE, base
        self.log += [record.value for record in decode_batch(wire)]
        if header.producer_id >= 0:
            self.epoch, self.last_sequence = header.producer_epoch, header.last_sequence
            self.remembered.append((header.base_sequence, header.last_sequence, base))
            del self.remembered[:-REMEMBERED]
        return ErrorCode.NONE, base

    def _check(self, epoch: int, first: int, last: int) -> tuple[ErrorCode, int]:
        if self.epoch < 0:  # an unknown producer may begin with any number, as Apache Kafka has it
            return ErrorCode.NONE, -1
        if epoch < self.epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH, -1
        if epoch > self.epoch:
            self.remembered = []
            return (ErrorCode.NONE, -1) if first == 0 else (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
        for one, other, offset in self.remembered:
            if (one, other) == (first, last):
                return ErrorCode.NONE, offset
        if first == (self.last_sequence + 1) & 0x7FFFFFFF:
            return ErrorCode.NONE, -1
        return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1


class World:
    """An accumulator, a connection and a broker, driven by hand."""

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        self.rng = random.Random(seed)
        self.now = 100.0
        self.broker = ModelBroker()
        self.accumulator = Accumulator(
            ProducerSettings(**{"batch_size": 200, **settings}), retry_backoff=lambda failures: 0.01
        )
        if self.accumulator.settings.enable_idempotence:
            self.accumulator.identify(7, 0)
        self.queue = self.accumulator.queue("t", 0)
        self.sent: list[tuple[bytes, Batch, int]] = []
        self.wire: list[tuple[Batch, bytes]] = []
        self.leader: int | None = 1
        self.late: list[tuple[float, Batch, bytes]] = []
        """What is still in the buffers of connections that have ended, by when the broker reads it."""

    def send(self, size: int = 20) -> None:
        value = b"%d" % len(self.sent)
        value += b"." * max(0, size - len(value))
        batch = self.accumulator.append(self.queue, 0, None, value, ())
        if batch is None:
            self.accumulator.open(self.queue, self.now)
            batch = self.accumulator.append(self.queue, 0, None, value, ())
        assert batch is not None
        self.sent.append((value, batch, batch.builder.record_count - 1))

    def compare(self, expected: int) -> Batch:
        """Send a record that must get this offset."""
        value = b"%d.compared" % len(self.sent)
        self.accumulator.open(self.queue, self.now)
        batch = self.accumulator.append(self.queue, 0, None, value, ())
        assert batch is not None
        self.accumulator.close_alone(self.queue, expected)
        self.sent.append((value, batch, 0))
        return batch

    def pump(self) -> float:
        limit = self.accumulator.settings.max_in_flight_requests_per_connection
        requests, again, _ = self.accumulator.drain(
            self.now, lambda topic, partition: self.leader, lambda broker: limit - len(self.wire)
        )
        for _, (batch,) in requests:
            assert batch.wire is not None
            beside = [other for other, _ in self.wire if other is not batch]
            compared = [each for each in (batch, *beside) if each.expected_offset is not None]
            assert not beside or not compared, "it goes alone"
            self.wire.append((batch, bytes(batch.wire)))
        return again

    def answer(self, error: ErrorCode | None = None, *, write: bool = True) -> None:
        """The oldest request is answered: truly, or with `error` after it was written or not."""
        self.read_late()
        batch, data = self.wire.pop(0)
        append = self.broker.append
        code, offset = append(data, batch.expected_offset) if write else (ErrorCode.NONE, -1)
        if error is not None and code in (ErrorCode.NONE, ErrorCode.OFFSET_OUT_OF_RANGE):
            code, offset = error, -1
        self.accumulator.complete(batch, code, offset, -1, None, self.now)

    def cut(self, written: int, *, later: float | None = None) -> None:
        """The connection breaks; the first `written` requests under way were carried out. The others are
        lost, or carried out `later`, in seconds."""
        for batch, data in self.wire[:written]:
            self.broker.append(data, batch.expected_offset)
        wire, self.wire = self.wire, []
        if later is not None:
            self.late += [(self.now + later, batch, data) for batch, data in wire[written:]]
        for batch, _ in wire:
            self.accumulator.interrupt(batch, Disconnected("cut"), self.now)

    def read_late(self) -> None:
        """The broker goes on with what it had not read yet."""
        due = [one for one in self.late if one[0] <= self.now]
        self.late = [one for one in self.late if one[0] > self.now]
        for _, batch, data in due:
            self.broker.append(data, batch.expected_offset)

    def finish(self) -> None:
        """Without faults, everything ends."""
        for _ in range(1000):
            self.pump()
            while self.wire:
                self.answer()
            if not self.accumulator.unfinished():
                return
            self.now += 0.05
        raise AssertionError(f"never done: {self.accumulator.unfinished()}")

    def check(self) -> None:
        """What was said is true, and the accounts are even."""
        log = self.broker.log
        for value, whole, index in self.sent:
            batch, place = whole.part_of(index)
            assert batch.done
            if batch.error is None:
                assert batch.expected_offset in (None, batch.base_offset)
                assert log[batch.base_offset + place] == value
                assert log.count(value) == 1
            elif batch.error.may_be_written:
                assert log.count(value) <= 1
            else:
                assert log.count(value) == 0
        order = [int((value or b"").split(b".")[0]) for value in log]
        assert order == sorted(order), "out of order"
        assert self.accumulator.buffered == 0
        statistics = self.accumulator.statistics
        assert statistics.records_acknowledged + statistics.records_failed == len(self.sent)


RETRIABLE = [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.REQUEST_TIMED_OUT]


@pytest.mark.parametrize("seed", range(300))
def test_whatever_happens_what_it_says_is_true(seed: int) -> None:
    world = World(seed, delivery_timeout_ms=world_timeout(seed))
    rng = world.rng
    for _ in range(150):
        match rng.randrange(12):
            case 0 if rng.random() < 0.7:
                world.compare(max(0, len(world.broker.log) + rng.choice((0, 0, 0, 0, 1, 3, -1))))
            case 0 | 1 | 2 | 3:
                world.send(rng.choice([5, 20, 60, 300]))
            case 4 | 5:
                world.pump()
            case 6 | 7 if world.wire:
                world.answer()
            case 8 if world.wire:
                world.answer(rng.choice(RETRIABLE), write=rng.random() < 0.5)
            case 9 if world.wire:
                later = rng.uniform(0, 0.9) if rng.random() < 0.5 else None
                world.cut(rng.randrange(len(world.wire) + 1), later=later)
            case 10 if world.wire and rng.random() < 0.3:
                world.answer(ErrorCode.INVALID_RECORD, write=False)
            case _:
                world.now += rng.choice([0.001, 0.05, 0.3])
    world.finish()
    world.check()


def world_timeout(seed: int) -> int:
    """Some runs are in a hurry, so that batches expire."""
    return 500 if seed % 3 == 0 else 120_000


@pytest.mark.parametrize("seed", range(50))
def test_without_faults_nothing_fails(seed: int) -> None:
    world = World(seed)
    for _ in range(100):
        world.rng.choice([world.send, world.pump, world.send])()
        if world.wire and world.rng.random() < 0.3:
            world.answer()
    world.finish()
    world.check()
    assert world.accumulator.statistics.records_failed == 0
    assert world.accumulator.statistics.retries == 0


def test_a_record_that_expects_an_offset_goes_alone_and_one_that_fails_holds_up_nobody() -> None:
    world = World()
    world.send()
    fits = world.compare(1)
    fails = world.compare(1)
    world.send()
    for count in (1, 1, 1, 1):
        world.pump()
        assert len(world.wire) == count
        world.answer()
    world.check()
    assert fits.base_offset == 1 and isinstance(fails.error, OffsetMismatch)
    assert (fails.error.end, fails.error.may_be_written) == (2, False)
    assert len(world.broker.log) == 3 and world.broker.epoch == 1, "numbered anew: the other is in no log"


def test_an_end_before_what_is_expected_is_not_final_while_a_copy_may_be_under_way() -> None:
    """The log may come there, and the copy find that it has."""
    world = World()
    batch = world.compare(2)
    world.pump()
    world.cut(0, later=0.5)
    world.now += 0.1
    world.pump()
    world.answer()
    assert isinstance(batch.error, OffsetMismatch) and batch.error.end == 0
    assert batch.error.may_be_written and "may be in the log" in str(batch.error)
    world.broker.log += [b"0", b"1"]
    world.now += 1.0
    world.read_late()
    assert world.broker.log[2:] == [b"0.compared"]


def test_a_partial_batch_waits_while_one_is_under_way() -> None:
    world = World()
    world.send()
    world.finish()
    world.send()
    world.pump()
    assert len(world.wire) == 1, "the first goes at once"
    world.send()
    world.pump()
    assert len(world.wire) == 1, "the second gathers company"
    for _ in range(20):
        world.send()
    world.pump()
    assert len(world.wire) > 2, "full batches do not wait"
    while world.wire:
        world.answer()
        world.pump()
    world.check()


def test_linger() -> None:
    world = World(linger_ms=100)
    world.send()
    assert world.pump() == pytest.approx(100.1)
    assert not world.wire
    world.now += 0.11
    world.pump()
    assert len(world.wire) == 1


def test_flushing_does_not_linger() -> None:
    world = World(linger_ms=100_000)
    world.send()
    world.accumulator.flushing += 1
    world.pump()
    assert len(world.wire) == 1


def test_no_more_requests_than_there_is_room_for() -> None:
    world = World()
    for _ in range(100):
        world.send(100)
    world.pump()
    assert len(world.wire) == 1, "until the broker knows the producer"
    world.answer()
    world.pump()
    assert len(world.wire) == 5


def test_a_retry_goes_alone_and_first() -> None:
    world = World()
    world.send()
    world.finish()
    for _ in range(10):
        world.send(150)
    world.pump()
    first = world.wire[0][0]
    world.answer(ErrorCode.NOT_LEADER_OR_FOLLOWER, write=False)
    while world.wire:
        world.answer()  # out of order, all of them
    world.now += 1
    world.pump()
    assert [batch for batch, _ in world.wire] == [first]
    world.finish()
    world.check()
    assert world.accumulator.statistics.records_failed == 0


def test_a_leader_that_is_not_ready_for_the_first_batch_costs_nothing() -> None:
    world = World()
    for _ in range(10):
        world.send(150)
    world.pump()
    world.answer(ErrorCode.NOT_LEADER_OR_FOLLOWER, write=False)
    world.finish()
    world.check()
    assert world.accumulator.statistics.records_failed == 0


def test_a_duplicate_counts_as_written() -> None:
    world = World()
    world.send()
    world.pump()
    batch, _ = world.wire.pop()
    world.accumulator.complete(batch, ErrorCode.DUPLICATE_SEQUENCE_NUMBER, 41, -1, None, world.now)
    assert (batch.done, batch.error, batch.base_offset) == (True, None, 41)


def test_after_a_batch_that_is_lost_the_epoch_is_raised() -> None:
    world = World()
    for _ in range(3):
        world.send(150)
    world.pump()
    world.answer(ErrorCode.INVALID_RECORD, write=False)
    world.finish()
    assert world.queue.epoch == 1
    assert [value is not None and value[:1] for value in world.broker.log] == [b"1", b"2"]
    world.check()


def test_behind_the_last_epoch_a_partition_waits_for_another_producer_id() -> None:
    """Its number would not fit: the producer's task died with a struct.error."""
    world = World()
    asked: list[bool] = []
    world.accumulator.on_worn_out = lambda: asked.append(True)
    world.queue.producer_id, world.queue.epoch = 7, EPOCH_MAX
    for _ in range(3):
        world.send(150)
    world.pump()
    world.answer(ErrorCode.INVALID_RECORD, write=False)
    world.pump()
    assert asked and not world.wire
    world.accumulator.identify(8, 0)
    world.finish()
    assert (world.queue.producer_id, world.queue.epoch) == (8, 0)
    assert [value is not None and value[:1] for value in world.broker.log] == [b"1", b"2"]
    world.check()


def _two_given_up_and_one_left(later: float | None) -> World:
    """Three batches of four are sent, and the connection breaks. Two expire, the third does not yet."""
    world = World(delivery_timeout_ms=10_000)
    world.send()
    world.finish()
    world.send(150)
    world.send(150)
    world.now += 5
    world.send(150)
    world.send(150)
    world.now += 4.9
    world.pump()
    assert len(world.wire) == 3
    world.cut(0, later=later)
    world.now += 0.2
    world.pump()
    return world


def test_what_was_sent_behind_a_batch_that_is_given_up_is_written_under_the_next_epoch() -> None:
    """The broker refuses the number of the third, and so tells what became of all three."""
    world = _two_given_up_and_one_left(later=None)
    world.finish()
    assert [batch.error is None for _, batch, _ in world.sent] == [True, False, False, True, True]
    assert world.queue.epoch == 1
    world.check()


def test_a_request_that_the_broker_reads_late_is_waited_for_before_its_batch_is_numbered_anew() -> None:
    """The machine of the only broker stood still. It reads the new connection first, then the one before."""
    world = _two_given_up_and_one_left(later=0.3)
    world.finish()
    assert [batch.error is None for _, batch, _ in world.sent] == [True, False, False, True, True]
    assert len(world.broker.log) == 5
    world.check()


def test_no_batch_before_the_producer_has_its_id() -> None:
    world = World()
    world.accumulator.producer_id = -1
    world.send()
    world.pump()
    assert not world.wire
    world.accumulator.identify(9, 3)
    world.pump()
    header = read_header(world.wire[0][1])
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 3, 0)


def test_expired_before_it_was_sent_is_certainly_not_written() -> None:
    world = World(delivery_timeout_ms=1000)
    world.leader = None
    world.send()
    assert world.pump() == pytest.approx(101.0)
    world.now += 1
    world.pump()
    ((_, batch, _),) = world.sent
    assert batch.error is not None
    assert not batch.error.may_be_written
    assert str(batch.error) == "1 record to t-0: not acknowledged within 1 s (not in the log)"


def test_expired_under_way_may_be_written() -> None:
    world = World(delivery_timeout_ms=1000)
    world.send()
    world.pump()
    world.now += 1
    world.pump()
    ((_, batch, _),) = world.sent
    assert batch.error is not None
    assert batch.error.may_be_written
    world.send()
    world.pump()
    assert len(world.wire) == 1, "the next waits until it is known what became of the first"
    world.answer()
    world.finish()
    assert len(world.broker.log) == 2


def test_retries_can_be_bounded() -> None:
    world = World(retries=2)
    world.send()
    for _ in range(3):
        world.pump()
        world.answer(ErrorCode.NOT_LEADER_OR_FOLLOWER, write=False)
        world.now += 1
    ((_, batch, _),) = world.sent
    assert batch.error is not None
    assert str(batch.error.__cause__) == "NOT_LEADER_OR_FOLLOWER"


def test_a_batch_that_is_too_large_is_split_until_it_fits() -> None:
    world = World(batch_size=1000)
    world.send()
    world.pump()
    world.answer()
    for _ in range(8):
        world.send(50)
    world.accumulator.flushing += 1
    while world.accumulator.unfinished():
        world.pump()
        batch = world.wire[0][0]
        if batch.builder.record_count > 2:
            world.answer(ErrorCode.MESSAGE_TOO_LARGE, write=False)
        else:
            world.answer()
        world.now += 1
    world.check()
    assert len(world.broker.log) == 9
    assert world.accumulator.statistics.records_failed == 0


def test_sequence_numbers_wrap() -> None:
    world = World(batch_size=1000)
    world.queue.epoch = 0
    world.queue.next_sequence = 0x7FFFFFFF - 1
    world.broker.epoch, world.broker.last_sequence = 0, 0x7FFFFFFF - 2
    for _ in range(5):
        world.send()
    world.finish()
    assert world.queue.next_sequence == 3
    world.send()
    world.finish()
    world.check()


def test_abandoning_tells_everybody() -> None:
    world = World()
    world.send()
    world.pump()
    world.send()
    world.accumulator.abandon(Disconnected("gone"))
    first, second = (batch.error for _, batch, _ in world.sent)
    assert first is not None
    assert second is not None
    assert (first.may_be_written, second.may_be_written) == (True, False)
    assert repr(world.accumulator) == "<Accumulator partitions=0 buffered=0>"


def test_without_idempotence_batches_carry_no_numbers() -> None:
    world = World(enable_idempotence=False)
    world.send()
    world.pump()
    header = read_header(world.wire[0][1])
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (-1, -1, -1)
