"""The start of a partition's log on three replicas: who leads next, and who comes later, has it too."""

from __future__ import annotations

import random
from dataclasses import replace

from raftlog.partition.partition import Partition
from raftlog.partition.values import EARLIEST, PartitionError, PartitionSettings, ProduceResult
from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import Membership, RaftTiming
from raftlog.records.record import NewRecord, encode_batch
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, Offset, PartitionId, TopicName
from tests.sim.virtual_disk import VirtualDisk
from tests.steps import run
from tests.unit.test_partition_handover import KEY, NOW_MS, Replicas

Answers = list[tuple[PartitionError | None, int]]


def fill(replicas: Replicas, partition: Partition, *, batches: int = 6) -> None:
    results: list[ProduceResult] = []
    for _ in range(batches):
        batch = encode_batch([NewRecord(NOW_MS, None, b"v" * 100, ()) for _ in range(10)])
        partition.producing.produce(
            memoryview(batch), now=replicas.now, now_ms=NOW_MS, on_done=results.append
        )
    replicas.run(1)
    assert [result.error for result in results] == [None] * batches


def delete_before(replicas: Replicas, partition: Partition, offset: int) -> Answers:
    answers: Answers = []
    partition.delete_before(offset, now=replicas.now, on_done=lambda *answer: answers.append(answer))
    while not answers:
        replicas.run(0.01)
    return answers


def starts(replicas: Replicas) -> set[Offset]:
    return {partition.log_start_offset for partition in replicas.partitions.values()}


def fail_over(replicas: Replicas, old: Partition) -> Partition:
    assert old.group.leader is not None
    replicas.paused.add(old.group.leader)
    replicas.deaf.add(old.group.leader)
    replicas.run(10)
    return replicas.leader()


def test_who_leads_next_begins_where_the_deleted_records_end() -> None:
    trio = Replicas(3)
    trio.run(10)
    old = trio.leader()
    fill(trio, old)
    assert delete_before(trio, old, 25) == [(None, 25)]
    new = fail_over(trio, old)
    assert new is not old
    assert new.log_start_offset == 25
    assert run(new.reading.find_offset_steps(EARLIEST)).offset == 25
    assert new.reading.fetch(24, 100).error is PartitionError.OFFSET_OUT_OF_RANGE


def test_without_a_majority_nobody_is_told_that_records_are_deleted() -> None:
    trio = Replicas(3)
    trio.run(10)
    leader = trio.leader()
    fill(trio, leader)
    trio.deaf = set(trio.ids) - {leader.group.leader}
    answers: Answers = []
    leader.delete_before(25, now=trio.now, on_done=lambda *answer: answers.append(answer))
    trio.run(0.2)
    assert (answers, leader.log_start_offset) == ([], 0)
    trio.run(5)
    assert answers == [(PartitionError.MAY_STILL_HAPPEN, -1)]


def test_retention_is_the_leaders_and_moves_all_replicas() -> None:
    """A replica that dropped less than the one before it would move the start back when it leads."""
    trio = Replicas(3)
    trio.run(10)
    for number, partition in enumerate(trio.partitions.values()):
        partition.settings = replace(PartitionSettings(), retention_bytes=2000)
        partition.log.retention.configure(
            segment_bytes=2000 + 1500 * number
        )  # they roll at different offsets
    old = trio.leader()
    fill(trio, old, batches=20)
    for partition in trio.partitions.values():
        partition.tick(NOW_MS)
    trio.run(1)
    (start,) = starts(trio)
    assert start > 0
    assert fail_over(trio, old).log_start_offset == start


def test_a_start_that_only_one_replica_knows_is_told_to_all() -> None:
    """As an earlier build left it."""
    trio = Replicas(3)
    trio.run(10)
    leader = trio.leader()
    fill(trio, leader)
    leader.log.retention.delete_before(Offset(25))
    assert starts(trio) == {0, 25}
    leader.tick(NOW_MS)
    trio.run(1)
    assert starts(trio) == {25}
    entries = leader.log.last_index
    leader.tick(NOW_MS)
    trio.run(1)
    assert leader.log.last_index == entries, "once is enough"


def test_a_replica_that_comes_later_begins_inside_the_same_batch() -> None:
    """Its log begins where the leader's does, which is at a batch; the command comes behind it."""
    trio = Replicas(3)
    trio.run(10)
    leader = trio.leader()
    leader.log.retention.configure(segment_bytes=2000)
    fill(trio, leader)
    delete_before(trio, leader, 25)
    leader.tick(NOW_MS)
    assert 0 < leader.log.retention.first_offset < 25
    new_id = BrokerId(4)
    membership = Membership(leader.group.voters, frozenset({new_id}))
    store = Store.open(
        VirtualDisk(random.Random(4)), "/data", StoreSettings(node_id=new_id), rng=random.Random(4)
    )
    log = store.create_log(KEY, "t-0", membership=membership.encode(), may_lack=True)
    group = RaftGroup(
        KEY,
        new_id,
        log,
        leader.group.voters,
        timing=RaftTiming(),
        rng=random.Random(5),
        now=trio.now,
        learners=membership.learners,
    )
    new = Partition(TopicName("t"), PartitionId(0), KEY[:16], group, log, PartitionSettings(), now_ms=NOW_MS)
    driver = Driver(store, send=lambda to, messages: trio._carry(new_id, to, messages))
    driver.add(group, new)
    trio.drivers[new_id], trio.partitions[new_id] = driver, new
    leader.group.leading.propose_membership(membership, trio.now, lambda outcome, entry: None)
    trio.run(5)
    assert (new.log_start_offset, new.high_watermark) == (25, 60)
