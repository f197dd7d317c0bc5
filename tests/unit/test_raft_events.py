"""What happened to a group is told with its reason, and many groups' one fate is one event."""

from __future__ import annotations

from raftlog.raft.events import EVENTS_MAX, NAMED_MAX, TOGETHER_S, Cause, Event, Events, Kind
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, Term, group_key
from tests.unit.raft_cluster import Cluster


def _told(cluster: Cluster, broker: int) -> list[tuple[Kind, str]]:
    return [(event.kind, event.why) for event in cluster[broker].driver.events]


def _last(cluster: Cluster, broker: int, kind: Kind) -> Event:
    return [event for event in cluster[broker].driver.events if event.kind is kind][-1]


def test_a_leader_that_is_cut_off_says_why_it_steps_down_and_its_successor_why_it_asked() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.isolate(old)
    cluster.run_until(lambda: not cluster[old].group.is_leader and cluster.leader not in (None, old))
    assert _last(cluster, old, Kind.STEPPED_DOWN).why == "no majority was heard"
    new = cluster.leader
    assert new is not None
    for kind in (Kind.ASKED, Kind.CANDIDATE, Kind.LEADER):
        assert _last(cluster, new, kind).why == f"broker {old} was not heard"
    assert _last(cluster, new, Kind.LEADER).term == cluster[new].group.term
    (voter,) = {1, 2, 3} - {old, new}
    assert _last(cluster, voter, Kind.VOTED).other == new


def test_a_broker_whose_process_ended_is_named_as_that() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.run(1.0)  # until the others have heard of it
    cluster.crash(old)
    for broker in cluster.brokers.values():
        broker.driver.peer_is_gone(BrokerId(old), cluster.now)
    new = cluster.elect()
    assert _last(cluster, new, Kind.LEADER).why == f"the process of broker {old} has ended"


def test_a_hand_over_is_told_as_one_on_both_sides() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    new = old % 3 + 1
    group = cluster[old].group
    assert group.leading.transfer(BrokerId(new), cluster.now, Cause.TO_PREFERRED) is None
    cluster.run_until(lambda: cluster.leader == new)
    assert _last(cluster, old, Kind.HANDING_OVER).why == f"broker {new} is its preferred leader"
    assert _last(cluster, old, Kind.STEPPED_DOWN).why == f"broker {new} is in a newer term"
    assert _last(cluster, new, Kind.LEADER).why == f"broker {old} handed it over"


def test_who_is_cut_off_asks_for_ever_and_that_is_one_event() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    apart = leader % 3 + 1
    cluster.isolate(apart)
    cluster.run(30.0)
    asked = [event for event in cluster[apart].driver.events if event.kind is Kind.ASKED]
    assert asked[-1].count > 5
    assert asked[-1].why == f"broker {leader} was not heard"
    assert len(asked) <= 2, asked  # one of them may be of the beginning


def test_the_only_voter_leads_because_it_is_that() -> None:
    cluster = Cluster(1)
    cluster.elect()
    assert (Kind.LEADER, "it is the only voter") in _told(cluster, 1)


def test_a_storm_is_one_event_that_counts_and_names_a_few() -> None:
    events = Events()
    for number in range(10_000):
        key = group_key(bytes(16), number)
        events.add(key, Term(number % 7), Kind.ASKED, Cause.SILENT, BrokerId(2), 1.0)
    events.add(METADATA_GROUP, Term(9), Kind.ASKED, Cause.SILENT, BrokerId(2), 1.0)
    storm, metadata = events
    assert (storm.count, storm.term, len(storm.groups)) == (10_000, 6, NAMED_MAX)
    assert metadata.groups == [METADATA_GROUP]
    assert events.counts[Kind.ASKED, Cause.SILENT] == 10_001


def test_who_reads_on_is_given_what_is_new_and_what_grew() -> None:
    events = Events()
    one, two = GroupKey(b"1" * 20), GroupKey(b"2" * 20)
    events.add(one, Term(1), Kind.LEADER, Cause.ALONE, None, 1.0)
    events.add(one, Term(1), Kind.VOTED, Cause.ASKED_FOR_VOTE, BrokerId(3), 1.0)
    seen = events.last_version
    assert events.since(seen) == []
    events.add(two, Term(4), Kind.LEADER, Cause.ALONE, None, 1.5)
    (grown,) = events.since(seen)
    assert (grown.number, grown.count, grown.term) == (1, 2, 4)
    events.add(two, Term(5), Kind.LEADER, Cause.ALONE, None, 1.5 + TOGETHER_S + 0.1)
    assert [event.number for event in events.since(seen)] == [1, 4]


def test_the_ring_is_bounded() -> None:
    events = Events()
    for number in range(2 * EVENTS_MAX):
        at = 10.0 * number
        events.add(METADATA_GROUP, Term(number), Kind.LEADER, Cause.SILENT, BrokerId(1), at)
    kept = list(events)
    assert len(kept) == EVENTS_MAX
    assert kept[-1].number == 2 * EVENTS_MAX
