"""A partition whose leadership moves: what its producers are told meanwhile."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from raftlog.partition.partition import Partition
from raftlog.partition.values import PartitionError, PartitionSettings, ProduceResult
from raftlog.raft.driver import Driver
from raftlog.raft.elections import SILENT_BEATS
from raftlog.raft.group import RaftGroup
from raftlog.raft.messages import Message
from raftlog.raft.values import RaftTiming
from raftlog.records.record import NewRecord, encode_batch
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, PartitionId, Term, TopicName, group_key
from tests.sim.virtual_disk import VirtualDisk

KEY = group_key(bytes(range(16)), 0)
NOW_MS = 1_700_000_000_000


class Replicas:
    """Brokers with one partition. `deaf` ones get no messages, `paused` ones do nothing."""

    def __init__(self, count: int = 2) -> None:
        self.now = 0.0
        self.ids = tuple(BrokerId(number) for number in range(1, count + 1))
        self.deaf: set[BrokerId] = set()
        self.paused: set[BrokerId] = set()
        self.drivers: dict[BrokerId, Driver] = {}
        self.partitions: dict[BrokerId, Partition] = {}
        for id in self.ids:
            limits = StoreSettings(node_id=id, wal_file_bytes=1 << 20)
            disk, rng = VirtualDisk(random.Random(id)), random.Random(10 + id)
            store = Store.open(disk, "/data", limits, rng=rng)
            log = store.create_log(KEY, "t-0")
            group = RaftGroup(KEY, id, log, frozenset(self.ids), timing=RaftTiming(), rng=rng, now=0.0)
            self.drivers[id] = Driver(store, send=partial(self._carry, id))
            self.partitions[id] = Partition(
                TopicName("t"), PartitionId(0), KEY[:16], group, log, PartitionSettings(), now_ms=NOW_MS
            )
            self.drivers[id].add(group, self.partitions[id])

    def _carry(self, sender: BrokerId, to: BrokerId, messages: Sequence[Message]) -> None:
        if to not in self.deaf:
            self.drivers[to].receive(sender, messages)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.01
            for id, driver in self.drivers.items():
                if id not in self.paused:
                    driver.turn(self.now)

    def leader(self) -> Partition:
        (leader,) = [
            partition
            for id, partition in self.partitions.items()
            if partition.group.is_ready and id not in self.paused
        ]
        return leader

    def produce(self, partition: Partition, sequence: int, results: list[ProduceResult]) -> None:
        batch = encode_batch(
            [NewRecord(NOW_MS, None, b"v", ())], producer_id=7, producer_epoch=0, base_sequence=sequence
        )
        partition.producing.produce(memoryview(batch), now=self.now, now_ms=NOW_MS, on_done=results.append)


def test_no_batch_is_out_of_sequence_because_the_one_before_was_refused() -> None:
    """The second of two batches under way must be told the same as the first: a producer that is told of a
    gap takes its sequence for broken and starts a new one."""
    pair = Replicas()
    pair.run(10)
    leader = pair.leader()
    results: list[ProduceResult] = []
    pair.produce(leader, 0, results)
    pair.run(1)
    (other,) = set(pair.ids) - {leader.group.leader}
    pair.deaf.add(other)  # or it would have taken over at once
    assert leader.group.leading.transfer(other, pair.now) is None
    pair.produce(leader, 1, results)
    pair.produce(leader, 2, results)
    assert [result.error for result in results] == [
        None,
        PartitionError.NOT_LEADER,
        PartitionError.NOT_LEADER,
    ]


def test_a_leader_that_was_replaced_unawares_speaks_of_no_gap() -> None:
    """The batch before this one is in the log of the leader that replaced it (found by the simulator)."""
    trio = Replicas(3)
    trio.run(10)
    old = trio.leader()
    results: list[ProduceResult] = []
    trio.produce(old, 0, results)
    trio.run(1)
    assert old.group.leader is not None
    trio.paused.add(old.group.leader)
    trio.run(10)
    trio.produce(trio.leader(), 1, results)
    trio.run(1)
    assert [result.error for result in results] == [None, None]

    assert old.is_leader, "it has not heard of the other"
    trio.produce(old, 2, results)
    trio.paused.clear()
    trio.run(1)
    assert [result.error for result in results[2:]] == [PartitionError.NOT_LEADER]

    trio.produce(trio.leader(), 3, results)
    trio.run(1)
    assert results[3].error is PartitionError.OUT_OF_SEQUENCE, "there is a gap, and the leader knows"


def test_who_refused_the_batch_before_it_led_speaks_of_no_gap() -> None:
    """Of three batches under way, two may come before an election and one behind it: librdkafka, told of a
    gap then, starts a new sequence with what may be in the log already (found by emptying brokers)."""
    pair = Replicas()
    pair.run(10)
    old = pair.leader()
    results: list[ProduceResult] = []
    pair.produce(old, 0, results)
    pair.run(1)
    (next_id,) = set(pair.ids) - {old.group.leader}
    new = pair.partitions[next_id]
    pair.produce(new, 1, results)
    assert old.group.leading.transfer(next_id, pair.now) is None
    pair.run(1)
    assert new.group.is_ready
    pair.produce(new, 2, results)
    pair.run(1)
    assert [result.error for result in results[1:]] == [PartitionError.NOT_LEADER] * 2

    pair.produce(new, 1, results)
    pair.produce(new, 2, results)
    pair.produce(new, 9, results)
    pair.run(1)
    assert sorted(str(result.error) for result in results[3:]) == sorted(
        str(error) for error in (None, None, PartitionError.OUT_OF_SEQUENCE)
    )


def test_a_leader_that_hands_over_or_falls_silent_is_doubted() -> None:
    pair = Replicas()
    pair.run(10)
    leader = pair.leader().group
    (other,) = set(pair.ids) - {leader.leader}
    follower = pair.partitions[other].group
    term = leader.term
    assert leader.may_be_led_in(term, pair.now) and follower.may_be_led_in(term, pair.now)
    assert not follower.may_be_led_in(Term(term - 1), pair.now), "a term that is over"
    assert follower.may_be_led_in(Term(term + 1), pair.now), "a term not heard of yet"

    pair.deaf.add(other)
    silence = SILENT_BEATS * RaftTiming().heartbeat
    pair.run(0.9 * silence - RaftTiming().heartbeat)
    assert follower.may_be_led_in(term, pair.now)
    pair.run(silence)
    assert not follower.may_be_led_in(term, pair.now)
    pair.deaf.clear()
    pair.run(0.5)
    assert follower.may_be_led_in(leader.term, pair.now)

    pair.deaf.add(other)
    assert leader.leading.transfer(other, pair.now) is None
    assert not leader.may_be_led_in(leader.term, pair.now)
