"""A partition's replica that is given what its leader has compacted: it folds to the same, and knows as
much."""

from __future__ import annotations

from functools import partial
from typing import cast

import pytest

from raftlog.errors import DamagedLog
from raftlog.partition.compacting import AWAY_S
from raftlog.partition.markers import Marker
from raftlog.partition.marking import Marked
from raftlog.partition.partition import Partition
from raftlog.partition.values import ProduceResult
from raftlog.raft.messages import Filled
from raftlog.records.record import NewRecord, encode_batch
from raftlog.storage.disk import Disk
from raftlog.types import BrokerId
from tests.compaction_world import describe
from tests.sim.virtual_disk import VirtualDisk
from tests.unit.test_partition_compacting import compact, compacted, fill, put, tick, values
from tests.unit.test_partition_handover import KEY, NOW_MS, Replicas

PRODUCER = {"producer_id": 9, "producer_epoch": 0}
OURS = {"producer_id": 5, "producer_epoch": 0, "base_sequence": 0, "transactional": True}


def lacking(trio: Replicas) -> BrokerId:
    """One of three was away for so long that the leader has compacted what it lacks, and is back. The
    leader's memory holds nothing of that."""
    leader = trio.leader()
    away = next(broker for broker in trio.ids if broker != leader.group.leader)
    assert put(trio, b"k1", b"kept by its producer", base_sequence=0, **PRODUCER).error is None
    fill(trio, 5)
    trio.paused.add(away)
    trio.deaf.add(away)
    assert put(trio, b"k0", b"aborted", **OURS).error is None
    marked: list[Marked] = []
    marker = Marker(5, 0, False, 1, 1)
    leader.marking.write(marker, now=trio.now, now_ms=NOW_MS, on_done=marked.append)
    trio.run(1)
    assert marked == [Marked.DONE]
    fill(trio)
    trio.now += AWAY_S
    trio.run(1)
    tick(trio)
    assert trio.leader() is leader and compact(leader, disk_of(trio, leader))
    leader.log.entries.forget_to(leader.log.commit_index)
    trio.paused.clear()
    trio.deaf.clear()
    return away


def disk_of(trio: Replicas, partition: Partition) -> Disk:
    broker = next(broker for broker, each in trio.partitions.items() if each is partition)
    return trio.drivers[broker].store.disk


class Pull:
    """What `cluster.copying` does, here and now, in steps."""

    def __init__(self, trio: Replicas, to: BrokerId) -> None:
        self._trio, self._to = trio, to
        self._source, self._target = trio.leader(), trio.partitions[to]
        aside = trio.drivers[to].store.aside
        self._copy = self._source.log.cleaning.copy()
        self._dirname = aside.new_folder(self._target.log)
        self._filling = aside.fill(self._dirname, describe(self._copy))
        self._parts = list(self._filling.parts(1000))

    def take(self, count: int) -> None:
        taken, self._parts = self._parts[:count], self._parts[count:]
        assert taken
        for part in taken:
            self._filling.add(part, self._copy.read(part) or b"")

    def finish(self) -> None:
        self.take(len(self._parts))
        assert all(step is None for step in self._filling.finish())
        filled = Filled(KEY, self._target.group.term, self._filling.image, self._dirname)
        self._target.group.turning.step(self._to, filled, self._trio.now)
        self._target.group.turning.wake()
        assert self._target.log.dirname == self._dirname
        self._source.log.cleaning.end_copy(self._copy)


def give(trio: Replicas, to: BrokerId) -> None:
    Pull(trio, to).finish()


def test_a_follower_that_was_away_for_long_gets_the_compacted_log_and_folds_to_the_same() -> None:
    """Scenario 58: no aborted record is visible, and nothing of its own log is left."""
    trio = compacted()
    away = lacking(trio)
    offers: list[BrokerId] = []
    leader, target = trio.leader(), trio.partitions[away]
    leader.compacting.on_lacking = offers.append
    tick(trio)
    assert set(offers) == {away} and target.log.cleaning.clean_index == 0
    give(trio, away)
    tick(trio)
    assert target.log.last_index == leader.log.last_index == target.applied_index
    assert values(target) == values(leader) and (b"k0", b"aborted") not in values(target)
    ranges = [list(each.compacting._transactions.aborted.ranges()) for each in (target, leader)]
    assert ranges[0] == ranges[1] and len(ranges[0]) == 1
    offers.clear()
    tick(trio)
    assert not offers


def test_the_leader_changes_and_retention_goes_on_while_a_copy_is_pulled() -> None:
    """Scenario 59: who gave it goes on giving, from files that its own log names no more; what happened to
    the log meanwhile comes by entries."""
    trio = compacted()
    away = lacking(trio)
    tick(trio)
    source, target = trio.leader(), trio.partitions[away]
    pull = Pull(trio, away)
    pull.take(1)
    successor = next(broker for broker in trio.ids if broker not in (away, source.group.leader))
    leader = trio.partitions[successor]
    assert compact(leader, disk_of(trio, leader))
    leader.log.entries.forget_to(leader.log.commit_index)
    assert source.group.leading.transfer(successor, trio.now) is None
    trio.run(5)
    assert trio.leader() is leader
    trio.paused.add(away)
    trio.deaf.add(away)
    middle = source.log.cleaning.copy().image.commit.offset - 10
    leader.delete_before(middle, now=trio.now, on_done=lambda error, start: None)
    trio.run(1)
    tick(trio)
    assert source.log_start_offset == leader.log_start_offset > target.log_start_offset
    assert put(trio, b"k9", b"after it").error is None
    trio.paused.clear()
    trio.deaf.clear()
    trio.run(1)  # until it hears of the leader
    pull.finish()
    tick(trio)
    assert target.applied_index == leader.log.last_index
    assert target.log_start_offset == leader.log_start_offset
    assert values(target) == values(leader) and (b"k9", b"after it") in values(target)


