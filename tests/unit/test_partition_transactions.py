"""Transactions on a partition, on a real log and a Raft group of one. Numbers are those of scenarios."""

from __future__ import annotations

import random
import time

import pytest

from raftlog.errors import DamagedLog
from raftlog.partition import producers as producers_module
from raftlog.partition.aborted import Aborted, AbortedTransaction
from raftlog.partition.markers import BY_HAND, Marker, decode_marker, encode_marker
from raftlog.partition.marking import Marked
from raftlog.partition.saved import WITH_TRANSACTIONS
from raftlog.partition.transactions import MarkerVerdict
from raftlog.partition.values import LATEST, PartitionError, ProduceResult
from raftlog.partition.verifying import Membership, OnVerified
from raftlog.records.batch import read_header
from raftlog.records.record import decode_batch
from raftlog.types import Offset, RaftIndex
from tests.steps import run
from tests.unit.test_partition import NOW_MS, World, batch

PRODUCER = 5


class Coordinator:
    """Answers the partition's questions as a test wants it, at once or later."""

    def __init__(self, membership: Membership | None = Membership.IN_TRANSACTION) -> None:
        self.membership = membership
        """None: the answer comes when the test says so."""
        self.asked: list[tuple[int, int]] = []
        self.waiting: list[OnVerified] = []

    def verify(self, producer_id: int, epoch: int, on_verified: OnVerified) -> None:
        self.asked.append((producer_id, epoch))
        if self.membership is None:
            self.waiting.append(on_verified)
        else:
            on_verified(self.membership, 0.0)


class TransactionalWorld(World):
    """A partition to which producers write in transactions."""

    def __init__(self, **settings: object) -> None:
        self.coordinator = Coordinator()
        self.decisions = 100
        super().__init__(**settings)

    def send(
        self,
        value: bytes,
        sequence: int,
        *,
        producer: int = PRODUCER,
        epoch: int = 0,
        transactional: bool = True,
        turns: int = 4,
    ) -> list[ProduceResult]:
        sent = batch(
            value,
            producer_id=producer,
            producer_epoch=epoch,
            base_sequence=sequence,
            transactional=transactional,
        )
        results: list[ProduceResult] = []
        self.partition.producing.produce(
            memoryview(sent),
            now=self.now,
            now_ms=NOW_MS,
            on_done=results.append,
            verify=self.coordinator.verify,
        )
        self.turns(turns)
        return results

    def end(
        self,
        *,
        commit: bool,
        producer: int = PRODUCER,
        epoch: int = 0,
        coordinator: int = 1,
        decided_at: int | None = None,
        turns: int = 4,
    ) -> list[Marked]:
        if decided_at is None:
            self.decisions += 1
            decided_at = self.decisions
        results: list[Marked] = []
        self.partition.marking.write(
            Marker(producer, epoch, commit, coordinator, decided_at),
            now=self.now,
            now_ms=NOW_MS,
            on_done=results.append,
        )
        self.turns(turns)
        return results

    @property
    def stable(self) -> int:
        return self.partition.reading.last_stable_offset

    def committed_values(self, max_bytes: int = 1 << 20) -> list[bytes | None]:
        """What a read_committed consumer delivers, as clients do it (KIP-98)."""
        values: list[bytes | None] = []
        offset = self.partition.log_start_offset
        while True:
            result = self.partition.reading.fetch(offset, max_bytes, committed=True)
            assert result.error is None
            if result.slice is None:
                return values
            data = bytes(result.slice.read())
            aborted = sorted(result.aborted, key=lambda one: one.first_offset)
            skipped: set[int] = set()
            position = 0
            while position < len(data):
                header = read_header(data, position)
                while aborted and aborted[0].first_offset <= header.next_offset - 1:
                    skipped.add(aborted.pop(0).producer_id)
                one = data[position : position + header.size]
                if header.is_control:
                    if not decode_marker(header, one).is_commit:
                        skipped.discard(header.producer_id)
                elif not (header.is_transactional and header.producer_id in skipped):
                    values += [r.value for r in decode_batch(one) if r.offset >= offset]
                position += header.size
            offset = result.slice.next_offset


def test_a_marker_is_read_as_it_was_written_and_clients_find_its_kind_in_the_key() -> None:
    for commit in (True, False):
        marker = Marker(7, 3, commit, 12, 99)
        data = encode_marker(marker, NOW_MS)
        header = read_header(data)
        assert header.is_control and header.is_transactional and header.base_sequence == -1
        (record,) = decode_batch(data)
        assert record.key == bytes((0, 0, 0, int(commit)))
        assert decode_marker(header, data) == marker


