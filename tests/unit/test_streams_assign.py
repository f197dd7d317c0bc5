"""Who runs which task, and who stands by."""

from __future__ import annotations

import random

import pytest

from raftlog import streams as rs
from raftlog.client.group_protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    decode_told,
    encode_assignment,
    encode_subscription,
)
from raftlog.client.metadata import TopicPartition
from raftlog.streams.assign import NEAR, Place, Share, StreamsAssignor, Told, read_told, share_out
from raftlog.streams.plan import plan

PLACES = [(0, partition) for partition in range(4)]
ALL = frozenset(PLACES)
ROUNDS_MAX = 3
"""Until all have what they are to have: a round to warm up, one to take over."""


def tasks(shares: dict[str, Share]) -> dict[str, list[int]]:
    return {name: [partition for _, partition in share.tasks] for name, share in shares.items()}


def ran(*partitions: int, reached: int = 100_000, also: tuple[int, ...] = ()) -> Told:
    """Ran some, and has a copy of others that is as far."""
    return Told(frozenset((0, p) for p in partitions), {(0, p): reached for p in (*partitions, *also)})


def test_a_task_stays_where_it_runs() -> None:
    shares = share_out(PLACES, ALL, 1, {"a": ran(1, 2, also=(0, 3)), "b": ran(0, 3, also=(1, 2))})
    assert tasks(shares) == {"a": [1, 2], "b": [0, 3]}
    assert {name: share.standbys for name, share in shares.items()} == {
        "a": [(0, 0), (0, 3)],
        "b": [(0, 1), (0, 2)],
    }


def test_whoever_has_the_state_takes_over() -> None:
    shares = share_out(PLACES, ALL, 1, {"b": ran(0, also=(1, 2)), "c": ran(3)})
    assert tasks(shares) == {"b": [0, 1, 2], "c": [3]} and shares["c"].warming == [(0, 2)]


def test_one_without_state_warms_up_first() -> None:
    shares = share_out(PLACES, ALL, 1, {"a": ran(0, 1, 2, 3), "b": Told()})
    assert tasks(shares) == {"a": [0, 1, 2, 3], "b": []}
    assert len(shares["b"].warming) == 2 and len(shares["b"].standbys) == 2
    behind = dict.fromkeys(shares["b"].warming, 100000 - NEAR)
    again = share_out(PLACES, ALL, 1, {"a": ran(0, 1, 2, 3), "b": Told(frozenset(), behind)})
    assert sorted(again["b"].tasks) == sorted(behind) and not again["b"].warming


def test_a_task_without_a_changelog_moves_at_once_and_has_no_copies() -> None:
    shares = share_out(PLACES, frozenset(), 1, {"a": ran(0, 1, 2, 3), "b": Told()})
    assert [len(share.tasks) for share in shares.values()] == [2, 2]
    assert not any(share.standbys or share.warming for share in shares.values())


