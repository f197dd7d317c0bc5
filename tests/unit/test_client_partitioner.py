"""Where records go: Java's murmur2, and sticky without a key."""

from __future__ import annotations

import random

import pytest

from raftlog.client.partitioner import Sticky, murmur2, murmur2_partition

# From Apache Kafka's UtilsTest.testMurmur2.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JAVA.items())
def test_murmur2_is_javas(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


@pytest.mark.filterwarnings("ignore")
def test_murmur2_agrees_with_kafka_python() -> None:
    from kafka.partitioner.default import murmur2 as theirs

    rng = random.Random(1)
    for _ in range(300):
        key = rng.randbytes(rng.randrange(40))
        assert murmur2(key) == theirs(key) & 0xFFFFFFFF


def test_partitions_are_in_range() -> None:
    for partitions in (1, 2, 3, 7, 1000):
        assert all(0 <= murmur2_partition(b"%d" % i, partitions) < partitions for i in range(200))


def test_sticky_stays_for_a_batch_and_then_moves() -> None:
    sticky = Sticky(1000, random.Random(1))
    chosen = [sticky.choose([0, 1, 2], 100) for _ in range(30)]
    runs = [chosen[i : i + 10] for i in range(0, 30, 10)]
    assert [len(set(run)) for run in runs] == [1, 1, 1]
    assert runs[0][0] != runs[1][0] != runs[2][0]


def test_sticky_takes_only_what_is_available() -> None:
    sticky = Sticky(1, random.Random(1))
    assert {sticky.choose([5], 100) for _ in range(3)} == {5}
    assert {sticky.choose([1, 4], 100) for _ in range(20)} == {1, 4}


def test_sticky_is_fair() -> None:
    sticky = Sticky(1, random.Random(1))
    chosen = [sticky.choose(range(4), 1) for _ in range(4000)]
    assert all(850 < chosen.count(partition) < 1150 for partition in range(4))