def test_what_is_open_is_not_stable_and_a_commit_makes_it_so() -> None:
    world = TransactionalWorld()
    world.produce(batch(b"plain"))
    assert world.send(b"a", 0)[0].base_offset == 1
    assert world.send(b"b", 1)[0].base_offset == 2
    world.produce(batch(b"behind"))
    assert (world.stable, world.partition.high_watermark) == (1, 4)
    assert world.committed_values() == [b"plain"]
    assert world.end(commit=True) == [Marked.DONE]
    assert world.stable == world.partition.high_watermark == 5
    assert world.committed_values() == [b"plain", b"a", b"b", b"behind"]


def test_scenario_31_an_aborted_range_is_told_from_its_middle_and_on_its_marker() -> None:
    world = TransactionalWorld()
    for number in range(3):
        world.send(b"%d" % number, number)
    world.end(commit=False)
    world.produce(batch(b"after"))
    told = [world.partition.reading.fetch(at, 1 << 20, committed=True).aborted for at in range(5)]
    assert [len(each) for each in told] == [1, 1, 1, 1, 0]
    assert told[0][0][:3] == (PRODUCER, 0, 3)
    assert not world.partition.reading.fetch(0, 1 << 20).aborted
    assert world.committed_values() == [b"after"]


def test_scenario_35_abort_commit_abort_of_one_producer_in_one_fetch() -> None:
    world = TransactionalWorld()
    for number, commit in enumerate((False, True, False)):
        world.send(b"%d" % number, number)
        world.end(commit=commit)
    assert world.committed_values() == [b"1"]


def test_scenario_32_an_aborted_range_over_segments_and_small_answers() -> None:
    world = TransactionalWorld()
    world.partition.log.retention.configure(segment_bytes=300, roll_ms=1 << 40)
    for number in range(12):
        world.send(bytes([number]) * 50, number)
    world.end(commit=False)
    world.send(b"kept", 12)
    world.end(commit=True)
    assert len(world.partition.log._committed.segments) > 2
    assert world.committed_values(max_bytes=1) == world.committed_values() == [b"kept"]


def test_scenario_38_where_the_log_ends_for_a_reader_of_what_is_committed() -> None:
    world = TransactionalWorld()
    world.produce(batch(b"x"))
    world.send(b"a", 0)
    assert run(world.partition.reading.find_offset_steps(LATEST, committed=True)).offset == 1
    assert run(world.partition.reading.find_offset_steps(LATEST)).offset == 2
    assert run(world.partition.reading.find_offset_steps(NOW_MS, committed=True)).offset == 0


def test_scenario_40_an_answer_ends_before_the_open_transaction() -> None:
    world = TransactionalWorld()
    world.produce(batch(b"x"))
    world.produce(batch(b"y"))
    world.send(b"a", 0)
    world.produce(batch(b"z"))
    found = world.partition.reading.fetch(0, 1 << 20, committed=True).slice
    assert found is not None and found.next_offset == 2
    assert world.partition.reading.fetch(2, 1 << 20, committed=True).slice is None


def test_scenario_3_and_22_a_batch_outside_of_its_transaction_is_refused_and_nothing_is_appended() -> None:
    world = TransactionalWorld()
    for membership, error in (
        (Membership.NOT_IN_TRANSACTION, PartitionError.NOT_IN_TRANSACTION),
        (Membership.PRODUCER_FENCED, PartitionError.STALE_PRODUCER_EPOCH),
        (Membership.WRONG_PRODUCER, PartitionError.WRONG_PRODUCER_ID),
        (Membership.UNKNOWN, PartitionError.UNVERIFIED),
    ):
        world.coordinator.membership = membership
        assert [r.error for r in world.send(b"late", 0)] == [error]
    assert world.partition.high_watermark == world.stable == 0


def test_the_first_batch_of_a_transaction_asks_and_the_next_do_not() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    world.send(b"b", 1)
    assert world.coordinator.asked == [(PRODUCER, 0)]
    world.end(commit=True)
    world.send(b"c", 2)
    assert len(world.coordinator.asked) == 2


