"""A move goes one server at a time, never loses a voter before its successor votes, and ends."""

import itertools

import pytest

from raftlog.cluster.moves import Arrived, Change, HandOver, metadata_members, next_step
from raftlog.metadata.catalog import BrokerInfo
from raftlog.raft.values import Membership
from raftlog.types import BrokerId


def ids(*numbers: int) -> tuple[BrokerId, ...]:
    return tuple(map(BrokerId, numbers))


@pytest.mark.parametrize("voters", [ids(1), ids(1, 2, 3), ids(2, 3)])
@pytest.mark.parametrize("wanted", [ids(1, 2, 3), ids(4, 5, 6), ids(3, 4), ids(2), ids(3, 2, 1)])
def test_every_move_arrives_in_small_steps(
    voters: tuple[BrokerId, ...], wanted: tuple[BrokerId, ...]
) -> None:
    membership, leader = Membership(frozenset(voters)), voters[0]
    for _ in itertools.islice(itertools.count(), 40):
        match next_step(leader, membership, wanted):
            case Change(new):
                changed = (membership.voters ^ new.voters) | (membership.learners ^ new.learners)
                assert len(changed) == 1
                assert len(new.voters) >= min(len(voters), len(wanted))
                assert leader in new.voters
                membership = new
            case HandOver(to):
                assert leader not in wanted
                assert set(to) <= membership.voters
                leader = to[0]
            case Arrived():
                break
    else:
        pytest.fail(f"did not arrive: {membership}")
    assert membership == Membership(frozenset(wanted))


def test_a_cancelled_move_takes_its_learner_out_again() -> None:
    current = Membership(frozenset(ids(1, 2, 3)), frozenset(ids(4)))
    assert next_step(BrokerId(1), current, ids(1, 2, 3)) == Change(Membership(frozenset(ids(1, 2, 3))))


def broker(number: int, *, draining: bool = False, fenced: bool = False) -> BrokerInfo:
    return BrokerInfo(
        id=BrokerId(number), host="h", port=1, peer_host="h", peer_port=2, draining=draining, fenced=fenced
    )


def members(
    voters: tuple[BrokerId, ...], *brokers: BrokerInfo, removed: tuple[BrokerId, ...] = ()
) -> tuple[list[int], list[int]]:
    chosen, listening = metadata_members(Membership(frozenset(voters)), {b.id: b for b in brokers}, removed)
    return [int(b) for b in chosen], [int(b) for b in listening]


def test_a_fourth_broker_listens_and_a_fifth_pair_votes() -> None:
    four = [broker(n) for n in (1, 2, 3, 4)]
    assert members(ids(1, 2, 3), *four) == ([1, 2, 3], [4])
    assert members(ids(1, 2, 3), *four, broker(5)) == ([1, 2, 3, 4, 5], [])
    assert members(ids(1, 2, 3), *(broker(n) for n in range(1, 10))) == ([1, 2, 3, 4, 5], [6, 7, 8, 9])


def test_a_drained_voter_is_replaced_and_a_dead_one_stays() -> None:
    assert members(ids(1, 2, 3), broker(1, draining=True), *(broker(n) for n in (2, 3, 4))) == (
        [2, 3, 4],
        [1],
    )
    assert members(ids(1, 2, 3), broker(1, fenced=True), broker(2), broker(3)) == ([1, 2, 3], [])


def test_founders_that_have_not_registered_yet_keep_their_vote() -> None:
    assert members(ids(1, 2, 3), broker(1)) == ([1, 2, 3], [])


def test_a_removed_broker_loses_its_vote_although_it_was_never_drained() -> None:
    """It died, kept no replica, and was removed: a majority would be counted with it for ever."""
    assert members(ids(1, 2, 3), broker(1), broker(2), removed=ids(3)) == ([1, 2], [])
    assert members(ids(1, 2, 3), broker(1), broker(2), broker(4), removed=ids(3)) == ([1, 2, 4], [])


def test_a_voter_becomes_a_learner_by_leaving_first() -> None:
    step = next_step(BrokerId(1), Membership(frozenset(ids(1, 2, 3))), ids(1, 2), ids(3))
    assert step == Change(Membership(frozenset(ids(1, 2))))
    assert next_step(BrokerId(1), Membership(frozenset(ids(1, 2))), ids(1, 2), ids(3)) == Change(
        Membership(frozenset(ids(1, 2)), frozenset(ids(3)))
    )
