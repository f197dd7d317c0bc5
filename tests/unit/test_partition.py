"""A partition on a real log, a real Raft group of one and a disk in memory: what goes in, what comes out."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from raftlog.memory import Frame, MemoryBudget
from raftlog.partition.partition import Partition
from raftlog.partition.producing import SETTLE_S
from raftlog.partition.refused import REFUSED_S
from raftlog.partition.values import (
    EARLIEST,
    LATEST,
    MAX_TIMESTAMP,
    FoundOffset,
    PartitionError,
    PartitionSettings,
    ProduceResult,
)
from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.ration import Allowance
from raftlog.raft.values import RaftTiming
from raftlog.records.batch import Codec, read_header
from raftlog.records.record import NewRecord, Record, decode_batch, encode_batch
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, PartitionId, TopicName, group_key
from tests.sim.virtual_disk import VirtualDisk
from tests.steps import run

TOPIC_ID = bytes(range(16))
KEY = group_key(TOPIC_ID, 0)
NOW_MS = 1_700_000_000_000


class World:
    """One broker with one partition; `restart` is a power loss and a new start."""

    def __init__(self, **settings: object) -> None:
        self.disk = VirtualDisk(random.Random(1))
        self.settings = replace(PartitionSettings(), **settings)  # type: ignore[arg-type]
        self.now = 0.0
        self.start()

    def start(self) -> None:
        limits = StoreSettings(node_id=BrokerId(1), wal_file_bytes=1 << 20)
        self.store = Store.open(self.disk, "/data", limits, rng=random.Random(2))
        self.driver = Driver(self.store, send=lambda to, messages: None)
        log = self.store.logs.get(KEY) or self.store.create_log(KEY, "t-0")
        timing, voters = RaftTiming(), frozenset({BrokerId(1)})
        group = RaftGroup(KEY, BrokerId(1), log, voters, timing=timing, rng=random.Random(3), now=self.now)
        self.partition = Partition(
            TopicName("t"), PartitionId(0), TOPIC_ID, group, log, self.settings, now_ms=NOW_MS
        )
        self.driver.add(group, self.partition)
        self.turns()

    def restart(self) -> None:
        self.disk.power_loss()
        self.start()

    def turns(self, count: int = 4) -> None:
        for _ in range(count):
            self.now += 0.001
            self.driver.turn(self.now)

    def produce(
        self, batch: bytearray, *, turns: int = 4, expected: int | None = None
    ) -> list[ProduceResult]:
        results: list[ProduceResult] = []
        self.partition.producing.produce(
            memoryview(batch),
            now=self.now,
            now_ms=NOW_MS,
            on_done=results.append,
            expected_offset=expected,
        )
        self.turns(turns)
        return results

    def delete_before(self, offset: int, *, turns: int = 4) -> list[tuple[PartitionError | None, int]]:
        results: list[tuple[PartitionError | None, int]] = []
        self.partition.delete_before(
            offset, now=self.now, on_done=lambda error, start: results.append((error, start))
        )
        self.turns(turns)
        return results

    def read(self, offset: int = 0) -> list[Record]:
        result = self.partition.reading.fetch(offset, 1 << 20)
        assert result.error is None
        data, records, position = result.slice.read() if result.slice else b"", list[Record](), 0
        while position < len(data):
            records += decode_batch(data, position)
            position += read_header(data, position).size
        return records


def batch(*values: bytes, timestamp: int = NOW_MS, **options: object) -> bytearray:
    return encode_batch([NewRecord(timestamp, None, v, ()) for v in values], **options)  # type: ignore[arg-type]


def test_offsets_are_dense_and_survive_a_power_loss() -> None:
    world = World()
    assert [r.base_offset for r in world.produce(batch(b"a", b"b"))] == [0]
    assert [r.base_offset for r in world.produce(batch(b"c", codec=Codec.ZSTD))] == [2]
    world.restart()
    assert [(r.offset, r.value) for r in world.read()] == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert world.partition.high_watermark == world.partition.log.log_end_offset == 3


def test_a_batch_without_a_majority_lets_go_of_the_large_request_that_it_came_in() -> None:
    """The rest of it was answered. A few of those filled the memory budget, and a broker refused all Produce
    until its peer was back."""
    world, memory = World(), MemoryBudget(64 << 20)
    group, data = world.partition.group, batch(b"x" * 100)
    group.turning.hooks.commits = Allowance(0)  # nothing is committed from here on
    frame = Frame(memory, bytes(1 << 20))
    frame.admit(len(frame))
    frame[: len(data)] = data
    results: list[ProduceResult] = []
    view = memoryview(frame)[: len(data)]
    world.partition.producing.produce(view, now=world.now, now_ms=NOW_MS, on_done=results.append)
    world.turns()
    world.partition.tick(NOW_MS + 1000)
    assert memory.requests > 1 << 20, "a request that is not answered is held in any case"
    frame.answered()
    del frame, view
    assert memory.kept > 1 << 20
    world.partition.tick(NOW_MS + 2000)
    assert 0 < memory.kept < 1000 and not results
    group.turning.hooks.commits = Allowance()
    group.turning.commit_what_is_due(world.now)
    group.turning.wake()
    world.turns()
    assert [result.error for result in results] == [None]
    assert [record.value for record in world.read()] == [b"x" * 100]
    while world.store.forget_some():
        pass
    assert memory.kept == 0


def test_nobody_is_answered_before_the_sync() -> None:
    world = World()
    results = world.produce(batch(b"a"), turns=0)
    assert results == []
    assert world.read() == []
    world.disk.power_loss()
    world.start()
    assert world.read() == []
    assert results == []


def test_an_idempotent_repeat_is_answered_with_the_first_offset_also_after_a_restart() -> None:
    world = World()
    sent = batch(b"a", b"b", producer_id=5, producer_epoch=0, base_sequence=0)
    world.produce(batch(b"before"))
    assert world.produce(bytearray(sent))[0].base_offset == 1
    assert world.produce(bytearray(sent))[0].base_offset == 1
    world.restart()
    assert world.produce(bytearray(sent))[0].base_offset == 1
    assert [r.value for r in world.read()] == [b"before", b"a", b"b"]


def test_a_repeat_of_what_is_under_way_waits_for_it() -> None:
    world = World()
    sent = batch(b"a", producer_id=5, producer_epoch=0, base_sequence=0)
    first = world.produce(bytearray(sent), turns=0)
    again = world.produce(bytearray(sent), turns=0)
    assert (first, again) == ([], [])
    world.turns()
    assert [r.base_offset for r in first + again] == [0, 0]


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda b: b.__setitem__(70, b[70] ^ 1), PartitionError.CORRUPT_BATCH),
        (lambda b: b.__setitem__(16, 1), PartitionError.UNSUPPORTED_BATCH),
        (lambda b: b.extend(b"more"), PartitionError.INVALID_RECORD),
        (lambda b: b.__delitem__(slice(-3, None)), PartitionError.INVALID_RECORD),
        (lambda b: b.clear(), PartitionError.INVALID_RECORD),
    ],
)
def test_a_bad_batch_is_refused_and_leaves_nothing(spoil: object, error: PartitionError) -> None:
    world = World()
    bad = batch(b"value", b"another")
    spoil(bad)  # type: ignore[operator]
    (result,) = world.produce(bad)
    assert result.error is error
    assert result.message
    assert world.partition.log.log_end_offset == 0
    assert world.produce(batch(b"good"))[0].base_offset == 0


def test_limits_of_size_and_time() -> None:
    world = World(max_message_bytes=200, timestamp_after_max_ms=1000, timestamp_before_max_ms=1000)
    assert world.produce(batch(b"x" * 200))[0].error is PartitionError.BATCH_TOO_LARGE
    for late in (-1001, 1001):
        assert (
            world.produce(batch(b"x", timestamp=NOW_MS + late))[0].error is PartitionError.INVALID_TIMESTAMP
        )
    for fine in (-1000, 1000):
        assert world.produce(batch(b"x", timestamp=NOW_MS + fine))[0].error is None


def test_log_append_time_is_the_brokers() -> None:
    world = World(log_append_time=True)
    assert world.produce(batch(b"x", timestamp=5))[0].append_time == NOW_MS
    (record,) = world.read()
    assert record.timestamp == NOW_MS


def test_offsets_by_time() -> None:
    world = World(timestamp_before_max_ms=2**62)
    for number in (10, 30, 20):
        world.produce(batch(b"a", b"b", timestamp=number))

    def find(timestamp: int) -> FoundOffset:
        return run(world.partition.reading.find_offset_steps(timestamp))

    assert find(EARLIEST).offset == 0
    assert find(LATEST).offset == 6
    assert find(MAX_TIMESTAMP)[1:3] == (2, 30)
    assert find(11)[1:3] == (2, 30)
    assert find(31)[1:3] == (-1, -1)


def test_what_a_fetch_may_see() -> None:
    world = World()
    for _ in range(3):
        world.produce(batch(b"a", b"b"))
    assert world.partition.reading.fetch(-5, 1 << 20).error is PartitionError.OFFSET_OUT_OF_RANGE
    assert world.partition.reading.fetch(7, 1 << 20).error is PartitionError.OFFSET_OUT_OF_RANGE
    at_end = world.partition.reading.fetch(6, 1 << 20)
    assert (at_end.error, at_end.slice, at_end.high_watermark) == (None, None, 6)
    assert [r.offset for r in world.read(3)] == [2, 3, 4, 5]  # the batch that holds offset 3, whole
    one = world.partition.reading.fetch(0, 1).slice
    assert one is not None
    assert one.next_offset == 2


def test_who_believes_in_another_leader_is_told_so() -> None:
    world = World()
    world.produce(batch(b"a"))
    epoch = world.partition.leader_epoch
    reading = world.partition.reading
    assert reading.fetch(0, 100, leader_epoch=epoch).error is None
    assert reading.fetch(0, 100, leader_epoch=epoch - 1).error is PartitionError.FENCED_LEADER_EPOCH
    assert reading.fetch(0, 100, leader_epoch=epoch + 1).error is PartitionError.UNKNOWN_LEADER_EPOCH
    assert world.partition.reading.end_of_epoch(epoch) == (None, epoch, 1)


def test_a_new_leader_does_not_say_where_an_epoch_ended_before_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new leader has every committed entry, and may not know yet that the last ones are committed. Its
    answer would end before what consumers have read, and they would start over."""
    world = World()
    world.produce(batch(b"a"))
    reading, epoch = world.partition.reading, world.partition.leader_epoch
    monkeypatch.setattr(type(world.partition.group), "is_ready", False)
    assert reading.end_of_epoch(epoch) == (PartitionError.NOT_LEADER, -1, -1)
    assert reading.end_of_epoch(epoch, leader_epoch=epoch - 1)[0] is PartitionError.FENCED_LEADER_EPOCH