def test_scenario_20_what_comes_behind_a_batch_that_is_verified_waits_in_order() -> None:
    world = TransactionalWorld()
    world.coordinator.membership = None
    results = [world.send(b"%d" % number, number) for number in range(3)]
    assert results == [[], [], []] and len(world.coordinator.waiting) == 1
    world.coordinator.waiting.pop()(Membership.IN_TRANSACTION, world.now)
    world.turns()
    assert [r.base_offset for each in results for r in each] == [0, 1, 2]


def test_scenario_21_a_marker_voids_the_answer_that_is_under_way() -> None:
    world = TransactionalWorld()
    world.coordinator.membership = None
    result = world.send(b"a", 0)
    assert world.end(commit=False) == [Marked.DONE]
    world.coordinator.waiting.pop()(Membership.IN_TRANSACTION, world.now)
    assert result == [] and len(world.coordinator.waiting) == 1, "asked again"
    world.coordinator.waiting.pop()(Membership.NOT_IN_TRANSACTION, world.now)
    world.turns()
    assert [r.error for r in result] == [PartitionError.NOT_IN_TRANSACTION]
    assert world.partition.high_watermark == world.stable == 1, "the marker alone"


def test_a_batch_that_adds_its_partition_begins_a_sequence() -> None:
    """Where each transaction has its epoch, what lies behind a gap belongs to no other transaction."""
    world = TransactionalWorld()
    world.coordinator.membership = Membership.ADDED
    (result,) = world.send(b"second", 1)
    assert result.error is PartitionError.OUT_OF_SEQUENCE
    assert [r.error for r in world.send(b"first", 0) + world.send(b"second", 1)] == [None, None]
    world.end(commit=True, epoch=1)
    (result,) = world.send(b"late", 2)
    assert result.error is PartitionError.STALE_PRODUCER_EPOCH, "the marker has the next epoch"
    assert world.send(b"third", 0, epoch=1)[0].error is None
    assert world.committed_values() == [b"first", b"second"]


def test_scenario_26_a_truncated_tail_leaves_what_is_committed_and_the_marker_comes_again() -> None:
    """Data, a marker, or both lie in the tail that another leader does not have."""
    world = TransactionalWorld()
    world.send(b"a", 0), world.end(commit=False)
    world.send(b"open", 1)
    state = world.partition.reading.last_stable_offset, len(world.committed_values())
    late = Marker(PRODUCER, 0, True, 1, 500)
    for tail in ("data", "marker", "both"):
        transactions = world.partition.producing.transactions
        if tail != "marker":
            transactions.batch_appended(PRODUCER, RaftIndex(900))
        if tail != "data":
            transactions.marker_appended(late, RaftIndex(901))
            assert not transactions.is_open(PRODUCER)
        world.partition.producing.truncated()
        assert transactions.is_open(PRODUCER), tail
        assert transactions.check(late, 0) is MarkerVerdict.NEEDED, tail
        assert (world.stable, len(world.committed_values())) == state
    assert world.end(commit=True) == [Marked.DONE]
    assert world.committed_values() == [b"open"]


def test_an_answer_that_comes_after_the_end_of_a_leadership_appends_nothing() -> None:
    world = TransactionalWorld()
    world.coordinator.membership = None
    result = world.send(b"a", 0)
    world.partition.close()
    assert [r.error for r in result] == [PartitionError.NOT_LEADER]
    world.coordinator.waiting.pop()(Membership.IN_TRANSACTION, world.now)
    world.turns()
    assert len(result) == 1 and world.partition.high_watermark == 0


def test_scenario_23_a_plain_batch_in_a_transaction_and_a_transactional_one_without_an_id() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    assert world.send(b"b", 1, transactional=False)[0].error is PartitionError.NOT_IN_TRANSACTION
    sent = batch(b"c", producer_id=9, producer_epoch=0, base_sequence=0, transactional=True)
    assert world.produce(sent)[0].error is PartitionError.NO_TRANSACTIONAL_ID


def test_scenario_24_the_last_batch_of_a_committed_transaction_is_a_repeat() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    world.end(commit=True)
    world.coordinator.membership = Membership.NOT_IN_TRANSACTION
    assert world.send(b"a", 0) == [ProduceResult(None, 0, -1, 0)]
    assert world.stable == world.partition.high_watermark == 2


