"""What a group gives the driver in a turn, and that it is carried out, whatever a state machine does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from raftlog.errors import FileRefused, SafetyError
from raftlog.raft.applying import Applying
from raftlog.raft.driver import READS_MAX
from raftlog.raft.flow import NOTHING
from raftlog.raft.values import NotLeader, Outcome, Role
from raftlog.storage.entry import Entry, EntryKind
from raftlog.types import BrokerId, RaftIndex, Term
from tests.unit.raft_cluster import Cluster, Machine
from tests.unit.test_raft_driver import Fleet, key


def test_a_group_with_nothing_to_do_gives_always_the_same_value() -> None:
    cluster = Cluster(3)
    cluster.commit(b"x")
    cluster.run(0.05)
    for broker in cluster.brokers.values():
        assert broker.group.turning.before_sync(cluster.now) is NOTHING
        assert broker.group.turning.after_sync() is NOTHING


def test_a_leader_sends_before_the_sync_and_a_follower_acknowledges_after_it() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.run(0.05)
    group = cluster[leader].group
    cluster.propose(leader, b"x")
    ready = group.turning.before_sync(cluster.now)
    assert [to for to, _ in ready.messages] == [2, 3]
    assert ready._replace(messages=()) == NOTHING
    follower = cluster[2].group
    for to, message in ready.messages:
        if to == 2:
            follower.turning.step(BrokerId(leader), message, cluster.now)
    assert follower.turning.before_sync(cluster.now) is NOTHING
    assert not follower.turning.after_sync().replies, "nothing is synced"


def test_a_state_machine_has_applied_all_before_it_hears_that_it_leads() -> None:
    """Also after a restart, when more is committed than one turn may apply."""
    cluster = Cluster(1)
    for number in range(30):
        cluster.commit(b"%d" % number)
    cluster.crash(1)
    node = cluster.restart(1)
    node.group.applied_index = node.machine.applied_index = RaftIndex(0)
    heard: list[tuple[Role, int]] = []
    node.machine.leadership_changed = (  # type: ignore[method-assign]
        lambda role, term, leader: heard.append((role, node.machine.applied_index))
    )
    last = node.group.commit_index
    cluster.elect()
    assert heard[-1][0] is Role.LEADER and heard[-1][1] >= last > 0


class Proposing(Machine):
    """Proposes as soon as it is told that it leads, and no later."""

    def leadership_changed(self, role: Role, term: Term, leader: BrokerId | None) -> None:
        super().leadership_changed(role, term, leader)
        if role is Role.LEADER:
            entry = self.group.leading.propose(
                EntryKind.BATCH, b"told", 1, lambda outcome, entry: self.outcomes.append(outcome)
            )
            assert not isinstance(entry, NotLeader)


@pytest.mark.parametrize("size", [1, 3])
def test_what_is_proposed_while_the_state_machine_is_told_goes_the_way_of_all(size: int) -> None:
    cluster = Cluster(size)
    outcomes: list[Outcome] = []
    for broker in cluster.brokers.values():
        broker.machine.__class__ = Proposing
        broker.machine.group, broker.machine.outcomes = broker.group, outcomes  # type: ignore[attr-defined]
    leader = cluster.elect()
    at = cluster.now
    cluster.run_until(lambda: bool(outcomes))
    assert outcomes == [Outcome.COMMITTED]
    assert cluster.now - at < 0.01, "no heartbeat had to bring it"
    assert b"told" in cluster[leader].machine.applied.values()


def test_what_is_proposed_while_the_state_machine_is_told_was_offered_to_the_disk() -> None:
    """The write of the same turn takes it along: it must not be said to have happened nowhere."""
    cluster = Cluster(3)
    outcomes: list[Outcome] = []
    for broker in cluster.brokers.values():
        broker.machine.__class__ = Proposing
        broker.machine.group, broker.machine.outcomes = broker.group, outcomes  # type: ignore[attr-defined]
    cluster.run_until(lambda: cluster.leader is not None)
    leader = cluster.leader
    assert leader is not None
    cluster[leader].driver.remove(cluster[leader].group.key)
    cluster[leader].driver.turn(cluster.now)
    assert outcomes == [Outcome.MAY_STILL_HAPPEN]


def test_a_leader_that_cannot_read_what_is_committed_steps_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is free. It must not try for ever, nor lead with a state machine that lacks entries."""
    cluster = Cluster(1)
    cluster.commit(b"x")
    cluster.crash(1)
    node = cluster.restart(1)
    node.group.applied_index = node.machine.applied_index = RaftIndex(0)

    def refuse(self: Applying) -> list[Entry]:
        raise FileRefused("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Applying, "_read", refuse)
        for _ in range(3):
            node.driver.turn(cluster.now)
        assert not node.group.is_leader and node.machine.applied_index == 0
        assert [role for role, _, _ in node.machine.roles][-1] is Role.FOLLOWER
    cluster.run_until(lambda: node.group.is_ready)
    assert node.machine.applied[2] == b"x"


def test_when_a_state_machine_raises_the_proposals_of_all_groups_are_answered() -> None:
    fleet = Fleet(9)
    fleet.run(1.05)
    driver = fleet.drivers[1]
    led = [group for group in driver.groups.values() if group.is_leader]
    assert len(led) == 3
    answers: dict[object, list[Outcome]] = {group: [] for group in led}
    for group in led:
        group.leading.propose(
            EntryKind.BATCH,
            b"x",
            1,
            lambda outcome, entry, group=group: answers[group].append(outcome),  # type: ignore[misc]
        )

    def poison(entries: Sequence[Entry], now: float) -> None:
        raise SafetyError("our bug")

    driver._members[led[1].key].machine.apply = poison  # type: ignore[method-assign]
    with pytest.raises(SafetyError, match="our bug"):
        fleet.run(0.05)
    driver.abandon()
    assert [len(outcomes) for outcomes in answers.values()] == [1, 1, 1]
    assert answers[led[1]] == [Outcome.MAY_STILL_HAPPEN]


def test_a_turn_reads_from_a_bounded_number_of_logs() -> None:
    fleet = Fleet(3 * READS_MAX)
    fleet.run(1.05)
    driver = fleet.drivers[1]
    for group in driver.groups.values():
        if group.is_leader:
            group.leading.propose(EntryKind.BATCH, b"x", 1, lambda outcome, entry: None)
    fleet.run(0.5)
    members = [driver._members[key(number)] for number in range(3 * READS_MAX)]
    for member in members:
        member.group.applied_index = member.machine.applied_index = RaftIndex(0)
        member.turning.wake()

    def behind() -> int:
        return sum(member.machine.applied_index == 0 for member in members)

    left = [behind()]
    while left[-1]:
        driver.turn(fleet.now)
        left.append(behind())
    assert [before - after for before, after in pairwise(left)] == [READS_MAX] * 3