def test_deleted_records_stay_deleted() -> None:
    world = World()
    for _ in range(3):
        world.produce(batch(b"a", b"b"))
    assert world.delete_before(3) == [(None, 3)]
    world.restart()  # at the very moment when it was answered, and inside a batch
    assert world.partition.log_start_offset == 3
    assert world.partition.reading.fetch(0, 100).error is PartitionError.OFFSET_OUT_OF_RANGE
    assert world.delete_before(-1) == [(None, 6)]
    assert world.produce(batch(b"c"))[0].base_offset == 6, "a command takes no offset"


@pytest.mark.parametrize(("offset", "answer"), [(7, -1), (-2, -1), (2, 3), (0, 3), (3, 3)])
def test_what_is_deleted_already_is_no_error_and_what_is_not_there_is(offset: int, answer: int) -> None:
    """As Apache Kafka 4.1 answers."""
    world = World()
    for _ in range(3):
        world.produce(batch(b"a", b"b"))
    world.delete_before(3)
    error = PartitionError.OFFSET_OUT_OF_RANGE if answer < 0 else None
    assert world.delete_before(offset) == [(error, answer)]
    assert world.partition.log_start_offset == 3


def test_nobody_is_told_that_records_are_deleted_before_the_sync() -> None:
    world = World()
    world.produce(batch(b"a", b"b"))
    assert world.delete_before(1, turns=0) == []
    assert world.partition.log_start_offset == 0
    world.disk.power_loss()
    world.start()
    assert world.partition.log_start_offset == 0


