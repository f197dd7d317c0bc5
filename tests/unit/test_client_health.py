"""What is wrong with a cluster, in words."""

from __future__ import annotations

from raftlog.client.health import (
    DiskState,
    PartitionState,
    broker_problems,
    disk_problems,
    topic_problems,
)

GIB = 1 << 30


def test_a_broker_that_is_down_is_named() -> None:
    assert broker_problems([(1, True), (2, False)]) == ["broker 2 is down"]


def test_partitions_that_share_a_fate_share_a_line() -> None:
    rows = [
        PartitionState(0, 1, 3, 3),
        PartitionState(1, None, 3, 2),
        PartitionState(2, 1, 3, 2),
    ]
    assert topic_problems("orders", rows) == [
        "orders: 1 partition without a leader: 1",
        "orders: 2 partitions with replicas on brokers that are down: 1,2",
    ]
    assert topic_problems("orders", rows[:1]) == []


def test_damage_and_a_disk_that_is_almost_full_are_problems() -> None:
    assert disk_problems([DiskState(1, False, 100 * GIB, 50 * GIB), DiskState(2, False, -1, -1)]) == []
    assert disk_problems([DiskState(1, True, 100 * GIB, 50 * GIB)]) == [
        "broker 1 keeps damaged data that is not repaired yet: its log says which"
    ]
    assert disk_problems([DiskState(3, False, 100 * GIB, 100 << 20)]) == ["broker 3 has 100 MiB of disk left"]
    # a small disk may have little free, a large one may have a small share free
    assert disk_problems([DiskState(4, False, GIB, 100 << 20), DiskState(5, False, 1000 * GIB, GIB)]) == []
