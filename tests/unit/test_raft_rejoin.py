"""What a leader may count of a replica that lost its log, and when it may welcome it.

Each of these histories lost an acknowledged record, or committed two entries at one index, or stood still.
"""

from __future__ import annotations

from typing import Final

from raftlog.raft.messages import Append, AppendReply, HeartbeatReply, Message, PreVote, Vote
from raftlog.raft.values import Outcome, Role
from raftlog.types import BrokerId
from tests.unit.raft_cluster import Cluster

FAST: Final = 0.001
"""Seconds that a message takes."""


def everywhere(cluster: Cluster, payload: bytes) -> bool:
    return all(payload in broker.machine.applied.values() for broker in cluster.brokers.values())


def test_two_emptied_replicas_do_not_vouch_for_each_other() -> None:
    """Five voters. A leader is stopped; its successor commits with two others, whose disks are emptied, and
    is down when the old leader goes on. Each emptied one has forgotten that it elected the successor."""
    cluster = Cluster(5)
    stopped = cluster.elect()
    cluster.run(0.3)
    behind = stopped % 5 + 1
    cluster.isolate(behind)
    process = cluster.brokers.pop(stopped)
    successor = cluster.run_until_other_leader(stopped)
    emptied = [broker for broker in range(1, 6) if broker not in (stopped, successor, behind)]
    cluster.commit(b"precious", broker=successor)
    cluster.run(0.5)
    cluster.crash(successor)
    for broker in emptied:
        cluster.wipe(broker)
    cluster.heal()
    cluster.brokers[stopped] = process
    proposal = cluster.maybe_propose(stopped, b"other")
    cluster.run(5.0)
    assert proposal is None or proposal.outcome is not Outcome.COMMITTED
    cluster.restart(successor)
    cluster.elect()
    cluster.converge()
    assert everywhere(cluster, b"precious")


def test_a_stopped_leader_answers_no_read_by_who_has_forgotten_its_successor() -> None:
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
    answers: list[tuple[bool, bool]] = []
    process.group.read_barrier(
        cluster.now,
        lambda leads: answers.append((leads, b"precious" in process.machine.applied.values())),
    )
    cluster.run(5.0)
    assert (True, False) not in answers, "a linearizable read that lacks an acknowledged record"


def test_a_membership_that_is_not_committed_does_not_decide_who_could_have_elected_a_successor() -> None:
    """A leader removes a voter, is stopped before anybody hears of it, and has a successor by the votes of
    the membership that is committed."""
    cluster = Cluster(3)
    stopped = cluster.elect()
    cluster.commit(b"first", broker=stopped)
    cluster.run(0.5)
    process = cluster[stopped]
    removed, emptied = [broker for broker in (1, 2, 3) if broker != stopped]
    cluster.isolate(stopped)
    membership = process.group.membership.without(BrokerId(removed))
    process.group.leading.propose_membership(membership, cluster.now, lambda outcome, entry: None)
    cluster.run(0.2)
    del cluster.brokers[stopped]
    cluster.heal()
    cluster.rules.append(
        lambda sender, receiver, message: None if sender == emptied and isinstance(message, PreVote) else FAST
    )
    successor = cluster.run_until_other_leader(stopped)
    assert successor == removed
    cluster.rules.clear()
    cluster.commit(b"precious", broker=successor)
    cluster.run(1.0)
    cluster.crash(successor)
    cluster.wipe(emptied)
    cluster.brokers[stopped] = process
    proposal = cluster.maybe_propose(stopped, b"other")
    cluster.run(5.0)
    assert proposal is None or proposal.outcome is not Outcome.COMMITTED
    cluster.restart(successor)
    cluster.elect()
    cluster.converge()
    assert everywhere(cluster, b"precious")


def test_a_replica_with_a_damaged_log_does_not_acknowledge_it_before_it_drops_it() -> None:
    """The welcome overtakes the append that has the log dropped; the next heartbeat's answer names the end
    of the damaged log. The leader never sends it again what it has dropped."""
    cluster = Cluster(3)
    leader = cluster.elect()
    for number in range(20):
        cluster.commit(b"before %d" % number, broker=leader)
    cluster.run(0.5)
    node = cluster[leader % 3 + 1]
    cluster.rules.append(
        lambda sender, receiver, message: 0.5 if isinstance(message, Append) and receiver == node.id else FAST
    )
    node.log.damage.lost = "a test says so"
    cluster.run(2.0)
    cluster.rules.clear()
    cluster.run(30.0)
    assert node.group.is_trusted