def test_many_that_delete_at_once_share_a_command() -> None:
    world = World()
    for _ in range(50):
        world.produce(batch(b"a"))
    entries = world.partition.log.last_index
    results: list[tuple[PartitionError | None, int]] = []
    for offset in range(1, 51):
        world.partition.delete_before(offset, now=world.now, on_done=lambda *each: results.append(each))
    world.turns()
    assert [error for error, _ in results] == [None] * 50
    assert world.partition.log_start_offset == 50
    assert world.partition.log.last_index == entries + 2


def test_waiters_wake_when_something_is_committed() -> None:
    world, woken = World(), list[int]()

    def waiter() -> None:
        woken.append(world.partition.high_watermark)

    world.partition.waiters.add(waiter)
    world.produce(batch(b"a"))
    assert woken == [1]
    world.partition.waiters.remove(waiter)
    world.produce(batch(b"a"))
    assert woken == [1]


def idempotent(sequence: int, *values: bytes) -> bytearray:
    return batch(*values or (b"a",), producer_id=5, producer_epoch=0, base_sequence=sequence)


@pytest.mark.parametrize("sequence", [3, 2**31 - 1, 2**31 - 2])
def test_a_producer_that_is_not_known_goes_on_where_it_is(sequence: int) -> None:
    """Its topic was deleted and made again, or it was silent for long: Apache Kafka takes any sequence."""
    world = World()
    assert world.produce(idempotent(sequence, b"a", b"b"))[0].base_offset == 0
    assert world.produce(idempotent(sequence, b"a", b"b"))[0].base_offset == 0, "a repeat"
    after = (sequence + 2) % 2**31
    assert world.produce(idempotent((after + 1) % 2**31))[0].error is PartitionError.OUT_OF_SEQUENCE
    assert world.produce(idempotent(after))[0].base_offset == 2


