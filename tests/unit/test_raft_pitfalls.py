"""Known ways to get Raft wrong that are not PySyncObj's own: membership across terms, removed members,
snapshots and configurations, shifting majorities."""

from __future__ import annotations

import pytest

from raftlog.raft.messages import Append, AppendReply, Message, PreVote, Snapshot, Vote, VoteReply
from raftlog.raft.values import ChangeRefused, Outcome
from raftlog.storage.entry import Entry
from raftlog.types import BrokerId, RaftIndex, Term
from tests.unit.raft_cluster import KEY, TIMING, Broker, Cluster


def others(cluster: Cluster, *brokers: int) -> list[int]:
    return [b for b in cluster.brokers if b not in brokers]


def propose_change(cluster: Cluster, leader: int, how: str, broker: int) -> object:
    group = cluster[leader].group
    wanted = getattr(group.membership, how)(BrokerId(broker))
    return group.leading.propose_membership(wanted, cluster.now, lambda *_: None)


def test_what_was_promised_in_an_older_term_does_not_leave_in_a_newer_one() -> None:
    """Found by the simulation: an acknowledgement waited for the broker's term to be durable, and left after
    a newer leader had cut the entry that it spoke of."""
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = others(cluster, leader)[0]
    cluster.commit(b"x", broker=leader)
    cluster.run(0.3)
    node = cluster[follower]
    term, last = node.group.term, node.log.last_index
    cluster.sent.clear()
    node.driver.receive(BrokerId(leader), [Append(KEY, term, last, term, last, [])])
    newer = Term(term + 1)
    node.driver.receive(BrokerId(leader), [Vote(KEY, newer, RaftIndex(last), term, True, False)])
    cluster.turn(node)
    assert [type(m) for _, sender, _, m in cluster.sent if sender == follower] == [VoteReply]


def joins_anew(cluster: Cluster, broker: int) -> Broker:
    """The broker was removed, has deleted its log, and is added again: by what it is told, as a learner."""
    everyone, cluster.voters = cluster.voters, cluster.voters - {BrokerId(broker)}
    node = cluster.wipe(broker)
    cluster.voters = everyone
    return node