def test_a_damaged_log_that_is_to_be_dropped_commits_nothing() -> None:
    """The third voter is cut off; the only other copy of the entry is in a log that is dropped."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    node = cluster[leader % 3 + 1]
    third = 6 - leader - node.id
    cluster.sync_time = lambda broker: 0.35 if broker in (node.id, leader) else 0.0
    cluster.cut([leader], [third])
    proposal = cluster.propose(leader, b"precious")
    cluster.run_until(lambda: node.log.last_index == cluster[leader].log.last_index)
    cluster.heal()
    delays = {third: None, node.id: 1.5}
    cluster.rules.append(
        lambda sender, receiver, message: delays.get(receiver, FAST) if isinstance(message, Append) else FAST
    )
    node.log.damage.lost = "a test says so"
    cluster.run(1.2)
    cluster.sync_time = lambda broker: 0.0
    cluster.run_until(lambda: node.log.last_index == 0)
    assert proposal.outcome is None, "acknowledged, and on the leader's disk only"


def test_a_new_group_trusts_all_though_one_leaves_as_soon_as_there_is_a_leader() -> None:
    """The first welcome names no commit index yet: the leader has committed nothing. The next one does."""
    cluster = Cluster(3)
    for broker in (1, 2, 3):
        cluster.wipe(broker)
    leader = cluster.elect()
    cluster.run_until(
        lambda: all(
            node.group.turning.replica.parts.trust.is_welcome or node.id == leader
            for node in cluster.brokers.values()
        )
    )
    kept, gone = [broker for broker in (1, 2, 3) if broker != leader]
    cluster.crash(gone)
    cluster.run_until(lambda: cluster[kept].group.is_trusted, within=2.0)


def test_an_emptied_replica_votes_although_its_leader_ends_just_after_its_welcome() -> None:
    """Its disk was still writing all that the leader had named when the leader ended. Nobody leads a group of
    two without its vote, and so nobody came to say again what it needs."""
    cluster = Cluster(2)
    leader = cluster.elect()
    cluster.commit(b"precious", broker=leader)
    cluster.run(0.5)
    emptied = cluster.wipe(3 - leader)
    cluster.sync_time = lambda broker: 0.05 if broker == emptied.id else 0.0
    last_index = cluster[leader].log.last_index
    cluster.run_until(lambda: emptied.log.last_index == last_index)
    cluster.crash(leader)
    assert emptied.log.entries.synced_index < last_index and not emptied.group.is_trusted
    cluster.run(0.2)
    assert emptied.group.is_trusted
    cluster.restart(leader)
    cluster.elect()
    cluster.converge()
    assert everywhere(cluster, b"precious")


def test_an_acknowledgement_that_came_after_the_loss_of_its_log_is_not_counted() -> None:
    """It was under way on a connection that broke. The leader counted what was on no other disk any more, and
    then sent the follower only what is behind that, which the follower refused for ever."""
    cluster = Cluster(3)
    leader = cluster.elect()
    emptied, behind = [broker for broker in range(1, 4) if broker != leader]
    cluster.run(0.3)
    last_index = cluster[leader].log.last_index

    def rule(sender: int, receiver: int, message: Message) -> float | None:
        if isinstance(message, Append) and len(message.entries) > 0:
            may_pass = receiver == emptied and not wiped
            return FAST if may_pass or message.entries[-1].index <= last_index else None
        is_answer = isinstance(message, AppendReply | HeartbeatReply) and message.match_index > last_index
        return 1.0 if is_answer else FAST

    wiped = False
    cluster.rules.append(rule)
    proposal = cluster.propose(leader, b"once")
    cluster.run_until(lambda: cluster[emptied].log.entries.synced_index == proposal.entry.index)
    cluster.run(0.01)
    wiped = True
    cluster.wipe(emptied)
    cluster.run(3.0)
    assert cluster[leader].group.is_leader
    assert max(cluster[emptied].log.last_index, cluster[behind].log.last_index) <= last_index
    assert proposal.outcome is None, "the leader alone has it"
    cluster.heal()
    cluster.converge()
    assert proposal.outcome is Outcome.COMMITTED


def test_a_vote_that_an_emptied_replica_has_forgotten_does_not_count_for_ever() -> None:
    """Five voters. A candidate has one vote and is cut off; the voter's disk is emptied and filled again. The
    request to another voter is under way all the time."""
    cluster = Cluster(5)
    leader = cluster.elect()
    cluster.run(0.3)
    candidate, emptied, late, other = [broker for broker in range(1, 6) if broker != leader]

    def rule(sender: int, receiver: int, message: Message) -> float | None:
        if isinstance(message, Vote):
            return {emptied: FAST, late: 60.0}.get(receiver)
        # Who votes late has the candidate's log, and no more.
        return None if isinstance(message, Append) and message.entries and receiver == late else FAST

    cluster.rules.append(rule)
    assert cluster[leader].group.leading.transfer(BrokerId(candidate), cluster.now) is None
    cluster.run_until(lambda: cluster[emptied].log.promises.hard_state.voted_for == candidate)
    cluster.run(2 * FAST)
    cluster.cut([candidate], [leader, other])
    cluster.wipe(emptied)
    cluster.run_until(lambda: cluster[emptied].group.is_trusted and not cluster[leader].group.is_transferring)
    cluster.commit(b"precious", broker=leader)
    cluster.run_until(lambda: cluster[late].group.term > cluster[leader].group.term, within=90.0)
    cluster.run(1.0)
    assert cluster[candidate].group.role is not Role.LEADER
    cluster.heal()
    cluster.elect()
    cluster.converge()
    assert everywhere(cluster, b"precious")
