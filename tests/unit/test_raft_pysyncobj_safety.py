"""What plain PySyncObj 0.3.17 loses, and raftlog's groups keep: the safety findings, one by one.

The letters are those of docs/raft.md. Where one scenario runs on both, the plain library must fail it: a
scenario that nothing fails tests nothing.
"""

from __future__ import annotations

import pytest

from raftlog.errors import DamagedLog, SafetyError
from raftlog.raft import engine
from raftlog.raft.group import RaftGroup
from raftlog.raft.messages import Append, AppendReply, Heartbeat, Rejoin, Snapshot, Vote, VoteReply
from raftlog.raft.values import ChangeRefused, NotLeader, Outcome
from raftlog.storage.entry import Entry, EntryKind
from raftlog.types import BrokerId, Offset, RaftIndex, Term
from tests.unit.raft_cluster import KEY, Cluster
from tests.unit.raft_script import Base, Hardened, Lost, Plain

A, B, C, D, E = 1, 2, 3, 4, 5


# a: replies carry no term


def an_old_ack_arrives_late(script: Base) -> None:
    script.elect(A, [B, C])
    script.replicate(A, [B, C, D, E])
    for payload in (b"old-1", b"old-2", b"old-3"):
        script.propose(A, payload)
    script.turn(A)
    script.deliver(script.take("append", of=A, to=B))
    script.turn(B)
    late = script.take("ack", of=B, to=A)
    assert late
    script.forget()
    script.elect(C, [D, E])
    script.replicate(C, [A, B, D])
    script.forget()
    script.elect(A, [D, E])
    script.propose(A, b"acknowledged")
    script.replicate(A, [D])
    script.forget()
    script.deliver(late)
    script.turn(A)
    script.turn(A)
    script.check()


def test_an_ack_of_an_old_term_is_not_counted() -> None:
    an_old_ack_arrives_late(Hardened(5))


def test_plain_counts_an_ack_of_an_old_term() -> None:
    with pytest.raises(Lost, match="acknowledged"):
        an_old_ack_arrives_late(Plain(5))


# b: a follower deletes what matches


def a_copy_of_an_append_arrives_late(script: Base) -> None:
    script.elect(A, [B])
    script.replicate(A, [B])
    script.forget()
    copies = []
    for payload in (b"one", b"two", b"three"):
        script.propose(A, payload)
        script.turn(A)
        flights = script.take("append", of=A, to=B)
        copies += flights
        script.deliver(flights)
        script.turn(B)
        script.deliver(script.take("ack", of=B, to=A))
        script.turn(A)
    script.turn(A)
    assert all(write.acknowledged for write in script.writes)
    script.forget()
    script.deliver(copies[:2])
    script.turn(B)
    script.crash(A)  # type: ignore[attr-defined]
    script.check()


def test_a_second_copy_of_an_append_removes_nothing() -> None:
    script = Hardened(3)
    a_copy_of_an_append_arrives_late(script)
    assert script.broker(B).log.truncations == []


def test_plain_truncates_what_matches() -> None:
    with pytest.raises(Lost, match="three"):
        a_copy_of_an_append_arrives_late(Plain(3))


def test_truncation_below_the_commit_index_stops_the_broker() -> None:
    cluster = Cluster(3)
    cluster.commit(b"x")
    broker = cluster[cluster.elect()]
    with pytest.raises(SafetyError):
        broker.log.truncate_from(broker.log.commit_index)


def test_an_ack_does_not_lower_what_is_sent_next() -> None:
    script = Hardened(3)
    script.elect(A, [B])
    script.replicate(A, [B, C])
    script.forget()
    for payload in (b"one", b"two", b"three"):
        script.propose(A, payload)
    appends = script.take("append", of=A, to=B)
    assert len(appends) == 3
    script.deliver(appends[:1])
    script.deliver(script.take("ack", of=B, to=A))
    assert script.take("append", of=A, to=B) == []


# c: nothing is acknowledged before it is on the disk