def test_who_joins_again_does_not_vote_for_a_member_of_before() -> None:
    """Found by the simulation: a broker had been removed, with what it had acknowledged, and was added again.
    Another that had been removed, too, and had not heard of it, had its vote by the members of before, and
    led: what was committed since was cut."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.3)
    stale, again = others(cluster, leader)
    cluster.isolate(stale)
    cluster.run(2.0)
    propose_change(cluster, leader, "without", stale)
    cluster.run(0.5)
    propose_change(cluster, leader, "without", again)
    cluster.run(0.5)
    cluster.commit(b"precious", broker=leader)
    node = joins_anew(cluster, again)
    cluster.heal()
    cluster.isolate(leader)
    cluster.run(20.0)
    assert cluster.leader == leader and not node.group.is_trusted
    cluster.heal()
    propose_change(cluster, leader, "with_learner", again)
    cluster.run(1.0)
    assert node.group.is_trusted and node.log.last_index == cluster[leader].log.last_index
    assert isinstance(propose_change(cluster, leader, "with_voter", again), Entry)
    cluster.converge_voters()


def test_who_has_joined_votes_after_a_restart_before_it_knows_that_it_may() -> None:
    """The leader has made it a voter, and both lose power before it hears of that: it takes both to elect."""
    cluster = Cluster(2, voters=[1])
    leader = cluster.elect()
    assert leader == 1
    store = cluster.new_store(2)
    store.create_log(KEY).may_lack = True
    cluster.replace(2, store)
    propose_change(cluster, 1, "with_learner", 2)
    cluster.commit(b"x", broker=1)
    cluster.run_until(lambda: cluster[2].log.last_index == cluster[1].log.last_index)
    cluster.run(1.1 * TIMING.heartbeat)
    early = propose_change(cluster, 1, "with_voter", 2)
    assert isinstance(early, ChangeRefused) and "does not know yet" in early.reason
    cluster.run(1.0)
    cluster.isolate(2)
    assert isinstance(propose_change(cluster, 1, "with_voter", 2), Entry)
    cluster.run(0.1)
    cluster.crash(1)
    cluster.crash(2)
    cluster.restart(1)
    cluster.restart(2)
    assert cluster[2].group.voters == {1} and cluster[1].group.voters == {1, 2}
    cluster.heal()
    cluster.elect()
    cluster.converge()


def test_nobody_is_removed_while_too_few_of_the_others_answer() -> None:
    """Found by the simulation: one of three was removed just after another had lost its disk, and neither
    those that stayed nor those of before could elect any more."""
    cluster = Cluster(3)
    leader = cluster.elect()
    leaving, ill = others(cluster, leader)
    cluster.run(0.5)
    cluster.crash(ill)
    cluster.run(0.5)
    refused = propose_change(cluster, leader, "without", leaving)
    assert isinstance(refused, ChangeRefused) and "too few" in refused.reason
    cluster.restart(ill)
    cluster.wipe(ill)
    cluster.run_until(lambda: cluster[ill].group.is_trusted)
    assert isinstance(propose_change(cluster, leader, "without", leaving), ChangeRefused)
    cluster.run(0.5)
    assert isinstance(propose_change(cluster, leader, "without", leaving), Entry)
    cluster.converge_voters()


def test_a_new_leader_counts_on_nobody_who_has_not_answered_it() -> None:
    """Found by the simulation: a leader of a third of a second took a follower for well that had answered
    only leaders before it. That follower's disk was empty, and the leader removed the other one."""
    cluster = Cluster(3)
    before = cluster.elect()
    cluster.run(0.5)
    ill, leader = others(cluster, before)
    cluster.crash(ill)
    cluster.elect(leader)
    refused = propose_change(cluster, leader, "without", before)
    assert isinstance(refused, ChangeRefused) and "too few" in refused.reason
    cluster.run(2.0)
    cluster.wipe(ill)
    cluster.run_until(lambda: cluster[ill].group.is_trusted)
    cluster.run(0.5)
    assert isinstance(propose_change(cluster, leader, "without", before), Entry)
    cluster.converge_voters()


def test_a_learner_that_began_anew_unseen_is_filled_again() -> None:
    """Found by the simulation: a broker was removed, added again and only then deleted what it had, so the
    leader had heard its former self and took it for further than it was, for ever."""
    cluster = Cluster(3, voters=[1, 2])
    leader = cluster.elect()
    propose_change(cluster, leader, "with_learner", 3)
    cluster.run(0.5)
    cluster.commit(b"x", broker=leader)
    cluster.run(0.5)
    assert cluster[3].log.last_index == cluster[leader].log.last_index
    cluster.replace(3, cluster.new_store(3))
    cluster.commit(b"y", broker=leader)
    cluster.run(1.0)
    assert cluster[3].log.last_index == cluster[leader].log.last_index
    stale = AppendReply(KEY, cluster[leader].group.term, RaftIndex(cluster[leader].log.last_index))
    cluster[leader].driver.receive(BrokerId(3), [stale])  # of its earlier self, and late
    cluster.commit(b"z", broker=leader)
    cluster.run(1.0)
    assert cluster[3].log.last_index == cluster[leader].log.last_index
    assert isinstance(propose_change(cluster, leader, "with_voter", 3), Entry)
    cluster.converge()


@pytest.mark.parametrize("size", [1, 3])
def test_power_loss_right_after_success_loses_nothing(size: int) -> None:
    """A leader that counts its own unsynced entry loses it (etcd #14370)."""
    for seed in range(10):
        cluster = Cluster(size, seed=seed)
        cluster.sync_time = lambda broker: 0.002
        leader = cluster.elect()
        proposal = cluster.propose(leader, b"precious")
        cluster.run_until(lambda p=proposal: p.outcome is not None)  # type: ignore[misc]
        for broker in list(cluster.brokers):
            cluster.crash(broker)
            cluster.restart(broker)
        cluster.elect()
        cluster.converge()
        assert all(b"precious" in b.machine.applied.values() for b in cluster.brokers.values())


