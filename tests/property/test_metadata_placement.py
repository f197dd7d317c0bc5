"""Placement: even, apart, on different racks; plans that end, and that only move what must be."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.metadata.catalog import BrokerInfo
from raftlog.metadata.placement import (
    Move,
    NotEnoughBrokers,
    Replicas,
    even_leaders,
    place_new_partitions,
    plan_drain,
    plan_leaders,
    plan_rebalance,
)
from raftlog.types import BrokerId


def broker(
    number: int, rack: str | None = None, *, fenced: bool = False, draining: bool = False
) -> BrokerInfo:
    return BrokerInfo(
        id=BrokerId(number),
        host="",
        port=0,
        peer_host="",
        peer_port=0,
        rack=rack,
        fenced=fenced,
        draining=draining,
    )


def spread(counts: Counter[BrokerId], brokers: list[BrokerInfo]) -> int:
    """How much more the fullest has than the emptiest."""
    each = [counts[b.id] for b in brokers]
    return max(each) - min(each)


def replica_counts(assignments: list[Replicas] | tuple[Replicas, ...]) -> Counter[BrokerId]:
    return Counter(b for replicas in assignments for b in replicas)


def racks_of(replicas: Replicas, brokers: list[BrokerInfo]) -> set[str | None]:
    rack = {b.id: b.rack for b in brokers}
    return {rack[b] for b in replicas}


plain_brokers = st.integers(1, 9).map(lambda count: [broker(number) for number in range(count)])
racked = st.tuples(st.integers(1, 4), st.integers(1, 3)).map(
    lambda shape: [broker(10 * r + b, f"r{r}") for r in range(shape[0]) for b in range(shape[1])]
)
lopsided = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=8).map(
    lambda racks: [broker(number, rack) for number, rack in enumerate(racks)]
)
factors = st.integers(1, 5)
counts = st.integers(1, 40)


@settings(max_examples=150, deadline=None)
@given(brokers=plain_brokers | racked, factor=factors, first=counts, more=st.integers(0, 20))
def test_a_topic_is_spread_within_one(brokers: list[BrokerInfo], factor: int, first: int, more: int) -> None:
    placed = place_new_partitions(brokers, first, factor)
    if factor > len(brokers):
        assert placed == NotEnoughBrokers(factor, len(brokers))
        return
    assert not isinstance(placed, NotEnoughBrokers)
    assert len(placed) == first
    added = place_new_partitions(brokers, more, factor, topic=placed, cluster=placed)
    assert not isinstance(added, NotEnoughBrokers)
    every = placed + added
    assert all(len(set(replicas)) == factor for replicas in every)
    assert spread(replica_counts(every), brokers) <= 1
    racks = {b.rack for b in brokers}
    if None not in racks:
        assert all(len(racks_of(replicas, brokers)) == min(factor, len(racks)) for replicas in every)
    elif more == 0:
        assert spread(Counter(replicas[0] for replicas in every), brokers) <= 1


@settings(max_examples=100, deadline=None)
@given(brokers=lopsided, factor=factors, count=counts)
def test_racks_are_distinct_where_they_can_be(brokers: list[BrokerInfo], factor: int, count: int) -> None:
    placed = place_new_partitions(brokers, count, factor)
    if isinstance(placed, NotEnoughBrokers):
        assert factor > len(brokers)
        return
    racks = {b.rack for b in brokers}
    for replicas in placed:
        assert len(set(replicas)) == factor
        assert len(racks_of(replicas, brokers)) == min(factor, len(racks))


@settings(max_examples=50, deadline=None)
@given(brokers=plain_brokers, topics=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=20))
def test_many_small_topics_are_spread_over_the_cluster(
    brokers: list[BrokerInfo], topics: list[tuple[int, int]]
) -> None:
    every: list[Replicas] = []
    for count, factor in topics:
        placed = place_new_partitions(brokers, count, min(factor, len(brokers)), cluster=every)
        assert not isinstance(placed, NotEnoughBrokers)
        every += placed
    assert spread(replica_counts(every), brokers) <= 2


def test_only_usable_brokers_are_given_anything() -> None:
    brokers = [broker(1), broker(2, fenced=True), broker(3, draining=True), broker(4)]
    placed = place_new_partitions(brokers, 4, 2)
    assert not isinstance(placed, NotEnoughBrokers)
    assert set(replica_counts(placed)) == {1, 4}
    assert place_new_partitions(brokers, 1, 3) == NotEnoughBrokers(3, 2)


def test_the_order_of_the_brokers_does_not_matter() -> None:
    brokers = [broker(number, f"r{number % 3}") for number in range(7)]
    assert place_new_partitions(brokers, 9, 3) == place_new_partitions(brokers[::-1], 9, 3)


replica_lists = st.lists(
    st.lists(st.integers(0, 5).map(BrokerId), min_size=1, max_size=4, unique=True).map(tuple), max_size=14
)


@settings(max_examples=150, deadline=None)
@given(assignments=replica_lists)
def test_leaders_are_as_even_as_the_replicas_allow(assignments: list[Replicas]) -> None:
    led = even_leaders(assignments)
    assert [set(replicas) for replicas in led] == [set(replicas) for replicas in assignments]
    most = max(Counter(replicas[0] for replicas in led).values(), default=0)
    assert most == fewest_for_the_busiest(assignments)
    keyed = {(b"t", number): replicas for number, replicas in enumerate(assignments)}
    for move in plan_leaders(keyed, moves_max=1000):
        assert keyed[b"t", move.partition] == move.replicas != move.target
        keyed[b"t", move.partition] = move.target
    assert max(Counter(replicas[0] for replicas in keyed.values()).values(), default=0) == most


def fewest_for_the_busiest(assignments: list[Replicas]) -> int:
    """The least that the busiest leader can lead, found another way: the largest demand of any set of
    brokers that some partitions cannot leave (Hall's theorem)."""
    every = sorted({b for replicas in assignments for b in replicas})
    worst = 0
    for bits in range(1, 1 << len(every)):
        chosen = {b for place, b in enumerate(every) if bits >> place & 1}
        inside = sum(1 for replicas in assignments if set(replicas) <= chosen)
        worst = max(worst, -(-inside // len(chosen)))
    return worst


def test_leaders_that_are_even_stay() -> None:
    keyed = {(b"t", 0): (BrokerId(2), BrokerId(1)), (b"t", 1): (BrokerId(1), BrokerId(2))}
    assert plan_leaders(keyed, moves_max=10) == []


@settings(max_examples=100, deadline=None)
@given(assignments=replica_lists, extra=st.integers(0, 3), moves_max=st.integers(1, 5))
def test_rebalancing_ends_even_without_putting_two_on_one_broker(
    assignments: list[Replicas], extra: int, moves_max: int
) -> None:
    brokers = [broker(number) for number in range(6 + extra)]
    keyed = {(b"t", number): replicas for number, replicas in enumerate(assignments)}
    for _ in range(100):
        plan = plan_rebalance(brokers, keyed, moves_max=moves_max)
        assert len(plan) <= moves_max
        apply(plan, keyed)
        if not plan:
            break
    else:
        raise AssertionError("it goes on for ever")
    assert spread(replica_counts(list(keyed.values())), brokers) <= 1


@settings(max_examples=100, deadline=None)
@given(brokers=racked, data=st.data())
def test_rebalancing_gives_every_partition_its_racks(brokers: list[BrokerInfo], data: st.DataObject) -> None:
    choice = st.lists(st.sampled_from([b.id for b in brokers]), min_size=1, max_size=4, unique=True).map(
        tuple
    )
    assignments = data.draw(st.lists(choice, max_size=10))
    keyed = {(b"t", number): replicas for number, replicas in enumerate(assignments)}
    while plan := plan_rebalance(brokers, keyed, moves_max=3):
        apply(plan, keyed)
    racks = {b.rack for b in brokers}
    for replicas in keyed.values():
        assert len(racks_of(replicas, brokers)) == min(len(replicas), len(racks))


@settings(max_examples=100, deadline=None)
@given(brokers=plain_brokers, factor=st.integers(1, 3), count=counts)
def test_draining_leaves_nothing_behind(brokers: list[BrokerInfo], factor: int, count: int) -> None:
    placed = place_new_partitions(brokers, count, min(factor, len(brokers)))
    assert not isinstance(placed, NotEnoughBrokers)
    keyed = {(b"t", number): replicas for number, replicas in enumerate(placed)}
    leaving = brokers[0].id
    hosted = replica_counts(placed)[leaving]
    plan = plan_drain(brokers, keyed, leaving)
    if isinstance(plan, NotEnoughBrokers):
        assert hosted and plan.usable < plan.wanted
        return
    assert len(plan) == hosted, "only what must be moved is moved"
    apply(plan, keyed)
    assert replica_counts(list(keyed.values()))[leaving] == 0
    rest = brokers[1:] or brokers
    while more := plan_rebalance(rest, keyed, moves_max=10):
        apply(more, keyed)
    assert spread(replica_counts(list(keyed.values())), rest) <= 1


def apply(plan: list[Move], keyed: dict[tuple[bytes, int], Replicas]) -> None:
    partitions = [move.partition for move in plan]
    assert len(set(partitions)) == len(partitions), "no partition is moved twice in a plan"
    for move in plan:
        assert keyed[move.topic_id, move.partition] == move.replicas
        assert len(set(move.target)) == len(move.target) == len(move.replicas)
        assert len(set(move.target) - set(move.replicas)) == 1
        keyed[move.topic_id, move.partition] = move.target