def test_the_first_batch_may_still_come_while_a_leader_is_new() -> None:
    """It was under way to the leader before. Apache Kafka takes the second one for the first, and then has to
    refuse the first for good."""
    world = World()
    world.restart()
    assert world.produce(idempotent(3))[0].error is PartitionError.NOT_LEADER
    assert world.produce(idempotent(0, b"a", b"b", b"c"))[0].base_offset == 0
    assert world.produce(idempotent(3))[0].base_offset == 3


def test_what_is_behind_a_batch_that_was_refused_is_not_taken_before_it() -> None:
    """The leader has settled when the fourth comes, and had not when the third came."""
    world = World()
    world.restart()
    assert world.produce(idempotent(3))[0].error is PartitionError.NOT_LEADER
    world.now += SETTLE_S
    assert world.produce(idempotent(4))[0].error is PartitionError.NOT_LEADER
    assert world.produce(idempotent(3))[0].base_offset == 0
    assert world.produce(idempotent(4))[0].base_offset == 1


def test_a_batch_that_is_never_sent_again_holds_up_nobody_for_ever() -> None:
    world = World()
    world.restart()
    assert world.produce(idempotent(3))[0].error is PartitionError.NOT_LEADER
    world.now += REFUSED_S
    assert world.produce(idempotent(4))[0].base_offset == 0


def test_a_leader_that_has_settled_takes_any_sequence() -> None:
    world = World()
    world.restart()
    world.now += SETTLE_S
    assert world.produce(idempotent(3))[0].base_offset == 0


def test_no_producer_is_forgotten_by_a_clock_that_has_jumped() -> None:
    world = World(producer_expiration_ms=1000)
    world.produce(idempotent(0))
    world.partition.tick(NOW_MS + 10_000, even_ms=999)
    assert world.produce(idempotent(0))[0].base_offset == 0
    assert world.partition.log.log_end_offset == 1, "a repeat is no new batch"
    world.partition.tick(NOW_MS + 10_000, even_ms=1000)
    assert world.produce(idempotent(7))[0].base_offset == 1


