"""Reads that must not be stale, and leadership that is handed over."""

from __future__ import annotations

import pytest

from raftlog.raft.messages import Heartbeat, TimeoutNow
from raftlog.raft.values import NotLeader, Outcome, RaftTiming, Role
from raftlog.storage.entry import EntryKind
from raftlog.types import BrokerId
from tests.unit.raft_cluster import TIMING, Cluster

NO_LEASE = RaftTiming(heartbeat=0.1, election_min=1.0, election_max=2.0, lease=0.0)


def read(cluster: Cluster, broker: int) -> list[bool]:
    answers: list[bool] = []
    cluster[broker].group.read_barrier(cluster.now, answers.append)
    return answers


def others(cluster: Cluster, *brokers: int) -> list[int]:
    return [b for b in cluster.brokers if b not in brokers]


def test_a_group_of_one_answers_a_read_at_once() -> None:
    cluster = Cluster(1)
    assert read(cluster, 1) == [False]
    cluster.elect()
    assert read(cluster, 1) == [True]


def test_under_its_lease_a_leader_answers_at_once() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    sent = len(cluster.sent)
    assert read(cluster, leader) == [True]
    assert len(cluster.sent) == sent


def test_without_a_lease_a_read_takes_one_round_trip() -> None:
    cluster = Cluster(3, timing=NO_LEASE)
    leader = cluster.elect()
    cluster.run(0.52)
    answers = read(cluster, leader)
    assert answers == []
    start = cluster.now
    cluster.run_until(lambda: answers != [])
    assert answers == [True]
    assert cluster.now - start <= 0.003


def test_reads_of_one_turn_share_one_round() -> None:
    cluster = Cluster(3, timing=NO_LEASE)
    leader = cluster.elect()
    cluster.run(0.52)
    cluster.sent.clear()
    answers = [read(cluster, leader) for _ in range(50)]
    cluster.run(0.01)
    assert answers == [[True]] * 50
    assert len([m for _, _, _, m in cluster.sent if isinstance(m, Heartbeat)]) == 2


def test_a_round_that_was_under_way_before_the_read_does_not_count() -> None:
    cluster = Cluster(3, timing=NO_LEASE, latency=0.02)
    leader = cluster.elect()
    cluster.run_until(lambda: isinstance(cluster.sent[-1][3], Heartbeat))
    cluster.run(0.03)  # delivered, answers on their way
    cluster.isolate(leader)
    cluster.cuts = {(leader, other) for other in others(cluster, leader)}
    answers = read(cluster, leader)
    cluster.run(0.5)
    assert answers == []


@pytest.mark.parametrize("timing", [TIMING, NO_LEASE], ids=["lease", "no lease"])
def test_a_deposed_leader_gives_no_stale_read_after_a_pause(timing: RaftTiming) -> None:
    """SIGSTOP of the leader, another one is elected and commits, SIGCONT, read (etcd #20418)."""
    cluster = Cluster(3, timing=timing)
    paused = cluster.elect()
    cluster.run(0.5)
    node = cluster.brokers.pop(paused)
    new = cluster.run_until_other_leader(paused)
    cluster.commit(b"newer", broker=new)
    cluster.brokers[paused] = node
    answers = read(cluster, paused)
    assert answers == []
    cluster.run(3.0)
    assert answers == [False]
    answers = read(cluster, new)
    cluster.run(0.1)
    assert answers == [True]


def test_the_lease_ends_before_another_leader_can_be_elected() -> None:
    for seed in range(8):
        cluster = Cluster(3, seed=seed)
        old = cluster.elect()
        cluster.run(0.5)
        cluster.isolate(old)

        def two(cluster: Cluster = cluster, old: int = old) -> bool:
            return cluster.leader not in (None, old)

        while not two():
            leased = read(cluster, old) == [True]
            cluster.run(0.01)
            assert not (leased and two()), f"seed {seed}: a lease outlived its leadership"
        assert read(cluster, old) != [True]


def test_a_restarted_follower_does_not_break_the_lease() -> None:
    """Both followers restart at once: they no longer know that they heard the leader, but act as if."""
    for seed in range(8):
        cluster = Cluster(3, seed=seed)
        old = cluster.elect()
        cluster.run(0.5)
        for follower in others(cluster, old):
            cluster.crash(follower)
            cluster.restart(follower)
        cluster.isolate(old)
        start = cluster.now
        cluster.run_until(lambda c=cluster, o=old: c.leader not in (None, o))  # type: ignore[misc]
        assert cluster.now - start >= TIMING.lease