def test_copies_are_in_another_rack_where_there_is_one() -> None:
    members = {
        "a": Told(ALL, {}, "east"),
        "b": Told(frozenset(), {}, "east"),
        "c": Told(frozenset(), {}, "west"),
    }
    shares = share_out([(0, 0)], {(0, 0)}, 1, members)
    assert tasks(shares) == {"a": [0], "b": [], "c": []} and shares["c"].standbys == [(0, 0)]


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_told_each_task_runs_once_and_its_copies_are_elsewhere(seed: int) -> None:
    rng = random.Random(seed)
    places = [(part, p) for part in range(rng.randrange(1, 4)) for p in range(rng.randrange(1, 9))]
    with_state = frozenset(place for place in places if place[0] != 1)
    standbys = rng.randrange(4)
    members = {
        f"m{number}": Told(
            frozenset(place for place in places if rng.random() < 0.3),
            {place: rng.choice((0, 5, 9_000, 50_000, 10**9)) for place in places if rng.random() < 0.5},
            rng.choice((None, "east", "west")),
        )
        for number in range(rng.randrange(1, 6))
    }
    shares = share_out(places, with_state, standbys, members)
    owners: dict[Place, str] = {}
    for name, share in shares.items():
        for place in share.tasks:
            assert place not in owners
            owners[place] = name
    assert set(owners) == set(places)
    for place in places:
        copies = [n for n, share in shares.items() if place in share.standbys]
        warming = [n for n, share in shares.items() if place in share.warming]
        assert owners[place] not in copies + warming and not set(copies) & set(warming)
        most = len(members) - 1 - len(warming)
        assert len(copies) == (min(standbys, most) if place in with_state else 0)
    if all(not share.warming for share in shares.values()):
        for part in {part for part, _ in places}:
            sizes = [sum(place[0] == part for place in share.tasks) for share in shares.values()]
            assert max(sizes) - min(sizes) <= 1
    for _ in range(ROUNDS_MAX):
        before = {name: set(share.tasks) for name, share in shares.items()}
        members = {
            name: Told(
                frozenset(share.tasks),
                {
                    **members[name].reached,
                    **dict.fromkeys((*share.tasks, *share.standbys, *share.warming), 10**9),
                },
                members[name].rack,
            )
            for name, share in shares.items()
        }
        shares = share_out(places, with_state, standbys, members)
    assert not any(share.warming for share in shares.values()), "what has warmed up is near"
    assert {name: set(share.tasks) for name, share in shares.items()} == before, "and then nothing moves"


def app() -> rs.App:
    made = rs.App("app", standbys=1)
    made.stream("in", value=rs.TEXT).key_by(str).count("counts")
    return made


def test_what_members_tell_goes_through_kafkas_own_protocol() -> None:
    heard = []
    found = plan(app())
    told = Told(frozenset({(1, 0)}), {(1, 0): 7, (1, 1): 3})
    one = StreamsAssignor(found, 1, lambda: told, lambda *places: heard.append(places))
    data = encode_subscription(Subscription(topics=("in",), rack="east", user_data=one.user_data()))
    subscription = decode_subscription(data)
    assert read_told(subscription.user_data, subscription.rack) == Told(told.ran, told.reached, "east")
    assert one.user_data() != one.user_data(), "else a group that is stable would not share out anew"
    silent = Subscription(topics=("in",), user_data=b"\xff")
    shares = one.assign({"a": subscription, "b": silent}, {"in": 2, "app-counts-repartition": 2})
    assert {key for keys, _ in shares.values() for key in keys} == {
        TopicPartition(topic, p) for topic in ("in", "app-counts-repartition") for p in range(2)
    }
    partitions, data = shares["b"]
    assert decode_assignment(encode_assignment(partitions, data)) == tuple(sorted(partitions))
    one.assigned(decode_told(encode_assignment(partitions, data))[1])
    one.assigned(b"")
    assert heard[0][0] and heard[1] == (frozenset(), frozenset())


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"\x00\x01",
        b"[]",
        b'{"v":1,"ran":3,"at":{"a":1}}',
        b'{"v":1,"ran":[[1],"x",[true,1]]}',
        b'{"v":2,"ran":[[0,0]]}',
        pytest.param(b"[" * 5000, id="deep"),
    ],
)
def test_whatever_others_tell_is_read_or_left(data: bytes | None) -> None:
    assert read_told(data, None) == Told()


def test_a_topic_that_grew_is_given_out_whole() -> None:
    """So that whoever gets more than there was finds that keys have moved."""
    one = StreamsAssignor(plan(app()), 1, Told, lambda *_: None)
    shares = one.assign({"a": Subscription(topics=("in",))}, {"in": 5, "app-counts-repartition": 2})
    assert len(shares["a"][0]) == 7


def test_standbys_are_described_and_bounded() -> None:
    assert "1 standby of each task" in plan(app()).describe()
    with pytest.raises(rs.TopologyError, match="from 0 to 3"):
        rs.App("app", standbys=9)