def test_a_new_leader_changes_no_member_before_its_first_entry_is_committed() -> None:
    """Two leaders that each change one server can otherwise split a group (Ongaro, 2015)."""
    cluster = Cluster(4, voters=[1, 2, 3])
    first = cluster.elect()
    cluster.crash(first)
    cluster.run_until(lambda: cluster.leader is not None)
    new = cluster.leader or 0
    assert not cluster[new].group.is_ready
    refused = propose_change(cluster, new, "with_learner", 4)
    assert isinstance(refused, ChangeRefused)
    assert "its term" in refused.reason
    cluster.elect()
    assert not isinstance(propose_change(cluster, new, "with_learner", 4), ChangeRefused)


def test_a_removed_member_disturbs_nobody() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    removed = others(cluster, leader)[0]
    cluster.isolate(removed)
    assert not isinstance(propose_change(cluster, leader, "without", removed), ChangeRefused)
    cluster.run(0.5)
    term = cluster[leader].group.term
    assert cluster[leader].group.voters == {b for b in (1, 2, 3) if b != removed}
    cluster.heal()
    cluster.sent.clear()
    cluster.run(30.0)
    assert cluster.leader == leader
    assert cluster[leader].group.term == term
    assert any(isinstance(m, PreVote) for _, s, _, m in cluster.sent if s == removed)
    assert not any(isinstance(m, Vote) for _, s, _, m in cluster.sent if s == removed)
    cluster.commit(b"x", broker=leader)


def test_a_group_of_two_goes_on_after_the_third_was_removed() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    gone, other = others(cluster, leader)
    cluster.crash(gone)
    propose_change(cluster, leader, "without", gone)
    cluster.run(0.5)
    cluster.commit(b"x", broker=leader)
    cluster.crash(other)
    waiting = cluster.propose(leader, b"y")
    cluster.run(0.5)
    assert waiting.outcome is None, "one of two is no majority"


def test_the_configuration_survives_a_snapshot_and_restarts() -> None:
    """The entry that holds it is behind the log's start (PySyncObj #133)."""
    cluster = Cluster(4, voters=[1, 2, 3])
    leader = cluster.elect()
    cluster.run(0.3)
    behind = others(cluster, leader, 4)[0]
    cluster.crash(behind)
    propose_change(cluster, leader, "with_learner", 4)
    cluster.run(0.5)
    propose_change(cluster, leader, "with_voter", 4)
    cluster.run(0.5)
    for i in range(5):
        cluster.commit(b"%d" % i, broker=leader)
    cluster.run(0.3)
    for broker in cluster.brokers.values():
        index = RaftIndex(broker.log.commit_index - 1)
        broker.log.drop_before(index, int(index).to_bytes(8, "big"))
    cluster.restart(behind)
    cluster.converge()
    assert cluster[behind].machine.restored
    cluster.run(0.2)
    for broker_id in list(cluster.brokers):
        cluster.crash(broker_id)
        assert cluster.restart(broker_id).group.voters == {1, 2, 3, 4}
    cluster.elect()


def test_a_snapshot_carries_no_membership_that_may_be_undone() -> None:
    """An uncommitted change is not taken for committed by who gets a snapshot meanwhile."""
    cluster = Cluster(4, voters=[1, 2, 3])
    leader = cluster.elect()
    cluster.run(0.3)
    behind, other = others(cluster, leader, 4)
    cluster.crash(behind)
    for i in range(5):
        cluster.commit(b"%d" % i, broker=leader)
    log = cluster[leader].log
    log.drop_before(RaftIndex(4), (4).to_bytes(8, "big"))
    cluster.crash(other)
    propose_change(cluster, leader, "with_learner", 4)

    def lose_what_follows(sender: int, receiver: int, message: Message) -> float | None:
        return None if isinstance(message, Append) and message.prev_index == 4 else cluster.latency

    cluster.rules.append(lose_what_follows)
    cluster.restart(behind)
    cluster.run_until(lambda: cluster[behind].machine.restored != [])
    assert cluster[leader].group.membership.learners == {4}
    assert cluster[behind].group.membership.learners == frozenset()