def test_a_read_waits_for_the_new_leaders_first_entry() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.commit(b"x")
    cluster.crash(leader)
    cluster.run_until(lambda: cluster.leader is not None)
    new = cluster.leader or 0
    assert not cluster[new].group.is_ready
    answers = read(cluster, new)
    assert answers == []
    cluster.run_until(lambda: answers != [])
    assert answers == [True]
    assert b"x" in cluster[new].machine.applied.values()


def test_reads_on_a_follower_are_refused() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    assert read(cluster, others(cluster, leader)[0]) == [False]


# Handing over


def test_leadership_is_handed_over_without_a_time_out() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.commit(b"x")
    target = others(cluster, old)[0]
    start = cluster.now
    assert cluster[old].group.leading.transfer(BrokerId(target), cluster.now) is None
    assert isinstance(
        cluster[old].group.leading.propose(EntryKind.BATCH, b"y", 1, lambda *_: None), NotLeader
    )
    cluster.run_until(lambda: cluster.leader == target and cluster[target].group.is_ready)
    assert cluster.now - start < 0.02
    assert cluster[old].group.role is Role.FOLLOWER
    cluster.commit(b"z", broker=target)
    cluster.converge()


def test_a_target_that_is_behind_is_caught_up_first() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    target = others(cluster, old)[0]
    cluster.run(0.5)
    cluster.rules.append(lambda s, r, m: 0.05 if r == target else cluster.latency)
    proposal = cluster.propose(old, b"x")
    assert cluster[old].group.leading.transfer(BrokerId(target), cluster.now) is None
    cluster.run_until(lambda: cluster.leader == target)
    assert proposal.outcome is Outcome.COMMITTED
    requests = [at for at, _, _, m in cluster.sent if isinstance(m, TimeoutNow)]
    assert len(requests) >= 1


def test_a_transfer_that_gets_no_answer_is_given_up_and_proposals_go_on() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    target = others(cluster, old)[0]
    cluster.run(0.5)
    cluster.rules.append(lambda s, r, m: None if isinstance(m, TimeoutNow) else cluster.latency)
    assert cluster[old].group.leading.transfer(BrokerId(target), cluster.now) is None
    cluster.run(TIMING.election_min + 0.2)
    assert cluster.leader == old
    cluster.commit(b"x", broker=old)


@pytest.mark.parametrize("target", [0, 9, "self", "dead", "learner"])
def test_a_transfer_to_who_cannot_lead_is_refused_with_the_reason(target: int | str) -> None:
    cluster = Cluster(4, voters=[1, 2, 3])
    leader = cluster.elect()
    group = cluster[leader].group
    cluster.run(0.5)
    if target == "self":
        target = leader
    elif target == "dead":
        target = others(cluster, leader, 4)[0]
        cluster.crash(target)
        cluster.run(1.2)
    elif target == "learner":
        group.leading.propose_membership(
            group.membership.with_learner(BrokerId(4)), cluster.now, lambda *_: None
        )
        cluster.run(0.5)
        target = 4
    reason = group.leading.transfer(BrokerId(int(target)), cluster.now)
    assert reason is not None
    assert str(target) in reason
    cluster.commit(b"x", broker=leader)


def test_no_lease_holds_once_a_transfer_was_asked_for() -> None:
    """The target's election ignores that the old leader lives: a lease would let it read stale state."""
    cluster = Cluster(3)
    old = cluster.elect()
    target = others(cluster, old)[0]
    cluster.run(0.5)
    assert read(cluster, old) == [True]
    cluster[old].group.leading.transfer(BrokerId(target), cluster.now)
    assert read(cluster, old) == []
    cluster.rules.append(lambda s, r, m: None if isinstance(m, TimeoutNow) else cluster.latency)
    cluster.run(5.0)
    answers = read(cluster, old)
    assert answers == []
    cluster.run(0.1)
    assert answers == [True]


def test_everyone_is_told_of_role_term_and_leader_once_a_change() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(5.0)
    for broker in cluster.brokers.values():
        told = broker.machine.roles
        assert told[-1][1:] == (cluster[leader].group.term, leader)
        assert len(told) == len(set(told)) <= 5
