"""Compaction of a partition's three replicas: how far all have the log, what is due, what a pass takes with
it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftlog.partition.markers import Marker
from raftlog.partition.marking import Marked
from raftlog.partition.partition import Partition
from raftlog.partition.values import PartitionError, PartitionSettings, ProduceResult
from raftlog.partition.verifying import Membership
from raftlog.records.batch import iter_headers
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from raftlog.storage.compaction.cleaner import clean
from raftlog.storage.disk import Disk
from tests.unit.test_partition_handover import NOW_MS, Replicas

COMPACTED = replace(PartitionSettings(), compacts=True, retention_ms=-1, min_dirty_ratio=0.1)


def compacted(count: int = 3) -> Replicas:
    replicas = Replicas(count)
    replicas.run(10)
    for partition in replicas.partitions.values():
        partition.settings = COMPACTED
        partition.log.retention.configure(segment_bytes=600)
    return replicas


def put(replicas: Replicas, key: bytes | None, value: bytes | None, **producer: object) -> ProduceResult:
    results: list[ProduceResult] = []
    batch = encode_batch([NewRecord(NOW_MS, key, value)], **producer)  # type: ignore[arg-type]
    leader = replicas.leader()
    leader.producing.produce(
        memoryview(batch),
        now=replicas.now,
        now_ms=NOW_MS,
        on_done=results.append,
        verify=lambda pid, epoch, answer: answer(Membership.IN_TRANSACTION, replicas.now),
    )
    while not results:
        replicas.run(0.05)
    return results[0]


def fill(replicas: Replicas, count: int = 40) -> None:
    for number in range(count):
        assert put(replicas, b"k%d" % (number % 3), b"%d" % number).error is None


def tick(replicas: Replicas, seconds: int = 3) -> None:
    for _ in range(seconds):
        for broker, partition in replicas.partitions.items():
            if broker not in replicas.paused:
                partition.tick(NOW_MS, now=replicas.now)
        replicas.run(1)


def compact(partition: Partition, disk: Disk, number: int = 1) -> bool:
    found = partition.compacting.find(partition.settings, NOW_MS)
    if found is None:
        return False
    disk.mkdir("/data/cleaning")
    job = partition.compacting.job(
        found,
        partition.settings,
        target=f"/data/cleaning/pass{number}",
        key_map_bytes=1 << 20,
        bytes_per_second=0,
    )
    return partition.compacting.take(found, job, clean(disk, job))


def values(partition: Partition) -> list[tuple[bytes | None, bytes | None]]:
    found: list[tuple[bytes | None, bytes | None]] = []
    offset = partition.log_start_offset
    while (piece := partition.log.reader.read(offset, 1 << 20)) is not None:
        data = bytes(piece.read())
        for at, header in iter_headers(data):
            if not header.is_control:
                found += [(each.key, each.value) for each in decode_batch(data, at)]
        offset = piece.next_offset
    return found


def test_every_replica_may_clean_what_all_have() -> None:
    trio = compacted()
    fill(trio)
    assert all(one.compacting.find(COMPACTED, NOW_MS) is None for one in trio.partitions.values())
    tick(trio)
    assert len({one.compacting.all_have for one in trio.partitions.values()}) == 1
    for broker, partition in trio.partitions.items():
        before = dict(values(partition))
        assert compact(partition, trio.drivers[broker].store.disk)
        assert dict(values(partition)) == before
        assert len(values(partition)) < 15
        assert partition.compacting.find(COMPACTED, NOW_MS) is None


def test_a_member_that_is_away_stops_the_cleaning() -> None:
    trio = compacted()
    leader = trio.leader()
    away = next(broker for broker in trio.ids if broker != leader.group.leader)
    trio.paused.add(away)
    trio.deaf.add(away)
    fill(trio)
    tick(trio)
    assert leader.compacting.all_have == 0
    trio.paused.clear()
    trio.deaf.clear()
    tick(trio, 8)
    assert all(one.compacting.all_have > 10 for one in trio.partitions.values())


def test_a_topic_that_is_not_compacted_says_nothing() -> None:
    trio = compacted()
    for partition in trio.partitions.values():
        partition.settings = PartitionSettings()
    fill(trio)
    before = trio.leader().log.last_index
    tick(trio)
    assert trio.leader().log.last_index == before


def test_one_replica_alone_needs_no_entry_for_it() -> None:
    one = compacted(1)
    fill(one)
    leader = one.leader()
    before = leader.log.last_index
    tick(one)
    assert leader.log.last_index == before and leader.compacting.all_have > 10


def test_an_open_transaction_holds_the_cleaner_and_an_aborted_one_is_forgotten_with_its_marker() -> None:
    """Scenarios 49, 53 and 60."""
    one = compacted(1)
    leader = one.leader()
    ours = {"producer_id": 5, "producer_epoch": 0, "base_sequence": 0, "transactional": True}
    assert put(one, b"k0", b"first").error is None
    assert put(one, b"k0", b"aborted", **ours).error is None
    fill(one)
    tick(one)
    assert leader.compacting.find(COMPACTED, NOW_MS) is None
    marked: list[Marked] = []
    leader.marking.write(Marker(5, 0, False, 1, 1), now=one.now, now_ms=NOW_MS, on_done=marked.append)
    one.run(1)
    assert marked == [Marked.DONE]
    fill(one)
    tick(one)
    leader.settings = replace(COMPACTED, delete_retention_ms=0)
    assert (b"k0", b"aborted") in values(leader)
    assert compact(leader, one.drivers[one.ids[0]].store.disk, 1)
    assert (b"k0", b"aborted") not in values(leader)
    transactions = leader.compacting._transactions
    assert len(transactions.aborted) == 1  # the marker is still there
    fill(one)
    tick(one)
    assert compact(leader, one.drivers[one.ids[0]].store.disk, 2)
    assert len(transactions.aborted) == 0
    assert dict(values(leader)) == {b"k0": b"39", b"k1": b"37", b"k2": b"38"}


def test_what_is_too_young_waits_and_what_waits_for_too_long_does_not() -> None:
    one = compacted(1)
    fill(one)
    tick(one)
    young = replace(COMPACTED, min_compaction_lag_ms=1000)
    find = one.leader().compacting.find
    assert find(young, NOW_MS + 999) is None and find(young, NOW_MS + 1000) is not None
    rare = replace(COMPACTED, min_dirty_ratio=1.0, max_compaction_lag_ms=1000)
    assert find(rare, NOW_MS + 1000) is None and find(rare, NOW_MS + 1001) is not None


def test_a_record_without_a_key_is_refused_with_its_batch() -> None:
    """Scenario 62."""
    one = compacted(1)
    results: list[ProduceResult] = []
    batch = encode_batch([NewRecord(NOW_MS, key, b"v") for key in (b"a", None, b"b", None)])
    leader = one.leader()
    leader.producing.produce(memoryview(batch), now=one.now, now_ms=NOW_MS, on_done=results.append)
    (result,) = results
    assert (result.error, result.keyless) == (PartitionError.INVALID_RECORD, [1, 3])
    leader.settings = PartitionSettings()
    assert put(one, None, b"v").error is None


@pytest.mark.parametrize("restarts", [False, True])
def test_scenario_61_a_repeat_of_a_batch_that_was_cleaned_away_is_known(restarts: bool) -> None:
    """By what is remembered of its producer, which the replicas save, not by the log."""
    trio = compacted()
    first = put(trio, b"k0", b"first", producer_id=7, producer_epoch=0, base_sequence=0)
    assert first.error is None
    fill(trio)
    tick(trio)
    for broker, partition in trio.partitions.items():
        assert compact(partition, trio.drivers[broker].store.disk)
        assert (b"k0", b"first") not in values(partition)
    if restarts:  # what a new replica is given, too
        for partition in trio.partitions.values():
            producing = partition.producing
            producing.restore(producing.to_bytes(partition.applied_index))
    again = put(trio, b"k0", b"first", producer_id=7, producer_epoch=0, base_sequence=0)
    assert (again.error, again.base_offset) == (None, first.base_offset), "not appended once more"