def test_a_batch_that_was_compacted_away_is_known_as_a_repeat_by_the_replica_that_was_filled() -> None:
    """Scenario 61."""
    trio = compacted()
    away = lacking(trio)
    tick(trio)
    give(trio, away)
    tick(trio)
    target = trio.partitions[away]
    assert trio.leader().group.leading.transfer(away, trio.now) is None
    trio.run(5)
    assert trio.leader() is target
    assert (b"k1", b"kept by its producer") not in values(target)
    end = target.log.log_end_offset
    results: list[ProduceResult] = []
    batch = encode_batch([NewRecord(NOW_MS, b"k1", b"kept by its producer")], base_sequence=0, **PRODUCER)
    produce = partial(target.producing.produce, now=trio.now, now_ms=NOW_MS, on_done=results.append)
    produce(memoryview(batch))
    trio.run(1)
    assert [(each.error, each.base_offset) for each in results] == [(None, 0)]
    assert target.log.log_end_offset == end


def test_a_leader_with_a_state_of_later_than_its_commit_index_answers_a_copy_of_a_marker() -> None:
    """A copy comes with the newest state. What that holds is pending no more: the coordinator, whose answer
    was lost, would wait for an entry that settles it, and nobody need ever write one."""
    trio = compacted()
    leader = trio.leader()
    assert put(trio, b"k0", b"aborted", **OURS).error is None
    marker, marked = Marker(5, 0, False, 1, 1), list[Marked]()
    leader.marking.write(marker, now=trio.now, now_ms=NOW_MS, on_done=marked.append)
    while not marked:
        trio.run(0.01)
    leader.save()
    state, broker = leader.log.saved.state, leader.group.leader
    assert broker is not None
    for other, partition in trio.partitions.items():
        if other != broker:
            assert partition.log.commit_index < leader.log.saved.index == partition.log.last_index
            partition.restore(state, partition.log.commit_index)
    trio.paused.add(broker)
    trio.deaf.add(broker)
    trio.run(5)
    successor = next(each for each in trio.partitions.values() if each is not leader and each.is_leader)
    successor.marking.write(marker, now=trio.now, now_ms=NOW_MS, on_done=marked.append)
    trio.run(1)
    assert marked == [Marked.DONE, Marked.DONE]
    assert len(successor.compacting._transactions.aborted) == 1


def test_who_is_given_a_copy_holds_the_cleaner_back() -> None:
    """Else a new pass would make the copy useless before it is done, again and again."""
    trio = compacted()
    away = lacking(trio)
    tick(trio)
    leader = trio.leader()
    before = leader.compacting.all_have
    fill(trio)
    tick(trio)
    assert leader.compacting.all_have == before
    give(trio, away)
    tick(trio)
    assert leader.compacting.all_have > before


def test_where_a_broker_cannot_take_copies_who_is_away_stops_the_cleaning_for_good() -> None:
    """A build that knows none is in the cluster."""
    trio = compacted()
    leader = trio.leader()
    leader.compacting.may_copy = lambda: False
    away = next(broker for broker in trio.ids if broker != leader.group.leader)
    trio.paused.add(away)
    trio.deaf.add(away)
    fill(trio)
    trio.now += AWAY_S
    trio.run(1)
    tick(trio)
    assert leader.compacting.all_have == 0
    leader.compacting.may_copy = lambda: True
    tick(trio)
    assert leader.compacting.all_have > 10


def test_retention_during_a_pass_is_no_damage() -> None:
    one = compacted(1)
    fill(one)
    tick(one)
    leader = one.leader()
    found = leader.compacting.find(leader.settings, NOW_MS)
    assert found is not None and leader.compacting.has_still(found)
    leader.delete_before(-1, now=one.now, on_done=lambda error, start: None)
    one.run(1)
    tick(one)
    assert not leader.compacting.has_still(found)


def test_damage_where_compaction_has_been_has_the_replica_filled_anew() -> None:
    """Scenario 57. No other replica has the same bytes, so that the damaged entry alone cannot be
    repaired."""
    trio = compacted()
    fill(trio)
    tick(trio)
    for partition in trio.partitions.values():
        assert compact(partition, disk_of(trio, partition))
        partition.log.entries.forget_to(partition.log.commit_index)
    leader = trio.leader()
    broker, target = next(each for each in trio.partitions.items() if each[1] is not leader)
    disk = cast(VirtualDisk, disk_of(trio, target))
    disk.flip_bit(next(path for path in disk.files("/data/t-0") if path.endswith(".1.log")), 8 * 70)
    with pytest.raises(DamagedLog):
        values(target)
    assert target.log.damage.rot is not None and target.group.is_trusted
    tick(trio, 10)
    assert target.log.damage.rot is None and not target.group.is_trusted  # it has begun anew, and is empty
    assert target.log.cleaning.clean_index == 0
    give(trio, broker)
    tick(trio)
    assert target.group.is_trusted and values(target) == values(leader)