def test_the_sequence_goes_on_in_the_next_transaction_of_the_same_epoch_and_begins_anew_in_a_higher_one() -> (
    None
):
    world = TransactionalWorld()
    world.send(b"a", 0)
    world.end(commit=True)
    assert world.send(b"b", 1)[0].error is None
    world.end(commit=False, epoch=1)
    assert world.send(b"zombie", 2)[0].error is PartitionError.STALE_PRODUCER_EPOCH
    assert world.send(b"c", 2, epoch=1)[0].error is PartitionError.OUT_OF_SEQUENCE
    assert world.send(b"c", 0, epoch=1)[0].error is None
    world.restart()
    assert world.send(b"d", 1, epoch=1)[0].error is None


def test_a_fence_holds_before_its_marker_is_committed() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    world.end(commit=False, epoch=1, turns=0)
    assert world.send(b"zombie", 1, turns=0)[0].error is PartitionError.STALE_PRODUCER_EPOCH


def test_scenario_7_a_marker_without_a_transaction_is_written_and_ends_nothing() -> None:
    """Not as the guide has it, which writes none: then a late copy of the marker would end the next one."""
    world = TransactionalWorld()
    assert world.end(commit=False, decided_at=20) == [Marked.DONE]
    assert world.partition.high_watermark == world.stable == 1
    world.send(b"a", 0)
    assert world.end(commit=False, decided_at=20) == [Marked.DONE]
    assert world.stable == 1, "it is open"
    world.end(commit=True, decided_at=30)
    assert world.end(commit=False, epoch=1, decided_at=40) == [Marked.DONE]
    assert world.send(b"zombie", 1)[0].error is PartitionError.STALE_PRODUCER_EPOCH
    assert world.committed_values() == [b"a"]
    assert world.stable == world.partition.high_watermark == 4


def test_scenario_9_a_late_copy_of_a_marker_does_not_end_the_next_transaction() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    world.end(commit=False, decided_at=50)
    world.send(b"b", 1)
    assert world.end(commit=False, decided_at=50) == [Marked.DONE]
    assert world.end(commit=False, decided_at=49) == [Marked.DONE]
    assert world.stable == 2, "it is open"
    world.restart()
    assert world.end(commit=False, decided_at=50) == [Marked.DONE]
    world.end(commit=True, decided_at=60)
    assert world.committed_values() == [b"b"]


def test_copies_of_a_marker_that_is_under_way_wait_for_it_and_write_nothing() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    first, again = (world.end(commit=True, decided_at=70, turns=0) for _ in range(2))
    assert (first, again) == ([], [])
    world.turns()
    assert first + again == [Marked.DONE, Marked.DONE]
    assert world.partition.high_watermark == 2


def test_scenario_10_a_coordinator_of_an_older_term_is_fenced() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    world.end(commit=True, coordinator=5)
    world.send(b"b", 1)
    assert world.end(commit=False, coordinator=4) == [Marked.COORDINATOR_FENCED]
    assert world.end(commit=False, epoch=-1, coordinator=5) == [Marked.PRODUCER_FENCED]
    assert world.stable == 2


def test_scenario_39_an_administrator_ends_a_transaction_that_hangs() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    (producer,) = world.partition.marking.describe()
    assert (producer.producer_id, producer.transaction_start) == (PRODUCER, 0)
    assert world.end(commit=False, coordinator=-1, decided_at=BY_HAND) == [Marked.DONE]
    assert world.committed_values() == [] and world.stable == 2
    (producer,) = world.partition.marking.describe()
    assert producer.transaction_start == -1


@pytest.mark.parametrize("saved", [True, False])
def test_scenario_27_what_is_open_and_what_was_aborted_survive_a_power_loss(saved: bool) -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    world.end(commit=False)
    world.send(b"b", 1)
    world.send(b"other", 0, producer=6)
    if saved:
        world.partition.save()
        assert world.partition.log.saved.state[0] == WITH_TRANSACTIONS
        job = world.store.begin_checkpoint()
        job.run()
        world.store.finish_checkpoint(job)
    world.restart()
    assert world.stable == 2
    world.end(commit=True)
    assert world.stable == 3
    world.end(commit=True, producer=6)
    assert world.committed_values() == [b"b", b"other"]


def test_what_is_not_applied_yet_is_not_stable() -> None:
    """Scenario 27: the high watermark is known at once after a start, what it holds is not."""
    world = TransactionalWorld()
    world.send(b"a", 0)
    store, driver = world.store, world.driver
    world.turns = lambda count=4: None  # type: ignore[method-assign]
    world.restart()
    assert world.store is not store and world.driver is not driver
    assert world.partition.high_watermark >= 0
    assert world.stable == 0
    del world.turns
    world.turns()
    assert (world.partition.high_watermark, world.stable) == (1, 0)