def test_power_loss_of_all_after_success_loses_nothing() -> None:
    cluster = Cluster(3)
    cluster.commit(b"precious")
    for broker in (1, 2, 3):
        cluster.crash(broker)
    for broker in (1, 2, 3):
        cluster.restart(broker)
    cluster.elect()
    cluster.converge()
    assert all(b"precious" in b.machine.applied.values() for b in cluster.brokers.values())


@pytest.mark.parametrize("slow", [1, 2, 3])
def test_one_slow_disk_of_three_keeps_no_promise_it_cannot_keep(slow: int) -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    cluster.sync_time = lambda broker: 0.5 if broker == slow else 0.0
    proposal = cluster.propose(leader, b"x")
    cluster.run(0.1)
    committed = proposal.outcome is Outcome.COMMITTED
    assert committed == (slow != leader)
    index = proposal.entry.index
    assert cluster[slow].log.entries.synced_index < index
    acks = [(s, m) for _, s, _, m in cluster.sent if isinstance(m, AppendReply) and s == slow]
    assert all(m.match_index < index for _, m in acks)
    cluster.run(1.0)
    assert proposal.outcome is Outcome.COMMITTED


def test_a_vote_leaves_only_when_it_is_durable() -> None:
    cluster = Cluster(3)
    cluster.sync_time = lambda broker: 0.05
    cluster.run_until(lambda: cluster.leader is not None)
    votes = [(at, s, m) for at, s, _, m in cluster.sent if isinstance(m, Vote | VoteReply)]
    assert votes
    for at, sender, message in votes:
        assert at >= 0.05
        durable = cluster[sender].store.durable[KEY].promises.hard_state
        assert durable.term >= message.term


def test_a_vote_is_remembered_through_power_loss() -> None:
    script = Hardened(3)
    script.campaign(A)
    requests = script.take("vote", of=A, to=C)
    script.deliver(requests)
    assert [f.message.granted for f in script.take("vote_reply", of=C)] == [True]
    script.crash(C)
    script.cluster.restart(C)
    script.turn(C)
    assert script.broker(C).group.log.promises.hard_state.voted_for == A
    rival = requests[0].message._replace(last_index=RaftIndex(10), last_term=Term(9))
    script.broker(C).driver.receive(BrokerId(B), [rival])
    script.turn(C)
    assert [f.message.granted for f in script.take("vote_reply", of=C, to=B)] == [False]


