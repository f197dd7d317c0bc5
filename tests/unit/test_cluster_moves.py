"""A move goes one server at a time, never loses a voter before its successor votes, and ends."""

import itertools

import pytest

from raftlog.cluster.moves import Arrived, Change, HandOver, next_step
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