def test_a_state_that_is_newer_than_where_the_log_goes_on_is_not_changed_by_old_entries() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    world.end(commit=False)
    world.send(b"b", 1)
    state = world.partition.producing.to_bytes(world.partition.applied_index)
    entries = world.partition.log.entries.read(world.partition.log.first_index, 1 << 20, 100)
    producing = world.partition.producing
    producing.restore(state)
    for entry in entries:
        if entry.payload:
            producing.apply(entry, NOW_MS)
    assert producing.to_bytes(world.partition.applied_index) == state


def test_without_transactions_the_state_is_what_older_builds_read() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0, transactional=False)
    world.partition.save()
    assert world.partition.log.saved.state[0] == producers_module.FORMAT_VERSION


def test_scenario_28_a_silent_producer_with_an_open_transaction_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(producers_module, "MAX_PRODUCERS", 3)
    world = TransactionalWorld(producer_expiration_ms=1000)
    world.send(b"a", 0)
    for producer in range(100, 110):
        world.send(b"x", 0, producer=producer, transactional=False)
    world.partition.tick(NOW_MS + 10_000)
    assert [each.producer_id for each in world.partition.marking.describe()] == [PRODUCER]
    assert world.stable == 0
    world.end(commit=True)
    world.partition.tick(NOW_MS + 20_000)
    assert world.partition.marking.describe() == []


def test_scenarios_33_and_34_the_log_start_moves_into_a_transaction() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    world.send(b"b", 1)
    assert world.delete_before(1) == [(None, 1)]
    assert world.stable == 1
    assert world.partition.reading.fetch(1, 1 << 20, committed=True).slice is None
    world.end(commit=False)
    world.produce(batch(b"after"))
    assert world.committed_values() == [b"after"]
    world.delete_before(2)
    assert len(world.partition.reading.fetch(2, 1 << 20, committed=True).aborted) == 1
    world.delete_before(3)
    assert world.partition.reading.fetch(3, 1 << 20, committed=True).aborted == []
    assert len(world.partition.producing.transactions.aborted) == 0


def test_aborted_transactions_are_found_as_a_search_of_all_finds_them() -> None:
    rng = random.Random(7)
    for _ in range(200):
        aborted, entries = Aborted(), list[AbortedTransaction]()
        open_: dict[int, int] = {}
        for offset in range(rng.randrange(1, 60)):
            producer = rng.randrange(5)
            if producer in open_ and rng.random() < 0.5:
                first = open_.pop(producer)
                stable = min([*open_.values(), offset + 1])
                entry = AbortedTransaction(producer, first, offset, stable)
                entries.append(entry)
                aborted.add(entry)
            else:
                open_.setdefault(producer, offset)
        start = rng.randrange(60)
        end = start + rng.randrange(1, 30)
        wanted = [e for e in entries if e.marker_offset >= start and e.first_offset < end]
        assert aborted.between(start, end) == wanted
        assert [*aborted.ranges()] == [tuple(each[:3]) for each in entries]
        assert [*map(tuple, _all(Aborted.from_bytes(aborted.to_bytes())))] == [*map(tuple, entries)]
        aborted.drop_before(Offset(start))
        assert _all(aborted) == [e for e in entries if e.marker_offset >= start]


def _all(aborted: Aborted) -> list[AbortedTransaction]:
    return [aborted[number] for number in range(len(aborted))]


def test_a_state_that_is_cut_off_is_damage() -> None:
    world = TransactionalWorld()
    world.send(b"a", 0)
    state = world.partition.producing.to_bytes(world.partition.applied_index)
    for size in (3, len(state) - 1):
        with pytest.raises(DamagedLog):
            world.partition.producing.restore(state[:size])


def test_a_transaction_that_was_long_open_does_not_slow_each_fetch_down() -> None:
    """90,000 others were aborted meanwhile: to make each of them an object would be 40 ms a fetch."""
    aborted = Aborted()
    for number in range(90_000):
        aborted.add(AbortedTransaction(number % 50, 1000 + 2 * number, 1001 + 2 * number, 500))
    begun = time.process_time()
    for _ in range(100):
        assert len(aborted.between(1000, 1100)) == 50
    assert time.process_time() - begun < 2