def test_plain_makes_nothing_durable(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's journal and meta file are never synced, so success survives no power loss."""
    import os

    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    script = Plain(1, journalFile=f"{tmp_path}/journal")
    script.campaign(A)
    write = script.propose(A, b"precious")
    for _ in range(3):
        script.turn(A)
    assert write.acknowledged
    assert synced == []
    script.objects[A].destroy()


# d: the stored commit index


def test_the_commit_index_after_a_restart_is_what_the_log_knows() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.commit(b"x")
    cluster.isolate(leader)
    for i in range(5):
        cluster.propose(leader, b"%d" % i)
    cluster.run(0.1)
    committed, last = cluster[leader].log.commit_index, cluster[leader].log.last_index
    assert committed < last
    cluster.crash(leader)
    cluster.restart(leader)
    assert cluster[leader].group.commit_index <= committed
    assert cluster[leader].log.last_index == last


def test_plain_trusts_a_stored_commit_index_beyond_its_log() -> None:
    """SUCCESS with nothing sent to anyone."""
    script = Plain(3)
    node = script.objects[A]
    node._SyncObj__raftCommitIndex = 9  # what a journal's meta file gives after a crash that cut the log
    script.elect(A, [B])
    script.forget()
    write = script.propose(A, b"alone")
    script.turn(A)
    script.turn(A)
    assert write.acknowledged
    with pytest.raises(Lost):
        script.check()


# e: membership


def change(cluster: Cluster, leader: int, *, learner: int | None = None, voter: int | None = None) -> object:
    group = cluster[leader].group
    now = group.membership
    wanted = now.with_learner(BrokerId(learner)) if learner else now.with_voter(BrokerId(voter or 0))
    return group.leading.propose_membership(wanted, cluster.now, lambda *_: None)


def test_a_second_change_is_refused_until_the_first_is_committed() -> None:
    cluster = Cluster(5, voters=[1, 2, 3])
    leader = cluster.elect()
    assert not isinstance(change(cluster, leader, learner=4), ChangeRefused)
    refused = change(cluster, leader, learner=5)
    assert isinstance(refused, ChangeRefused)
    assert "not committed yet" in refused.reason
    cluster.run(0.1)
    assert not isinstance(change(cluster, leader, learner=5), ChangeRefused)


def test_two_servers_at_once_are_refused() -> None:
    cluster = Cluster(5, voters=[1, 2, 3])
    leader = cluster.elect()
    group = cluster[leader].group
    wanted = group.membership.with_learner(BrokerId(4)).with_learner(BrokerId(5))
    assert isinstance(group.leading.propose_membership(wanted, cluster.now, lambda *_: None), ChangeRefused)


def test_a_voter_must_have_been_a_learner_that_caught_up() -> None:
    cluster = Cluster(4, voters=[1, 2, 3])
    leader = cluster.elect()
    assert isinstance(change(cluster, leader, voter=4), ChangeRefused)
    cluster.crash(4)
    change(cluster, leader, learner=4)
    cluster.run(0.5)
    refused = change(cluster, leader, voter=4)
    assert isinstance(refused, ChangeRefused)
    assert "caught up" in refused.reason
    cluster.restart(4)
    cluster.run(1.0)
    assert not isinstance(change(cluster, leader, voter=4), ChangeRefused)
    cluster.run(0.2)
    assert all(b.group.voters == {1, 2, 3, 4} for b in cluster.brokers.values())


def test_the_configuration_is_read_from_the_log_at_start() -> None:
    cluster = Cluster(4, voters=[1, 2, 3])
    leader = cluster.elect()
    change(cluster, leader, learner=4)
    cluster.run(0.5)
    change(cluster, leader, voter=4)
    cluster.run(0.5)
    for broker in (1, 2, 3, 4):
        cluster.crash(broker)
        assert cluster.restart(broker).group.voters == {1, 2, 3, 4}


def test_a_change_that_is_replaced_is_undone() -> None:
    cluster = Cluster(4, voters=[1, 2, 3])
    leader = cluster.elect()
    cluster.run(0.2)
    cluster.isolate(leader)
    change(cluster, leader, learner=4)
    cluster.run(0.1)
    assert cluster[leader].group.membership.learners == {4}
    cluster.run_until(lambda: cluster.leader not in (None, leader))
    cluster.commit(b"other", broker=cluster.leader)
    cluster.heal()
    cluster.converge_voters()
    assert cluster[leader].group.membership.learners == frozenset()


def test_the_leader_is_not_removed_and_says_what_to_do() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    group = cluster[leader].group
    wanted = group.membership.without(BrokerId(leader))
    refused = group.leading.propose_membership(wanted, cluster.now, lambda *_: None)
    assert isinstance(refused, ChangeRefused)
    assert "transfer" in refused.reason


def test_votes_count_once_a_voter_and_only_of_voters() -> None:
    script = Hardened(5)
    script.campaign(A)
    group = script.broker(A).group
    granted = VoteReply(KEY, group.term, True)
    for sender in (B, B, B, B, 77, 78):
        script.broker(A).driver.receive(BrokerId(sender), [granted])
        script.turn(A)
    assert not group.is_leader
    script.broker(A).driver.receive(BrokerId(C), [granted])
    script.turn(A)
    assert group.is_leader


def test_plain_counts_a_repeated_vote_again() -> None:
    script = Plain(5)
    script.campaign(A)
    votes = script.take("vote", of=A, to=B)
    script.deliver(votes)
    replies = script.take("vote_reply", of=B)
    script.deliver(replies * 4)
    assert script.leads(A)  # with two of five


def test_acks_of_who_is_no_member_are_ignored() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.isolate(leader)
    proposal = cluster.propose(leader, b"x")
    node = cluster[leader]
    term = node.group.term
    for stranger in (8, 9):
        node.driver.receive(BrokerId(stranger), [AppendReply(KEY, term, proposal.entry.index)])
    cluster.turn(node)
    assert proposal.outcome is None


# i: forwarding and callbacks


def test_a_proposal_is_refused_at_once_where_nobody_leads() -> None:
    cluster = Cluster(3)
    for broker in cluster.brokers.values():
        assert isinstance(broker.group.leading.propose(EntryKind.BATCH, b"x", 1, lambda *_: None), NotLeader)
        assert broker.log.last_index == 0


def test_every_proposal_is_answered_exactly_once_when_leadership_is_lost() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.2)
    cluster.isolate(leader)
    sent = [cluster.propose(leader, b"%d" % i) for i in range(3)]
    cluster.turn(cluster[leader])
    term = cluster[leader].group.term
    unsent = [cluster.propose(leader, b"unsent %d" % i) for i in range(3)]
    cluster[leader].driver.receive(
        BrokerId(leader % 3 + 1), [Heartbeat(KEY, Term(term + 1), RaftIndex(0), 1)]
    )
    cluster.turn(cluster[leader])
    assert [p.outcome for p in sent] == [Outcome.MAY_STILL_HAPPEN] * 3
    assert [p.outcome for p in unsent] == [Outcome.WILL_NOT_HAPPEN] * 3
    assert cluster[leader].log.last_index == sent[-1].entry.index


