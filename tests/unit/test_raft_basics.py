"""Elections and replication when nothing fails, and the small failures that every group sees."""

from __future__ import annotations

from raftlog.raft.messages import Append, Heartbeat
from raftlog.raft.values import NotLeader, Outcome, Role
from raftlog.storage.entry import EntryKind
from tests.unit.raft_cluster import Cluster


def test_a_group_of_one_leads_in_its_first_turn() -> None:
    cluster = Cluster(1)
    cluster[1].driver.turn(0.0)
    assert cluster[1].group.is_ready
    assert cluster[1].store.syncs == 1
    proposal = cluster.propose(1, b"a")
    assert proposal.outcome is None
    cluster[1].driver.turn(0.0)
    assert proposal.outcome is Outcome.COMMITTED
    assert cluster[1].store.syncs == 2


def test_three_elect_one_and_replicate() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    proposals = [cluster.propose(leader, b"%d" % i) for i in range(10)]
    cluster.converge()
    assert [p.outcome for p in proposals] == [Outcome.COMMITTED] * 10
    assert all(
        list(b.machine.applied.values()) == [b"%d" % i for i in range(10)] for b in cluster.brokers.values()
    )


def test_proposals_of_one_turn_share_one_message_and_one_sync() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    cluster.sent.clear()
    syncs = cluster[leader].store.syncs
    for i in range(100):
        cluster.propose(leader, b"%d" % i)
    cluster.run(0.02)
    appends = [m for _, _, _, m in cluster.sent if isinstance(m, Append) and m.entries]
    assert len(appends) == 2
    assert cluster[leader].store.syncs == syncs + 1
    assert cluster[leader].log.commit_index == cluster[leader].log.last_index


def test_a_follower_refuses_proposals_and_names_the_leader() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    follower = next(b for b in cluster.brokers if b != leader)
    refused = cluster[follower].group.leading.propose(EntryKind.BATCH, b"x", 1, lambda *_: None)
    assert refused == NotLeader(leader, cluster[leader].group.term)


def test_a_dead_leader_is_replaced_and_comes_back_as_a_follower() -> None:
    cluster = Cluster(3)
    first = cluster.elect()
    cluster.commit(b"before")
    cluster.crash(first)
    second = cluster.elect()
    assert second != first
    cluster.commit(b"after")
    cluster.restart(first)
    cluster.converge()
    assert cluster[first].group.role is Role.FOLLOWER
    assert list(cluster[first].machine.applied.values()) == [b"before", b"after"]


def test_an_idle_group_costs_a_heartbeat_a_peer_and_no_sync() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(1.0)
    syncs = {b: n.store.syncs for b, n in cluster.brokers.items()}
    cluster.sent.clear()
    cluster.run(10.0)
    heartbeats = [m for _, _, _, m in cluster.sent if isinstance(m, Heartbeat)]
    assert 2 * 95 <= len(heartbeats) <= 2 * 101
    assert len(cluster.sent) == 2 * len(heartbeats)
    assert {b: n.store.syncs for b, n in cluster.brokers.items()} == syncs
    assert cluster.leader == leader


def test_the_preferred_replica_of_a_new_group_leads_at_once() -> None:
    cluster = Cluster(3)
    for broker in (1, 3):
        cluster.crash(broker)
        cluster.restart(broker, preferred=broker == 3)
    cluster.run(0.05)
    assert cluster.leader == 3
    cluster.run(0.05)
    assert cluster[3].group.is_ready


def test_a_follower_that_restarts_in_a_quiet_group_learns_what_is_committed() -> None:
    """Found by the simulation: the leader knew from before that the follower has everything, so it sent
    nothing, and the follower did not know that its log is the leader's."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    follower = next(b for b in cluster.brokers if b != leader)
    proposal = cluster.propose(leader, b"x")
    cluster.run_until(lambda: cluster[follower].log.last_index == proposal.entry.index)
    assert cluster[follower].log.commit_index < proposal.entry.index
    cluster.run_until(lambda: cluster[follower].log.entries.synced_index == proposal.entry.index)
    cluster.crash(follower)
    cluster.restart(follower)
    cluster.run_until(lambda: cluster[follower].log.commit_index == proposal.entry.index, within=1.0)
    assert cluster.leader == leader
