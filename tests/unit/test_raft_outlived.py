"""What outlived the thing that it was for: a leader's notes of a follower, and a replica's notes of its
leader, of its damage and of its own promises. A group stood still by it, or elected two."""

from __future__ import annotations

import random

from raftlog.errors import DamagedLog
from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.messages import (
    Heartbeat,
    Message,
    PreVote,
    PreVoteReply,
    Repair,
    Snapshot,
)
from raftlog.raft.progress import WINDOW_MESSAGES_MAX
from raftlog.raft.values import Outcome, Role
from raftlog.storage.entry import EntryKind
from raftlog.storage.index import Place
from raftlog.storage.log_damage import Rot
from raftlog.types import METADATA_GROUP, BrokerId, FilePosition, Offset, RaftIndex
from tests.unit.raft_cluster import Cluster, Machine
from tests.unit.raft_store import MemoryStore, broker
from tests.unit.test_raft_driver import TIMING, Fleet, key

FAST = 0.001


def rot_at(index: int) -> Rot:
    return Rot(Place(Offset(index), RaftIndex(index), FilePosition(0)), f"entry {index}: a test says so")


def test_a_first_vote_that_an_emptied_replica_has_forgotten_makes_no_second_leader() -> None:
    """A new group. Two candidates of term 1; the request of the one waits for its slow disk. The voter that
    elected the other is emptied before it comes."""
    cluster = Cluster(3)
    slow, voter, fast = 1, 2, 3
    for emptied in (voter, fast):
        cluster.wipe(emptied)
    cluster.sync_time = lambda b: 4.0 if b == slow and cluster[slow].group.term > 0 else 0.0

    # All grant both of them; the grants come at one moment.
    def rule(sender: int, receiver: int, message: Message) -> float | None:
        if isinstance(message, PreVote) and sender == voter:
            return None
        return max(3.0 - cluster.now, FAST) if isinstance(message, PreVoteReply) else FAST

    cluster.rules.append(rule)
    cluster.run_until(lambda: cluster[slow].group.role is Role.CANDIDATE)
    cluster.run_until(lambda: cluster.leader == fast, within=3.0)
    assert cluster[slow].group.term == cluster[fast].group.term
    cluster.cut([slow], [fast])
    proposal = cluster.propose(fast, b"precious")
    cluster.run_until(lambda: proposal.outcome is not None)
    assert proposal.outcome is Outcome.COMMITTED
    cluster.isolate(fast)
    cluster.wipe(voter)
    cluster.run(6.0)
    cluster.heal()
    cluster.elect()
    cluster.converge()


def test_a_broker_that_lost_its_disk_gets_the_metadata_although_much_was_under_way_to_it() -> None:
    """Partitions are begun there only once the metadata are known (cluster/replicas.py: `_knows_all`)."""
    fleet = Fleet(3, metadata=True)
    fleet.run(1.05)
    leader = fleet.drivers[1]
    data, metadata = leader.groups[key(0)], leader.groups[METADATA_GROUP]
    assert data.is_leader and metadata.is_leader
    fleet.away = {3}
    for _ in range(40):
        data.leading.propose(EntryKind.BATCH, bytes(1 << 20), 1, lambda outcome, entry: None)
        fleet.run(0.01)
    for _ in range(300):
        metadata.leading.propose(EntryKind.NOOP, bytes(1 << 10), 0, lambda outcome, entry: None)
    fleet.run(1.0)
    # Broker 3 comes back with an empty disk, and nothing but the metadata.
    store = fleet.stores[3] = MemoryStore()
    driver = fleet.drivers[3] = Driver(store, send=fleet._sender(3))  # type: ignore[arg-type]
    log = store.create_log(METADATA_GROUP)
    log.may_lack = True
    raft = RaftGroup(
        METADATA_GROUP,
        broker(3),
        log,
        frozenset(map(BrokerId, (1, 2, 3))),  # type: ignore[arg-type]
        timing=TIMING,
        rng=random.Random(3),
        now=fleet.now,
    )
    driver.add(raft, Machine(log))
    fleet.away = set()
    fleet.run(60.0)
    assert metadata.is_leader
    assert log.last_index == metadata.log.last_index


