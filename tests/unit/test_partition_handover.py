"""A partition whose leadership is being handed over: what its producers are told meanwhile."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from raftlog.partition.partition import Partition, PartitionError, PartitionSettings, ProduceResult
from raftlog.raft.driver import Driver
from raftlog.raft.elections import SILENT_BEATS
from raftlog.raft.engine import RaftGroup
from raftlog.raft.messages import Message
from raftlog.raft.values import RaftTiming
from raftlog.records.record import NewRecord, encode_batch
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, PartitionId, Term, TopicName, group_key
from tests.sim.virtual_disk import VirtualDisk

KEY = group_key(bytes(range(16)), 0)
NOW_MS = 1_700_000_000_000
IDS = (BrokerId(1), BrokerId(2))


class Pair:
    """Two brokers with one partition. `deaf` brokers get no messages."""

    def __init__(self) -> None:
        self.now = 0.0
        self.deaf: set[BrokerId] = set()
        self.drivers: dict[BrokerId, Driver] = {}
        self.partitions: dict[BrokerId, Partition] = {}
        for id in IDS:
            limits = StoreSettings(node_id=id, wal_file_bytes=1 << 20)
            disk, rng = VirtualDisk(random.Random(id)), random.Random(10 + id)
            store = Store.open(disk, "/data", limits, rng=rng)
            log = store.create_log(KEY, "t-0")
            group = RaftGroup(KEY, id, log, frozenset(IDS), timing=RaftTiming(), rng=rng, now=0.0)
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
            for driver in self.drivers.values():
                driver.turn(self.now)

    def leader(self) -> Partition:
        (leader,) = [partition for partition in self.partitions.values() if partition.group.is_ready]
        return leader


def test_no_batch_is_out_of_sequence_because_the_one_before_was_refused() -> None:
    """The second of two batches under way must be told the same as the first: a producer that is told of a
    gap takes its sequence for broken and starts a new one."""
    pair = Pair()
    pair.run(10)
    leader = pair.leader()
    results: list[ProduceResult] = []

    def produce(sequence: int) -> None:
        batch = encode_batch(
            [NewRecord(NOW_MS, None, b"v", ())], producer_id=7, producer_epoch=0, base_sequence=sequence
        )
        leader.produce(memoryview(batch), now=pair.now, now_ms=NOW_MS, on_done=results.append)

    produce(0)
    pair.run(1)
    (other,) = set(IDS) - {leader.group.leader}
    pair.deaf.add(other)  # or it would have taken over at once
    assert leader.group.transfer_leadership(other, pair.now) is None
    produce(1)
    produce(2)
    assert [result.error for result in results] == [
        None,
        PartitionError.NOT_LEADER,
        PartitionError.NOT_LEADER,
    ]


def test_a_leader_that_hands_over_or_falls_silent_is_doubted() -> None:
    pair = Pair()
    pair.run(10)
    leader = pair.leader().group
    (other,) = set(IDS) - {leader.leader}
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
    assert leader.transfer_leadership(other, pair.now) is None
    assert not leader.may_be_led_in(leader.term, pair.now)