def test_what_is_only_looked_at_does_not_count_as_sent() -> None:
    """A fetch that waits looks many times; who sends the bytes counts them."""
    world = World()
    world.produce(batch(b"x"))
    assert world.partition.reading.fetch(0, 100).slice is not None
    assert world.partition.counters.bytes_out == 0
    assert (world.partition.counters.batches_in, world.partition.counters.records_in) == (1, 1)


def numbered(value: bytes, producer_id: int = 7, *, epoch: int = 0, sequence: int = 0) -> bytearray:
    return batch(value, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)


def test_of_two_that_expect_the_same_offset_one_is_appended_and_the_other_told_the_end() -> None:
    world = World()
    world.produce(batch(b"a"))
    won = world.produce(numbered(b"mine"), expected=1)
    lost = world.produce(numbered(b"theirs", 8), expected=1)
    assert won == [ProduceResult(None, 1, -1, 0)]
    assert lost == [
        ProduceResult(PartitionError.OFFSET_MISMATCH, 2, -1, 0, "the log ends at 2, not at 1"),
    ]
    again = world.produce(numbered(b"mine"), expected=1)
    assert again == won, "a repeat of the winner is told where it was, whatever has come since"
    assert world.produce(numbered(b"theirs", 8, epoch=1), expected=2)[0].base_offset == 2
    assert [record.value for record in world.read()] == [b"a", b"mine", b"theirs"]


def test_an_offset_that_the_log_has_not_reached_is_no_match_either() -> None:
    world = World()
    (answer,) = world.produce(numbered(b"x"), expected=3)
    assert (answer.error, answer.base_offset) == (PartitionError.OFFSET_MISMATCH, 0)
    assert world.partition.log.log_end_offset == 0


def test_what_is_in_the_way_is_named_when_it_is_committed_and_not_before() -> None:
    """A leader that is replaced may lose its tail, and with it what is in the way."""
    world = World()
    group = world.partition.group
    group.turning.hooks.commits = Allowance(0)
    won = world.produce(numbered(b"mine"), expected=0)
    lost = world.produce(numbered(b"theirs", 8), expected=0)
    repeat = world.produce(numbered(b"mine"), expected=0)
    assert not won and not lost and not repeat
    group.turning.hooks.commits = Allowance()
    group.turning.commit_what_is_due(world.now)
    group.turning.wake()
    world.turns()
    assert [(one.error, one.base_offset) for one in (*won, *lost, *repeat)] == [
        (None, 0),
        (PartitionError.OFFSET_MISMATCH, 1),
        (None, 0),
    ]


def test_a_mismatch_of_a_leadership_that_is_over_comes_again() -> None:
    """What was in the way may be lost now: the next leader decides."""
    world = World()
    group = world.partition.group
    group.turning.hooks.commits = Allowance(0)
    won = world.produce(numbered(b"mine"), expected=0)
    lost = world.produce(numbered(b"theirs", 8), expected=0)
    world.partition.close()
    assert not won and [one.error for one in lost] == [PartitionError.NOT_LEADER]


def test_a_gap_in_the_sequence_is_said_before_the_offset_is_compared() -> None:
    world = World()
    world.produce(numbered(b"a"))
    (answer,) = world.produce(numbered(b"c", sequence=2), expected=9)
    assert answer.error is PartitionError.OUT_OF_SEQUENCE


@pytest.mark.parametrize("options", [{}, {"producer_id": 7, "producer_epoch": 0, "transactional": True}])
def test_who_cannot_send_again_safely_may_not_expect_an_offset(options: dict[str, object]) -> None:
    world = World()
    (answer,) = world.produce(batch(b"a", base_sequence=0, **options), expected=0)
    assert answer.error is PartitionError.INVALID_RECORD and "idempotent" in str(answer.message)
    assert world.partition.log.log_end_offset == 0