def test_a_silent_follower_whose_room_was_given_back_is_sent_nothing_until_it_answers() -> None:
    """The group had entries to send to it, and no turn to send them in (seeds 2112921334 and 2112921351)."""
    cluster = Cluster(3, timing=TIMING)
    leader = cluster.elect()
    cluster.run(1.0)
    away, near = [b for b in (1, 2, 3) if b != leader]
    cluster.isolate(away)
    for number in range(2 * WINDOW_MESSAGES_MAX):  # more than may be under way
        cluster.commit(b"%d" % number, broker=leader)
    cluster.run(5.0)
    assert cluster[leader].group.log.commit_index == cluster[near].group.log.commit_index
    cluster.heal()
    cluster.converge()


def test_two_damaged_replicas_are_not_filled_anew_at_once() -> None:
    """Compaction has been over what is damaged: nobody can give it one by one, and each is filled anew when
    the others can do without it."""
    cluster = Cluster(3)
    leader = cluster.elect()
    for number in range(5):
        cluster.commit(b"%d" % number, broker=leader)
    cluster.run(1.0)
    others = [b for b in (1, 2, 3) if b != leader]
    for b in others:
        cluster[b].log.cleaning.clean_index = 3
        cluster[b].log.rot = rot_at(2)
        cluster[b].log.on_rot()
    cluster.run(60.0)
    cluster.elect()
    cluster.commit(b"after")


def test_a_permission_to_be_filled_anew_ends_with_the_damage() -> None:
    """The leader has no such entry any more, and lets the follower go. Before that gives up its log, its own
    retention drops the damaged entry. A later damage finds nobody who answers at once."""
    cluster = Cluster(3)
    leader = cluster.elect()
    for number in range(9):
        cluster.commit(b"%d" % number, broker=leader)
    cluster.run(1.0)
    damaged, other = [b for b in (1, 2, 3) if b != leader]
    for b in (leader, other):
        cluster[b].log.drop_before(RaftIndex(4), b"state")
    node = cluster[damaged]
    repairs = node.group.turning.replica.parts.repairs
    node.log.rot = rot_at(2)
    node.log.on_rot()
    cluster.run_until(lambda: repairs._gone_until > cluster.now)
    # as LogDamage.forget_to does
    node.log.drop_before(RaftIndex(4), b"state")
    node.log.rot = None
    node.log.on_rot()
    cluster.run(1000.0)
    # Months later one disk is emptied, and the group needs the votes of the others.
    cluster.crash(other)
    del cluster.down[other]
    cluster.run(1.0)

    def rule(sender: int, receiver: int, message: Message) -> float | None:
        return None if isinstance(message, Repair) else FAST

    cluster.rules.append(rule)
    node.log.rot = rot_at(7)
    node.log.on_rot()
    cluster.run(5.0)
    assert node.log.lost is None and node.group.is_trusted, "nobody let it go"


def test_a_leader_whose_process_has_ended_while_it_sent_much_is_replaced_at_once() -> None:
    cluster = Cluster(3, timing=TIMING, seed=1)
    leader = cluster.elect()
    cluster.run(1.0)
    others = [b for b in (1, 2, 3) if b != leader]
    for b in others:
        cluster[b].driver.hear_bytes(BrokerId(leader), cluster.now)
    cluster.crash(leader)
    for b in others:
        cluster[b].driver.peer_is_gone(BrokerId(leader), cluster.now)
    cluster.run_until(lambda: cluster.leader is not None, within=0.5)


def test_a_leader_that_lost_its_log_is_replaced_although_its_process_sends_much() -> None:
    cluster = Cluster(3, timing=TIMING)
    leader = cluster.elect()
    cluster.commit(b"before", broker=leader)
    cluster.run(1.0)
    others = [b for b in (1, 2, 3) if b != leader]

    def stream() -> None:
        """Of other groups."""
        for b in others:
            cluster[b].driver.hear_bytes(BrokerId(leader), cluster.now)
        cluster.at(cluster.now + 0.1, stream)

    stream()
    cluster[leader].log.damage.lost = "a test says so"
    cluster.run_until(lambda: cluster.leader not in (None, leader), within=60.0)


