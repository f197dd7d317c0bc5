"""Who leads what: newer terms win, epochs never go back, a leader that is gone is nobody's leader."""

from raftlog.cluster.hints import Hint, Hints
from raftlog.types import BrokerId, Term, group_key

GROUP = group_key(bytes(16), 0)
OTHER = group_key(bytes(15) + b"\x09", 1)


def hint(term: int, leader: int) -> Hint:
    return Hint(GROUP, Term(term), BrokerId(leader))


def test_an_older_term_changes_nothing() -> None:
    hints = Hints(lambda topic_id: True)
    assert hints.leader(GROUP) == (None, -1)
    assert hints.update([hint(3, 1)])
    assert not hints.update([hint(2, 2), hint(3, 2)])
    assert hints.leader(GROUP) == (1, 3)
    assert hints.update([hint(4, 2)])
    assert hints.leader(GROUP) == (2, 4)


def test_a_leader_that_is_gone_keeps_its_epoch_and_may_come_back() -> None:
    hints = Hints(lambda topic_id: True)
    hints.update([hint(3, 1), Hint(OTHER, Term(9), BrokerId(2))])
    hints.leader_is_gone(BrokerId(1))
    assert hints.leader(GROUP) == (None, 3)
    assert hints.leader(OTHER) == (2, 9)
    assert hints.update([hint(3, 1)])
    assert hints.leader(GROUP) == (1, 3)


def test_a_broker_leads_until_it_is_gone_or_another_does() -> None:
    hints = Hints(lambda topic_id: True)
    assert not hints.leads(BrokerId(1))
    hints.update([hint(3, 1)])
    assert hints.leads(BrokerId(1))
    hints.update([hint(4, 2)])
    assert not hints.leads(BrokerId(1))
    hints.leader_is_gone(BrokerId(2))
    assert not hints.leads(BrokerId(2))


def test_groups_of_topics_that_are_gone_are_forgotten() -> None:
    hints = Hints(lambda topic_id: True)
    hints.update([hint(3, 1), Hint(OTHER, Term(9), BrokerId(2))])
    hints.forget({bytes(16)})
    assert hints.leader(GROUP) == (None, -1)
    assert hints.leader(OTHER) == (2, 9)


def test_what_is_heard_after_a_topics_end_is_forgotten() -> None:
    topics = {bytes(16)}
    hints = Hints(topics.__contains__)
    hints.update([hint(3, 1)])
    topics.clear()
    hints.forget({bytes(16)})
    hints.update([hint(3, 1)])
    hints.sweep()
    assert hints.leader(GROUP) == (1, 3)
    hints.sweep()
    assert not len(hints) and not hints.leads(BrokerId(1))


def test_what_is_heard_before_the_metadata_stays_once_the_topic_is_known() -> None:
    topics: set[bytes] = set()
    hints = Hints(topics.__contains__)
    hints.update([hint(3, 1)])
    hints.sweep()
    topics.add(bytes(16))
    for _ in range(3):
        hints.sweep()
    assert hints.leader(GROUP) == (1, 3)
