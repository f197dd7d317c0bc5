"""Assignors: what Apache Kafka's would give, balance, and stickiness."""

from __future__ import annotations

import random

import pytest

from raftlog.client.assignors import (
    ASSIGNORS,
    Assignments,
    Members,
    assign_cooperative_sticky,
    assign_range,
    assign_round_robin,
    assign_sticky,
)
from raftlog.client.group_protocol import Subscription
from raftlog.client.metadata import TopicPartition


def members(**topics: str) -> Members:
    return {name: Subscription(topics=tuple(text.split())) for name, text in topics.items()}


def spoken(assignments: Assignments) -> dict[str, str]:
    return {member: " ".join(f"{t}{p}" for t, p in sorted(ps)) for member, ps in assignments.items()}


def test_range_is_kafkas() -> None:
    # From the documentation of org.apache.kafka.clients.consumer.RangeAssignor.
    given = assign_range(members(c0="t u", c1="t u"), {"t": 3, "u": 3})
    assert spoken(given) == {"c0": "t0 t1 u0 u1", "c1": "t2 u2"}


def test_round_robin_is_kafkas() -> None:
    # From the documentation of org.apache.kafka.clients.consumer.RoundRobinAssignor.
    given = assign_round_robin(members(c0="t u", c1="t u"), {"t": 3, "u": 3})
    assert spoken(given) == {"c0": "t0 t2 u1", "c1": "t1 u0 u2"}
    uneven = assign_round_robin(members(c0="a", c1="a b", c2="a b c"), {"a": 1, "b": 2, "c": 3})
    assert spoken(uneven) == {"c0": "a0", "c1": "b0", "c2": "b1 c0 c1 c2"}


def test_range_puts_static_members_first_by_their_names() -> None:
    static = {
        "z-1": Subscription(topics=("t",), instance_id="a"),
        "a-2": Subscription(topics=("t",), instance_id="b"),
        "0-dynamic": Subscription(topics=("t",)),
    }
    assert spoken(assign_range(static, {"t": 3})) == {"z-1": "t0", "a-2": "t1", "0-dynamic": "t2"}


def test_topics_that_do_not_exist_have_no_partitions() -> None:
    for assign in ASSIGNORS.values():
        assert spoken(assign(members(a="t nothing"), {"t": 1})) == {"a": "t0"}
        assert spoken(assign(members(a="nothing"), {})) == {"a": ""}


def owning(assignments: Assignments, topics: tuple[str, ...], generation: int) -> dict[str, Subscription]:
    return {
        member: Subscription(topics=topics, owned=tuple(partitions), generation=generation)
        for member, partitions in assignments.items()
    }


def test_sticky_keeps_what_members_have() -> None:
    first = assign_sticky(members(a="t", b="t", c="t"), {"t": 9})
    assert sorted(map(len, first.values())) == [3, 3, 3]
    left = owning({m: first[m] for m in ("a", "b")}, ("t",), 1)
    second = assign_sticky(left, {"t": 9})
    assert set(first["a"]) < set(second["a"])
    assert set(first["b"]) < set(second["b"])
    joined = {**owning(second, ("t",), 2), "d": Subscription(topics=("t",))}
    third = assign_sticky(joined, {"t": 9})
    assert len(third["d"]) == 3
    assert set(third["a"]) < set(second["a"])
    assert set(third["b"]) < set(second["b"])


def test_the_later_generation_owns_and_equals_cancel_out() -> None:
    partition = TopicPartition("t", 0)
    old = Subscription(topics=("t",), owned=(partition,), generation=1)
    new = Subscription(topics=("t",), owned=(partition,), generation=2)
    assert spoken(assign_sticky({"a": old, "b": new}, {"t": 1})) == {"a": "", "b": "t0"}
    assert spoken(assign_sticky({"a": new, "b": old}, {"t": 1})) == {"a": "t0", "b": ""}
    both = assign_cooperative_sticky({"a": new, "b": new}, {"t": 1})
    assert spoken(both) == {"a": "", "b": ""}, "both claim it, so both must let it go first"


def test_cooperative_gives_nothing_that_is_still_owned() -> None:
    first = assign_cooperative_sticky(members(a="t"), {"t": 4})
    second = assign_cooperative_sticky(
        {**owning(first, ("t",), 1), "b": Subscription(topics=("t",))}, {"t": 4}
    )
    assert (len(second["a"]), second["b"]) == (2, [])
    third = assign_cooperative_sticky(owning(second, ("t",), 2), {"t": 4})
    assert sorted(map(len, third.values())) == [2, 2]
    assert third["a"] == second["a"]


@pytest.mark.parametrize("name", ASSIGNORS)
@pytest.mark.parametrize("seed", range(40))
def test_every_partition_once_and_only_to_who_wants_it(name: str, seed: int) -> None:
    rng = random.Random(seed)
    counts = {topic: rng.randrange(12) for topic in "tuvw"}
    group = {
        f"m{i}": Subscription(topics=tuple(rng.sample("tuvw", rng.randrange(1, 5))))
        for i in range(rng.randrange(1, 7))
    }
    given = ASSIGNORS[name](group, counts)
    wanted = {t for s in group.values() for t in s.topics}
    every = [partition for partitions in given.values() for partition in partitions]
    assert sorted(every) == [TopicPartition(t, p) for t in sorted(wanted) for p in range(counts[t])]
    assert all(p.topic in group[member].topics for member, partitions in given.items() for p in partitions)
    assert ASSIGNORS[name](group, counts) == given


@pytest.mark.parametrize("seed", range(40))
def test_cooperative_rounds_end_balanced_with_no_partition_in_two_hands(seed: int) -> None:
    rng = random.Random(seed)
    counts = {"t": rng.randrange(1, 20), "u": rng.randrange(1, 20)}
    topics = ("t", "u")
    owned: dict[str, tuple[TopicPartition, ...]] = {}
    generation = 0
    for _ in range(6):
        if len(owned) > 1 and rng.random() < 0.4:
            owned.pop(rng.choice(sorted(owned)))
        else:
            owned[f"m{generation}"] = ()
        for _ in range(6):
            generation += 1
            group = {
                m: Subscription(topics=topics, owned=ps, generation=generation - 1 if ps else -1)
                for m, ps in owned.items()
            }
            given = assign_cooperative_sticky(group, counts)
            every = [p for ps in given.values() for p in ps]
            assert len(every) == len(set(every))
            for member, partitions in given.items():
                taken = set(partitions) - set(owned[member])
                others = {p for other, ps in owned.items() if other != member for p in ps}
                assert not taken & others, "given to one while another still has it"
            settled = all(set(owned[m]) <= set(given[m]) for m in owned)
            owned = {m: tuple(ps) for m, ps in given.items()}
            if settled:
                break
        assert sum(map(len, owned.values())) == sum(counts.values())
        loads = [len(ps) for ps in owned.values()]
        assert max(loads) - min(loads) <= 1