def who_needs_a_snapshot() -> tuple[Cluster, int, int]:
    """A group, its leader, and a follower that is away and lacks what the leader's log begins behind."""
    cluster = Cluster(3)
    leader = cluster.elect()
    behind = leader % 3 + 1
    cluster.crash(behind)
    for number in range(9):
        cluster.commit(b"%d" % number, broker=leader)
    cluster.run(1.0)
    cluster[leader].log.drop_before(cluster[leader].log.commit_index, b"state")
    return cluster, leader, behind


def test_a_snapshot_that_is_under_way_is_not_sent_again() -> None:
    cluster, _, emptied = who_needs_a_snapshot()
    cluster.rules.append(lambda sender, receiver, message: 4.0 if isinstance(message, Snapshot) else FAST)
    node = cluster.wipe(emptied)
    cluster.sent.clear()
    cluster.run_until(lambda: node.log.first_index > 1)
    sent = [at for at, _, _, message in cluster.sent if isinstance(message, Snapshot)]
    assert len(sent) == 1, sent


def test_a_snapshot_is_taken_by_who_had_not_heard_its_leader_for_a_moment() -> None:
    """The link stands still while a snapshot is on it. The emptied follower asks for votes, hears the same
    leader again, and must not throw away what that leader has sent it."""
    cluster, leader, emptied = who_needs_a_snapshot()
    goes_on_at: list[float] = []

    def rule(sender: int, receiver: int, message: Message) -> float | None:
        if (sender, receiver) != (leader, emptied):
            return FAST
        if isinstance(message, Snapshot) and not goes_on_at:
            goes_on_at.append(cluster.now + 2.5)
        return max(goes_on_at[0] - cluster.now, FAST) if goes_on_at else FAST

    cluster.rules.append(rule)
    node = cluster.wipe(emptied)
    cluster.run_until(lambda: bool(goes_on_at))
    cluster.run_until(lambda: node.log.first_index > 1, within=3.0)


def test_what_is_applied_next_is_looked_at_again_when_other_damage_is_gone() -> None:
    """A scrub has found one damaged entry, and another one is to be applied. Retention drops the first."""

    cluster = Cluster(3)
    leader = cluster.elect()
    for number in range(9):
        cluster.commit(b"%d" % number, broker=leader)
    cluster.run(1.0)
    node = cluster[leader % 3 + 1]
    applying = node.group.turning.replica.parts.applying
    read, damaged = node.log.read, {8}

    def reads(from_index: RaftIndex, max_bytes: int, max_count: int):  # type: ignore[no-untyped-def]
        if from_index in damaged and max_count > 1:  # as LogDamage.reading does
            if node.log.rot is None:
                node.log.rot = rot_at(from_index)
                node.log.on_rot()
            raise DamagedLog("a test says so")
        return read(from_index, max_bytes, max_count)

    node.log.rot = rot_at(2)
    node.log.on_rot()
    for other in cluster.brokers.values():
        other.log.drop_before(RaftIndex(4), b"") if other is not node else None
    node.log.read = reads  # type: ignore[method-assign]
    applying.restart(RaftIndex(7))
    node.machine.applied_index = RaftIndex(7)
    node.group.turning.wake()
    cluster.run_until(lambda: applying.is_stuck, within=1.0)
    # as LogDamage.forget_to does
    node.log.rot = None
    node.log.on_rot()
    cluster.run(2.0)
    node.log.repair = lambda entries: (damaged.clear(), setattr(node.log, "rot", None))  # type: ignore[method-assign]
    cluster.run(30.0)
    assert applying.index == node.log.commit_index


def test_a_heartbeat_that_lay_unread_when_the_leaders_process_ended_delays_no_election() -> None:
    cluster = Cluster(3, timing=TIMING, seed=1)
    leader = cluster.elect()
    cluster.run(1.0)
    others = [b for b in (1, 2, 3) if b != leader]
    cluster.crash(leader)
    for b in others:
        node = cluster[b]
        sent = [m for _, s, r, m in cluster.sent if (s, r) == (leader, b) and isinstance(m, Heartbeat)]
        node.driver.receive(BrokerId(leader), sent[-1:])
        node.driver.peer_is_gone(BrokerId(leader), cluster.now)
    cluster.run_until(lambda: cluster.leader is not None, within=0.5)