def test_a_log_that_moves_on_while_its_snapshot_is_on_the_way_costs_a_round_trip() -> None:
    """The follower has the snapshot, and lacks what the log was shortened by meanwhile. It was sent the next
    one five seconds after the first (seed 579252914 of the simulator)."""
    cluster = Cluster(4, voters=[1, 2, 3])
    leader = cluster.elect()
    cluster.run(0.3)
    behind = others(cluster, leader)[0]
    cluster.crash(behind)
    log = cluster[leader].log

    def shorten() -> RaftIndex:
        for i in range(5):
            cluster.commit(b"%d" % i, broker=leader)
        cluster.run(0.3)
        log.drop_before(log.commit_index, int(log.commit_index).to_bytes(8, "big"))
        return log.commit_index

    def hold_snapshots(sender: int, receiver: int, message: Message) -> float | None:
        return 1.0 if isinstance(message, Snapshot) else cluster.latency

    cluster.rules.append(hold_snapshots)
    first = shorten()
    cluster.restart(behind)
    cluster.run(0.5)
    second = shorten()
    cluster.run_until(lambda: first in cluster[behind].machine.restored, within=1.5)
    cluster.run_until(lambda: second in cluster[behind].machine.restored, within=1.5)


def test_a_learner_receives_and_neither_votes_nor_counts() -> None:
    cluster = Cluster(4, voters=[1, 2, 3])
    leader = cluster.elect()
    cluster.run(0.3)
    propose_change(cluster, leader, "with_learner", 4)
    cluster.run(0.5)
    cluster.commit(b"x", broker=leader)
    cluster.run(0.3)
    assert b"x" in cluster[4].machine.applied.values()
    for follower in others(cluster, leader, 4):
        cluster.crash(follower)
    alone = cluster.propose(leader, b"y")
    cluster.run(5.0)
    assert alone.outcome is Outcome.MAY_STILL_HAPPEN
    assert cluster.leader is None


@pytest.mark.parametrize("pause", [False, True], ids=["part-kill", "pause-kill"])
@pytest.mark.parametrize("seed", range(6))
def test_shifting_majorities_do_not_forget(seed: int, pause: bool) -> None:
    """Jepsen on NATS. a, b are cut off (or stopped); c, d, e acknowledge; c loses power; then d, e are cut
    off, and a, b, c are a majority. They may refuse to go on; what was acknowledged must not be lost."""
    cluster = Cluster(5, seed=seed)
    cluster.sync_time = lambda broker: 0.001
    cluster.elect()
    cluster.run(0.5)
    a, b, c, d, e = [*others(cluster, cluster.leader or 0), cluster.leader or 0]
    stopped = {}
    if pause:
        stopped = {broker: cluster.brokers.pop(broker) for broker in (a, b)}
    else:
        cluster.cut([a, b], [c, d, e])
    acknowledged = [cluster.commit(b"%d" % i, broker=e) for i in range(10)]
    cluster.crash(c)
    cluster.brokers.update(stopped)
    cluster.heal()
    cluster.cut([d, e], [a, b, c])
    cluster.restart(c)
    cluster.run(10.0)
    cluster.heal()
    cluster.elect()
    cluster.converge()
    cluster.check_all()
    for broker in cluster.brokers.values():
        assert {p.payload for p in acknowledged} <= set(broker.machine.applied.values())


def test_a_rejoining_broker_costs_at_most_one_election() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    term = cluster[leader].group.term
    lonely = others(cluster, leader)[0]
    for _ in range(10):  # a link that flaps
        cluster.isolate(lonely)
        cluster.run(1.0)
        cluster.heal()
        cluster.run(1.0)
    assert max(b.group.term for b in cluster.brokers.values()) <= term + 1
    start = cluster.now
    cluster.commit(b"x")
    assert cluster.now - start < TIMING.election_max