# k: snapshots


def snapshot(group: RaftGroup, index: int, term: int) -> Snapshot:
    members = group.membership.encode()
    return Snapshot(KEY, group.term, RaftIndex(index), Term(term), Offset(index - 1), members, b"state")


def test_a_snapshot_that_the_log_contains_wipes_nothing() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    for i in range(5):
        cluster.commit(b"%d" % i)
    cluster.run(0.5)
    cluster.propose(leader, b"tail")
    cluster.run(0.0005)
    follower = cluster[leader % 3 + 1]
    cluster.run(0.003)
    last = follower.log.last_index
    for index in (2, int(follower.log.commit_index), int(last)):
        old = snapshot(follower.group, index, int(follower.log.term_at(RaftIndex(index)) or 0))
        follower.driver.receive(BrokerId(leader), [old])
        cluster.turn(follower)
        assert follower.log.last_index == last
        assert follower.machine.restored == []


def test_a_snapshot_that_the_log_contains_lets_the_follower_commit_up_to_it() -> None:
    """Found by the simulator (seed 432271592, part-kill): the follower waited for the next heartbeat."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.commit(b"first")
    cluster.run(0.5)
    follower = cluster[leader % 3 + 1]
    cluster.propose(leader, b"tail")
    cluster.run(0.003)
    last = follower.log.last_index
    assert follower.log.commit_index < last == follower.log.entries.synced_index
    follower.group.turning.replica.parts.following.restart()
    follower.group.turning.replica.parts.following.hear_commit(last)
    there = snapshot(follower.group, int(last), int(follower.log.term_at(last) or 0))
    follower.group.turning.step(BrokerId(leader), there, cluster.now)
    assert follower.log.commit_index == last


def test_a_divergent_tail_is_replaced_by_a_snapshot_and_not_committed() -> None:
    """The deposed leader's suffix must not become committed by a snapshot's commit index."""
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.commit(b"shared")
    cluster.run(0.2)
    cluster.isolate(old)
    stale = [cluster.propose(old, b"stale %d" % i) for i in range(20)]
    cluster.run(0.1)
    new = cluster.run_until_other_leader(old)
    for i in range(10):
        cluster.commit(b"new %d" % i, broker=new)
    for broker in cluster.brokers:
        if broker != old:
            index = cluster[broker].log.commit_index
            index = RaftIndex(min(index, cluster[broker].machine.applied_index))
            cluster[broker].log.drop_before(index, int(index).to_bytes(8, "big"))
    cluster.heal()
    cluster.converge()
    cluster.check_all()
    assert cluster[old].machine.restored != []
    assert all(p.outcome is Outcome.MAY_STILL_HAPPEN for p in stale)
    assert not any(payload.startswith(b"stale") for payload in cluster[old].machine.applied.values())


def test_a_follower_below_the_logs_start_catches_up_by_snapshot_and_entries() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    behind = leader % 3 + 1
    cluster.crash(behind)
    for i in range(10):
        cluster.commit(b"%d" % i, broker=leader)
    index = RaftIndex(cluster[leader].log.commit_index - 3)
    cluster[leader].log.drop_before(index, int(index).to_bytes(8, "big"))
    cluster.restart(behind)
    cluster.converge()
    assert cluster[behind].machine.restored == [index]
    assert list(cluster[behind].machine.applied.values()) == [b"7", b"8", b"9"]
    assert cluster[behind].group.voters == {1, 2, 3}


# A disk that was emptied


def test_a_wiped_broker_does_not_vote_until_it_has_caught_up() -> None:
    """Three brokers; an entry is on 1 and 2 only; 2 loses its disk. 2 and 3 are a majority without it."""
    cluster = Cluster(3)
    leader = cluster.elect()
    kept, lagging = [b for b in (1, 2, 3) if b != leader]
    cluster.run(0.3)
    cluster.isolate(lagging)
    cluster.commit(b"precious", broker=leader)
    cluster.crash(leader)
    cluster.heal()
    cluster.wipe(kept)
    cluster.run(20.0)
    assert cluster.leader is None, "a majority that never saw an acknowledged entry elected a leader"
    cluster.restart(leader)
    cluster.elect()
    cluster.converge()
    assert all(b"precious" in b.machine.applied.values() for b in cluster.brokers.values())
    cluster.run(0.5)
    assert cluster[kept].group.is_trusted


def test_what_a_wiped_broker_acknowledged_before_is_forgotten() -> None:
    cluster = Cluster(5)
    leader = cluster.elect()
    cluster.run(0.3)
    one, two = [b for b in range(1, 6) if b != leader][:2]
    rest = [b for b in range(1, 6) if b not in (leader, one)]
    cluster.cut([leader], rest)
    proposal = cluster.propose(leader, b"x")
    cluster.run(0.05)
    assert (
        cluster[leader].group.turning.replica.parts.engine.match_index[
            cluster[leader].group.turning.replica.parts.engine.peers[BrokerId(one)]
        ]
        == proposal.entry.index
    )
    cluster.wipe(one)
    cluster.rules.append(lambda s, r, m: None if isinstance(m, Append | Snapshot) else 0.001)
    cluster.run(0.3)
    assert (
        cluster[leader].group.turning.replica.parts.engine.match_index[
            cluster[leader].group.turning.replica.parts.engine.peers[BrokerId(one)]
        ]
        == 0
    )
    assert any(isinstance(m, Rejoin) for _, _, _, m in cluster.sent)
    assert proposal.outcome is None
    assert two in rest


def gets_on(cluster: Cluster) -> None:
    """It elects and commits, and everyone is trusted."""
    cluster.elect()
    cluster.commit(b"x")
    cluster.run(1.0)
    assert all(b.group.is_trusted for b in cluster.brokers.values())


def test_a_new_cluster_of_empty_disks_elects_when_all_are_there() -> None:
    cluster = Cluster(3, emptied=True)
    cluster.crash(3)
    cluster.run(10.0)
    assert cluster.leader is None
    cluster.restart(3)
    gets_on(cluster)


def test_a_new_group_elects_although_one_of_its_brokers_was_emptied_before_it_was_made() -> None:
    """Found by the simulation: a topic was made while one of two brokers was down, to start again from
    nothing. It could not know whether it had voted in the group before, and nobody led for ever. But all
    voters were there, and all had nothing: then there is nothing to be lost."""
    cluster = Cluster(2)
    cluster.wipe(2)
    gets_on(cluster)


def test_an_emptied_broker_does_not_help_to_elect_where_a_voter_is_missing() -> None:
    """The one that is missing may hold what the emptied one has acknowledged."""
    cluster = Cluster(3)
    leader = cluster.elect()
    kept, lagging = [b for b in (1, 2, 3) if b != leader]
    cluster.crash(leader)
    cluster.wipe(lagging)
    cluster.wipe(kept)
    cluster[lagging].group.turning.replica.parts.trust.regain()  # as if it had never had anything
    cluster.run(20.0)
    assert cluster.leader is None


def test_an_emptied_broker_does_not_help_an_empty_one_past_a_voter_that_has_something() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    empty, emptied = [b for b in (1, 2, 3) if b != leader]
    cluster.isolate(empty)
    cluster.crash(empty)
    cluster.restart(empty)
    cluster.commit(b"precious", broker=leader)
    cluster.crash(leader)
    cluster.wipe(emptied)
    cluster.restart(leader)
    cluster.heal()
    assert cluster.elect() == leader
    cluster.converge()
    assert all(b"precious" in b.machine.applied.values() for b in cluster.brokers.values())


def test_a_damaged_log_is_dropped_and_filled_by_the_leader() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.commit(b"x")
    damaged = leader % 3 + 1
    cluster.run(0.3)
    cluster.crash(damaged)
    cluster.down[damaged].store.durable[KEY].damage.lost = "a bad block"
    node = cluster.restart(damaged)
    assert not node.group.is_trusted
    cluster.isolate(damaged)
    cluster.run(10.0)
    assert node.group.term == cluster[leader].group.term
    assert node.log.last_index > 0, "nothing is dropped while nobody can fill it"
    cluster.heal()
    cluster.converge()
    assert node.log.damage.lost is None
    assert list(node.machine.applied.values()) == [b"x"]
    cluster.run(1.0)
    assert node.group.is_trusted


# The names that the adapter relies on


def test_the_installed_library_has_what_the_adapter_relies_on() -> None:
    import inspect
    from importlib.metadata import version

    from pysyncobj import syncobj

    assert version("pysyncobj") == "0.3.17"
    source = inspect.getsource(syncobj.SyncObj)
    for name in engine.PRIVATE_METHODS:
        assert callable(getattr(syncobj.SyncObj, name)), name
    group = Cluster(1)[1].group
    for name in engine.PRIVATE_ATTRIBUTES:
        assert hasattr(group.turning.replica.parts.engine, name), name
        assert f"self.{name.removeprefix('_SyncObj')}" in source, name
    tick = inspect.getsource(syncobj.SyncObj._onTick)
    for call in (
        "__generateRaftTimeout()",
        "__connectedToAnyone()",
        "__applyLogEntries()",
        "__tryLogCompaction()",
    ):
        assert f"self.{call}" in tick, call
    assert "createJournal(self.__conf.journalFile)" in source
    assert syncobj.monotonicTime is engine._monotonic_time


def test_damage_that_a_read_finds_ends_leadership_and_is_repaired() -> None:
    """A lagging follower asks the leader for entries that its disk no longer has."""
    cluster = Cluster(3)
    leader = cluster.elect()
    behind = leader % 3 + 1
    cluster.crash(behind)
    for i in range(5):
        cluster.commit(b"%d" % i, broker=leader)
    log = cluster[leader].log
    read = log.entries.read

    def damaged(from_index: RaftIndex, max_bytes: int, max_count: int) -> list[Entry]:
        if from_index <= 3 and log.last_index >= 3:
            log.damage.lost = "a bad block"
        if log.damage.lost is not None:
            raise DamagedLog(log.damage.lost)
        return read(from_index, max_bytes, max_count)

    log.entries.read = damaged  # type: ignore[method-assign]
    cluster.check = lambda: None  # type: ignore[method-assign]  # it reads the log as well
    cluster.restart(behind)
    cluster.run_until(lambda: cluster.leader not in (None, leader))
    del log.entries.read  # type: ignore[method-assign]
    cluster.converge()
    assert log.damage.lost is None
    assert list(cluster[leader].machine.applied.values()) == [b"0", b"1", b"2", b"3", b"4"]
    cluster.run(1.0)
    assert cluster[leader].group.is_trusted


def test_a_damaged_group_of_one_goes_on_with_what_it_has() -> None:
    cluster = Cluster(1)
    cluster.elect()
    cluster.commit(b"x")
    cluster.crash(1)
    cluster.down[1].store.durable[KEY].damage.lost = "a bad block"
    node = cluster.restart(1)
    cluster.elect()
    assert node.log.damage.lost == "a bad block"
    assert node.log.last_index >= 3
