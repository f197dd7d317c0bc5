"""When a replica that lost its log is trusted again."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from raftlog.raft.messages import Append, Message, PreVote, PreVoteReply, Welcome
from raftlog.raft.trust import Trust
from raftlog.raft.values import Outcome
from raftlog.types import BrokerId, RaftIndex, Term
from tests.unit.raft_cluster import KEY, Broker, Cluster


def lost() -> Trust:
    trust = Trust(random.Random(1))
    trust.lose()
    return trust


def welcome(trust: Trust, commit_index: int) -> None:
    trust.welcome(Welcome(KEY, Term(1), trust.nonce, RaftIndex(commit_index)))


@pytest.mark.parametrize("named", [(7,), (7, 9), (9, 7), (0, 7, 9)])
def test_it_has_all_with_the_smallest_commit_index_that_its_leader_named(named: Iterable[int]) -> None:
    trust = lost()
    for commit_index in named:
        welcome(trust, commit_index)
    assert trust.is_welcome
    assert not trust.has_all(RaftIndex(6)) and trust.has_all(RaftIndex(7))


def test_a_leader_that_has_committed_nothing_of_its_term_names_nothing_that_is_enough() -> None:
    trust = lost()
    welcome(trust, 0)
    assert trust.is_welcome and not trust.has_all(RaftIndex(9))


def test_what_another_leader_named_counts_no_more() -> None:
    trust = lost()
    welcome(trust, 7)
    trust.forget_leader()
    assert not trust.has_all(RaftIndex(7)) and not trust.is_welcome
    welcome(trust, 9)
    assert not trust.has_all(RaftIndex(8)) and trust.has_all(RaftIndex(9))


def test_what_was_named_for_an_earlier_loss_counts_no_more() -> None:
    trust = lost()
    welcome(trust, 7)
    late = Welcome(KEY, Term(1), trust.nonce, RaftIndex(7))
    trust.lose()
    trust.welcome(late)
    assert not trust.has_all(RaftIndex(9)) and not trust.is_welcome


def test_who_has_its_vote_has_nothing_to_regain() -> None:
    trust = lost()
    welcome(trust, 7)
    trust.regain()
    assert not trust.has_all(RaftIndex(7))


def test_a_damaged_log_that_is_still_there_counts_for_nothing() -> None:
    """Found by the simulation: the welcome came before the first append, so the damaged log was measured,
    found long enough, and kept; its replica was trusted and could lead."""
    trust = lost()
    trust.must_drop_log = True
    welcome(trust, 7)
    assert trust.is_welcome and not trust.has_all(RaftIndex(9))


def emptied(cluster: Cluster) -> tuple[int, Broker]:
    """The leader of a group that has committed something, and a follower whose disk is emptied now."""
    leader = cluster.elect()
    for number in range(20):
        cluster.commit(b"before %d" % number, broker=leader)
    cluster.run(0.3)
    return leader, cluster.wipe(leader % 3 + 1)


def without_entries(sender: int, receiver: int, message: Message) -> float | None:
    return None if isinstance(message, Append) and message.entries else 0.001


def test_a_welcome_alone_gives_no_vote() -> None:
    """The replica knows what it needs, and its leader ends. The third one never saw the last entry."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.3)
    kept, lagging = [broker for broker in (1, 2, 3) if broker != leader]
    cluster.isolate(lagging)
    cluster.commit(b"precious", broker=leader)
    node = cluster.wipe(kept)
    cluster.heal()
    cluster.rules.append(without_entries)
    cluster.run_until(lambda: node.group.turning.replica.parts.trust.is_welcome)
    cluster.crash(leader)
    cluster.heal()
    cluster.run(20.0)
    assert cluster.leader is None
    cluster.restart(leader)
    cluster.elect()
    cluster.converge()
    assert all(b"precious" in broker.machine.applied.values() for broker in cluster.brokers.values())


def test_it_votes_again_although_its_leader_commits_faster_than_its_disk_syncs() -> None:
    """Suspected after a chaos run: the commit index that a welcome named was always ahead of the disk,
    although all that an earlier welcome had named was on it."""
    cluster = Cluster(3)
    leader, node = emptied(cluster)
    cluster.sync_time = lambda broker: 0.25 if broker == node.id else 0.0
    for number in range(200):
        cluster.propose(leader, b"after %d" % number)
        cluster.run(0.01)
        assert node.log.entries.synced_index < cluster[leader].log.commit_index
    assert node.group.is_trusted


def test_it_votes_again_when_its_leader_ends_before_the_sync_of_what_the_welcome_named() -> None:
    """No welcome comes any more, and the other one cannot elect itself."""
    cluster = Cluster(3)
    leader, node = emptied(cluster)
    cluster.sync_time = lambda broker: 0.05 if broker == node.id else 0.0
    cluster.run_until(lambda: node.log.last_index == cluster[leader].log.last_index)
    assert not node.group.is_trusted and node.log.entries.synced_index < node.log.last_index
    cluster.crash(leader)
    cluster.elect()
    cluster.commit(b"after")
    cluster.run(0.5)
    assert node.group.is_trusted and not node.log.promises.may_lack


def test_a_newer_term_makes_it_ask_again() -> None:
    """Its welcome is of a leader whose time is over; only one of the newer term knows what is committed."""
    cluster = Cluster(3)
    leader, node = emptied(cluster)
    cluster.rules.append(without_entries)
    trust = node.group.turning.replica.parts.trust
    cluster.run_until(lambda: trust.is_welcome)
    other = BrokerId(6 - leader - node.id)
    term = Term(node.group.term + 1)
    node.group.turning.step(other, PreVoteReply(KEY, term, term, False, False), cluster.now)
    assert node.group.term == term and node.group.leader is None
    assert not trust.is_welcome and not trust.has_all(cluster[leader].log.commit_index)


def test_a_leader_that_was_stopped_does_not_welcome_who_has_forgotten_its_successor() -> None:
    """Its successor is down when it goes on, and the third disk was emptied."""
    cluster = Cluster(3)
    stopped = cluster.elect()
    cluster.run(0.3)
    process = cluster.brokers.pop(stopped)
    successor = cluster.run_until_other_leader(stopped)
    cluster.commit(b"precious", broker=successor)
    cluster.run(60.0)
    cluster.crash(successor)
    cluster.wipe(6 - stopped - successor)
    cluster.brokers[stopped] = process
    proposal = cluster.maybe_propose(stopped, b"other")
    cluster.run(5.0)
    assert proposal is None or proposal.outcome is not Outcome.COMMITTED
    cluster.restart(successor)
    cluster.elect()
    cluster.converge()
    assert all(b"precious" in broker.machine.applied.values() for broker in cluster.brokers.values())


def test_a_leader_that_is_elected_again_welcomes_who_asked_it_before() -> None:
    """Rounds of heartbeats begin anew with each leadership: those of the one before say nothing."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(30.0)
    emptied, other = [broker for broker in (1, 2, 3) if broker != leader]
    cluster.crash(other)
    cluster.wipe(emptied)
    cluster.run(1.0)
    cluster.isolate(leader)
    cluster.run_until(lambda: not cluster[leader].group.is_leader)
    cluster.heal()
    cluster.rules.append(
        lambda sender, receiver, message: None if sender == other and isinstance(message, PreVote) else 0.001
    )
    cluster.restart(other)
    cluster.run_until(lambda: cluster[leader].group.is_leader)
    cluster.run_until(lambda: cluster[emptied].group.is_trusted, within=5.0)
