"""Who leads what: newer terms win, epochs never go back, a leader that is gone is nobody's leader."""

from raftlog.cluster.hints import Hint, Hints
from raftlog.types import BrokerId, Term, group_key

GROUP = group_key(bytes(16), 0)
OTHER = group_key(bytes(15) + b"\x09", 1)


def hint(term: int, leader: int) -> Hint:
    return Hint(GROUP, Term(term), BrokerId(leader))


def test_an_older_term_changes_nothing() -> None:
    hints = Hints()
    assert hints.leader(GROUP) == (None, -1)
    assert hints.update([hint(3, 1)])
    assert not hints.update([hint(2, 2), hint(3, 2)])
    assert hints.leader(GROUP) == (1, 3)
    assert hints.update([hint(4, 2)])
    assert hints.leader(GROUP) == (2, 4)


def test_a_leader_that_is_gone_keeps_its_epoch_and_may_come_back() -> None:
    hints = Hints()
    hints.update([hint(3, 1), Hint(OTHER, Term(9), BrokerId(2))])
    hints.leader_is_gone(BrokerId(1))
    assert hints.leader(GROUP) == (None, 3)
    assert hints.leader(OTHER) == (2, 9)
    assert hints.update([hint(3, 1)])
    assert hints.leader(GROUP) == (1, 3)


def test_a_broker_leads_until_it_is_gone_or_another_does() -> None:
    hints = Hints()
    assert not hints.leads(BrokerId(1))
    hints.update([hint(3, 1)])
    assert hints.leads(BrokerId(1))
    hints.update([hint(4, 2)])
    assert not hints.leads(BrokerId(1))
    hints.leader_is_gone(BrokerId(2))
    assert not hints.leads(BrokerId(2))


def test_groups_of_topics_that_are_gone_are_forgotten() -> None:
    hints = Hints()
    hints.update([hint(3, 1), Hint(OTHER, Term(9), BrokerId(2))])
    hints.forget({bytes(16)})
    assert hints.leader(GROUP) == (None, -1)
    assert hints.leader(OTHER) == (2, 9)
