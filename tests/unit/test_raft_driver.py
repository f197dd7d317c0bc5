"""The driver with many groups: what a turn does for whom, in which order, and what idle groups cost."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from raftlog.errors import DiskFailed
from raftlog.raft.driver import TURN_COST_MAX, TURN_STEPS_MAX, Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.inbox import INBOX_BYTES_MAX, INBOX_MESSAGES_MAX, PART_COST_MAX, PART_MESSAGES
from raftlog.raft.messages import (
    Addressed,
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVote,
    VoteReply,
    payload_size,
)
from raftlog.raft.progress import (
    APPEND_BYTES_MAX,
    CATCH_UP_BYTES_MAX,
    CATCH_UP_TURN_BYTES,
    PeerWindow,
    Progress,
)
from raftlog.raft.values import Outcome, RaftTiming
from raftlog.storage.entry import Entry, EntryKind
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, Offset, RaftIndex, Term
from tests.unit.raft_cluster import KEY, Cluster, Machine
from tests.unit.raft_store import MemoryStore, MemoryTicket, broker

TIMING = RaftTiming(heartbeat=0.1, election_min=1.0, election_max=2.0)


def key(number: int) -> GroupKey:
    return GroupKey(number.to_bytes(20, "big"))


class Fleet:
    """Three brokers that share many groups; a message takes no time."""

    def __init__(self, groups: int, *, metadata: bool = False) -> None:
        self.now = 0.0
        self.frames: list[tuple[int, int, Sequence[Message]]] = []
        self.away: set[int] = set()
        self.stores = {b: MemoryStore() for b in (1, 2, 3)}
        self.drivers: dict[int, Driver] = {}
        for number, store in self.stores.items():
            driver = self.drivers[number] = Driver(store, send=self._sender(number))  # type: ignore[arg-type]
            for group in range(groups + metadata):
                group_key = METADATA_GROUP if group == groups else key(group)
                log = store.create_log(group_key)
                raft = RaftGroup(
                    group_key,
                    broker(number),
                    log,  # type: ignore[arg-type]
                    frozenset(map(BrokerId, (1, 2, 3))),
                    timing=TIMING,
                    rng=random.Random(group * 10 + number),
                    now=0.0,
                    preferred=number == group % 3 + 1,
                )
                driver.add(raft, Machine(log))

    def _sender(self, number: int) -> object:
        def send(to: BrokerId, messages: Sequence[Message]) -> None:
            if number in self.away or to in self.away:
                return
            self.frames.append((number, to, messages))
            self.drivers[to].receive(BrokerId(number), messages)

        return send

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            busy = [d for d in self.drivers.values() if d.has_work or d.next_deadline <= self.now]
            for driver in busy:
                driver.turn(self.now)
            if not busy:
                self.now = min(d.next_deadline for d in self.drivers.values())
                if self.now >= end:
                    self.now = end
                    return


def test_heartbeats_of_all_groups_to_a_peer_share_a_message() -> None:
    fleet = Fleet(60)
    fleet.run(1.05)
    assert all(sum(g.is_ready for g in d.groups.values()) == 20 for d in fleet.drivers.values())
    fleet.frames.clear()
    turns = sum(d.turns for d in fleet.drivers.values())
    fleet.run(1.0)
    beats = [f for f in fleet.frames if any(isinstance(m, Heartbeat) for m in f[2])]
    assert len(beats) == 3 * 2 * 10, "one message a peer and period"
    assert all(len([m for m in f[2] if isinstance(m, Heartbeat)]) == 20 for f in beats)
    assert sum(d.turns for d in fleet.drivers.values()) - turns <= 3 * 10 * 4


def test_a_group_that_was_written_to_is_left_alone_while_others_write() -> None:
    """A turn costs what it does, not what was done before it."""
    fleet = Fleet(60)
    fleet.run(1.05)
    driver = next(d for d in fleet.drivers.values() if d.groups[key(0)].is_leader)
    for at in fleet.drivers.values():
        for group in at.groups.values():
            if group.is_leader:
                group.leading.propose(EntryKind.BATCH, b"once", 1, lambda outcome, entry: None)
    fleet.run(0.5)
    handled: list[int] = []
    finish = Driver.finish

    def count(self: Driver, now: float) -> None:
        handled.append(len(self._active))
        finish(self, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Driver, "finish", count)
        for _ in range(20):  # a turn of everybody each time, so that something is written in most
            driver.groups[key(0)].leading.propose(EntryKind.BATCH, b"again", 1, lambda outcome, entry: None)
            fleet.run(0.001)
    assert len(handled) >= 40
    assert max(handled) <= 2


def test_the_elections_of_many_groups_share_syncs() -> None:
    fleet = Fleet(60)
    fleet.run(1.0)
    assert all(s.syncs <= 12 for s in fleet.stores.values())


def test_the_heap_of_deadlines_does_not_grow() -> None:
    fleet = Fleet(30)
    fleet.run(1.0)
    sizes = [len(d._heap) for d in fleet.drivers.values()]
    fleet.run(20.0)
    assert all(
        len(d._heap) <= max(30 * 2, size) for d, size in zip(fleet.drivers.values(), sizes, strict=True)
    )


def test_groups_hold_no_descriptors() -> None:
    before = len(os.listdir("/proc/self/fd"))
    fleet = Fleet(100)
    fleet.run(0.2)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_but_a_leaders_messages_leaves_before_the_sync() -> None:
    """The order of the turn: appends before the sync, acks behind it, answers last."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    node = cluster[leader]
    order: list[str] = []
    node.driver._send = lambda to, messages: order.append(f"send {type(messages[0]).__name__}")

    class Ticket(MemoryTicket):
        def sync(self) -> None:
            order.append("sync")
            super().sync()

    node.store.write = lambda: (setattr(node.store, "has_pending", False), Ticket(node.store))[1]  # type: ignore[method-assign]
    node.group.leading.propose(EntryKind.BATCH, b"x", 1, lambda outcome, entry: order.append(outcome.value))
    node.driver.turn(cluster.now)
    assert order == ["send Append", "send Append", "sync"]
    ack = AppendReply(KEY, node.group.term, node.log.last_index)
    apply = node.machine.apply
    node.machine.apply = lambda entries, now: (order.append("apply"), apply(entries, now))[1]  # type: ignore[method-assign,func-returns-value]
    node.driver.receive(BrokerId(leader % 3 + 1), [ack])
    node.driver.turn(cluster.now)
    assert order == ["send Append", "send Append", "sync", "apply", "committed"]


def test_a_followers_ack_waits_for_its_sync_and_its_heartbeats_do_not() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    slow = leader % 3 + 1
    cluster.sync_time = lambda b: 1.0 if b == slow else 0.0
    proposal = cluster.propose(leader, b"x")
    cluster.run(0.05)
    cluster.sent.clear()
    cluster.run(0.6)
    said = [m for _, s, _, m in cluster.sent if s == slow]
    replies = [m for m in said if isinstance(m, HeartbeatReply)]
    assert len(replies) >= 5
    assert all(m.match_index < proposal.entry.index for m in replies)
    assert not any(isinstance(m, AppendReply) for m in said)
    cluster.run(1.0)
    assert cluster[slow].log.commit_index == proposal.entry.index


def test_a_leader_whose_disk_stalls_hands_over_and_the_group_goes_on() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    cluster.sync_time = lambda b: 60.0 if b == leader else 0.0
    stuck = cluster.propose(leader, b"stuck")
    cluster.run(0.3)
    assert stuck.outcome is None
    assert cluster[leader].driver.yield_leadership(cluster.now) == 1
    new = cluster.run_until_other_leader(leader)
    assert stuck.outcome is Outcome.MAY_STILL_HAPPEN
    cluster.commit(b"goes on", broker=new)
    assert b"stuck" in cluster[new].machine.applied.values()


def test_a_leader_whose_disk_stalls_hands_over_to_a_broker_that_serves_clients() -> None:
    """A broker that has not joined again yet votes and leads, and every client of it is turned away."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    cluster.sync_time = lambda b: 60.0 if b == leader else 0.0
    cluster.propose(leader, b"stuck")
    cluster.run(0.3)
    driver, other = cluster[leader].driver, BrokerId(leader % 3 + 1)
    driver.may_take_over = list
    assert driver.yield_leadership(cluster.now) == 0
    driver.may_take_over = lambda: [other]
    assert driver.yield_leadership(cluster.now) == 1
    assert cluster.run_until_other_leader(leader) == other


def test_a_leader_keeps_what_others_have_no_more_of_on_their_disks() -> None:
    """All brokers of a machine share its disk: where it stalls for all, leaderships went round and round."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    driver = cluster[leader].driver
    assert driver.yield_leadership(cluster.now) == 0, "nothing waits for a disk"
    cluster.sync_time = lambda b: 60.0
    cluster.propose(leader, b"stuck")
    cluster.run(0.3)
    assert driver.yield_leadership(cluster.now) == 0, "no disk is better off"


def test_nobody_yields_to_nobody() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    for other in (b for b in (1, 2, 3) if b != leader):
        cluster.crash(other)
    cluster.run(0.9)
    cluster.now += 0.5
    assert cluster[leader].driver.yield_leadership(cluster.now) == 0


def test_messages_for_groups_that_are_not_here_are_ignored() -> None:
    cluster = Cluster(1)
    cluster.elect()
    stranger = Heartbeat(key(99), Term(1), RaftIndex(0), 1)
    cluster[1].driver.receive(BrokerId(2), [stranger])
    cluster[1].driver.turn(cluster.now)
    assert cluster[1].group.is_leader


def test_the_inbox_is_bounded() -> None:
    cluster = Cluster(1)
    driver = cluster[1].driver
    beat = [Heartbeat(key(99), Term(1), RaftIndex(0), 1)] * 1000
    for _ in range(INBOX_MESSAGES_MAX // 1000 + 5):
        driver.receive(BrokerId(2), beat)
    assert driver._inbox.messages <= INBOX_MESSAGES_MAX
    assert driver.statistics()["dropped_messages"] == 5000


def test_a_turn_takes_a_bounded_part_of_one_long_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame may hold the first commit of each of a thousand partitions, and each makes a folder and a file:
    the turn took so long that leaders missed their majority and followers their leaders."""
    cluster = Cluster(1)
    driver, group = cluster[1].driver, cluster[1].group
    stepped: list[int] = []
    monkeypatch.setattr(group.turning, "step", lambda sender, message, now: stepped.append(message.term))
    driver.receive(BrokerId(2), [VoteReply(KEY, Term(number), False) for number in range(1000)])
    while driver.has_work:
        before = len(stepped)
        driver.turn(cluster.now)
        assert len(stepped) - before <= TURN_STEPS_MAX + PART_MESSAGES
    assert stepped == list(range(1000))
    assert driver._inbox.messages == driver._inbox.bytes == 0


def test_a_turn_takes_a_bounded_part_of_the_bytes_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that comes back is sent megabytes for each of many groups."""
    cluster = Cluster(1)
    driver, group = cluster[1].driver, cluster[1].group
    stepped: list[int] = []
    monkeypatch.setattr(
        group.turning, "step", lambda sender, message, now: stepped.append(message.prev_index)
    )
    entry = Entry(RaftIndex(1), Term(1), EntryKind.BATCH, bytes(600 << 10), Offset(0), Offset(1))
    numbers = list(range(40))
    appends = [Append(KEY, Term(1), RaftIndex(n), Term(0), RaftIndex(0), [entry]) for n in numbers]
    driver.receive(BrokerId(2), [VoteReply(key(9), Term(1), False), *appends])
    turns = 0
    while driver.has_work:
        before = len(stepped)
        driver.turn(cluster.now)
        assert (len(stepped) - before) * len(entry.payload) < TURN_COST_MAX + PART_COST_MAX
        turns += 1
    assert stepped == numbers
    assert turns >= 40 * len(entry.payload) // (TURN_COST_MAX + PART_COST_MAX)
    assert driver._inbox.messages == driver._inbox.bytes == 0


def test_a_leader_reads_a_bounded_part_of_what_followers_lack_in_a_turn() -> None:
    """What is under way to a broker may be megabytes; a turn that reads them all at once takes too long."""
    fleet = Fleet(30)
    fleet.run(1.05)
    fleet.away = {3}
    fleet.run(3.0)
    for driver in fleet.drivers.values():
        for group in driver.groups.values():
            if group.is_leader:
                group.leading.propose(EntryKind.BATCH, bytes(1 << 20), 1, lambda outcome, entry: None)
    fleet.run(0.5)
    fleet.away = set()
    sent: dict[tuple[int, int], int] = {}
    send_all = Driver._send_all

    def count(self: Driver, outbox: list[Addressed]) -> None:
        turn = (id(self), self.turns)
        for to, message in outbox:
            if to == 3 and isinstance(message, Append):
                sent[turn] = sent.get(turn, 0) + payload_size(message)
        send_all(self, outbox)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Driver, "_send_all", count)
        fleet.run(3.0)
    assert sum(sent.values()) >= 20 << 20
    assert max(sent.values()) < CATCH_UP_TURN_BYTES + APPEND_BYTES_MAX
    logs = [store.logs for store in fleet.stores.values()]
    assert all(len({log[key(number)].last_index for log in logs}) == 1 for number in range(30))


def test_a_leader_waits_a_second_for_answers_that_are_here_and_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that is behind with its inbox gave up the groups whose followers had answered."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    driver, group = cluster[leader].driver, cluster[leader].group
    monkeypatch.setattr("raftlog.raft.driver.TURN_STEPS_MAX", 1)
    monkeypatch.setattr("raftlog.raft.inbox.PART_MESSAGES", 1)
    driver.receive(BrokerId(leader % 3 + 1), [VoteReply(KEY, group.term, False)] * 1000)
    for step in range(1, 18):
        driver.turn(cluster.now + step / 10)
        assert group.is_leader
    for step in range(18, 40):
        driver.turn(cluster.now + step / 10)
    assert driver._inbox.has_parts and not group.is_leader


def test_a_stalled_disk_takes_a_bounded_amount_of_appends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftlog.raft.driver.WAITING_BYTES_MAX", 10_000)
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    slow = leader % 3 + 1
    cluster.sync_time = lambda b: 3.0 if b == slow else 0.0
    for _ in range(100):
        cluster.propose(leader, bytes(1000))
        cluster.run(0.002)
    log = cluster[slow].log
    assert log.last_index - log.entries.synced_index <= 12
    assert cluster[slow].driver.dropped_messages > 0
    cluster.sync_time = lambda b: 0.0
    cluster.converge()


def test_a_group_that_is_removed_answers_its_proposals_and_is_forgotten() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.isolate(leader)
    proposal = cluster.propose(leader, b"x")
    cluster.turn(cluster[leader])
    cluster[leader].driver.remove(KEY)
    cluster[leader].driver.turn(cluster.now)
    assert proposal.outcome is Outcome.MAY_STILL_HAPPEN
    assert cluster[leader].driver.groups == {}
    cluster[leader].driver.turn(cluster.now + 100)


def test_a_failed_sync_answers_nothing_as_committed() -> None:
    cluster = Cluster(1)
    cluster.elect()
    cluster[1].store.fails = True
    proposal = cluster.propose(1, b"x")
    with pytest.raises(DiskFailed):
        cluster[1].driver.turn(cluster.now)
    assert proposal.outcome is None
    cluster[1].driver.abandon()
    assert proposal.outcome is Outcome.MAY_STILL_HAPPEN
    assert cluster[1].log.commit_index < proposal.entry.index


def test_everyone_is_answered_also_when_the_log_can_no_longer_be_touched() -> None:
    cluster = Cluster(1)
    cluster.elect()
    node = cluster[1]
    proposal = cluster.propose(1, b"x")

    def fail(index: RaftIndex) -> None:
        raise DiskFailed("the test's disk failed")

    node.log.truncate_from = fail  # type: ignore[method-assign]
    node.driver.abandon()
    assert proposal.outcome is Outcome.WILL_NOT_HAPPEN


def test_a_proposal_made_while_answering_one_is_taken_up() -> None:
    cluster = Cluster(1)
    cluster.elect()
    node = cluster[1]
    outcomes: list[Outcome] = []

    def again(outcome: Outcome, entry: object) -> None:
        outcomes.append(outcome)
        if len(outcomes) < 5:
            node.group.leading.propose(EntryKind.BATCH, b"x", 1, again)

    node.group.leading.propose(EntryKind.BATCH, b"x", 1, again)
    cluster.run(0.01)
    assert outcomes == [Outcome.COMMITTED] * 5


def test_appends_carry_entries_and_no_copies_of_them() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    payload = b"the very object"
    cluster.propose(leader, payload)
    cluster.run(0.01)
    carried = [e.payload for _, _, _, m in cluster.sent if isinstance(m, Append) for e in m.entries]
    assert [p for p in carried if p == payload]
    assert all(p is payload for p in carried if p == payload)


def test_part_of_a_frame_is_a_sign_of_life_for_a_follower_and_for_a_leader() -> None:
    """A leader that sends something large is not silent, and a follower that does is not gone."""
    cluster = Cluster(3)
    leader = cluster.elect()
    term = cluster[leader].group.term
    others = [number for number in (1, 2, 3) if number != leader]
    cluster.cut([leader], others)
    end = cluster.now + 5.0
    while cluster.now < end:
        for number in others:
            cluster[number].driver.hear_bytes(broker(leader), cluster.now)
            cluster[leader].driver.hear_bytes(broker(number), cluster.now)
        cluster.run(0.3)
    assert cluster.leader == leader
    assert all(node.group.term == term for node in cluster.brokers.values())
    cluster.run(3.0)  # it has fallen silent
    assert not cluster[leader].group.is_leader


def test_a_large_entry_is_not_sent_again_with_every_heartbeat_while_it_is_under_way() -> None:
    """To a follower of which nothing is known yet, what goes out again and again is a small probe."""
    cluster = Cluster(3)
    leader = cluster.elect()
    other = next(number for number in (1, 2, 3) if number != leader)
    cluster.run(0.5)
    cluster.crash(other)
    cluster.commit(bytes(1 << 20), broker=leader)
    cluster.restart(other)
    cluster.rules.append(lambda sender, receiver, message: 0.3)  # an answer takes six heartbeats
    cluster.sent.clear()
    cluster.run(6.0)
    sent = [m for _, _, to, m in cluster.sent if to == other and isinstance(m, Append)]
    assert sum(len(entry.payload) for m in sent for entry in m.entries) <= 2 << 20
    assert cluster[other].log.commit_index == cluster[leader].log.commit_index


def test_a_broker_that_comes_back_is_sent_a_bounded_part_of_all_its_groups_at_a_time() -> None:
    """Each group's window is 16 MiB: of sixty that would be a gigabyte at once."""
    fleet = Fleet(60)
    fleet.run(1.05)
    fleet.away = {3}
    fleet.run(3.0)
    done: list[Outcome] = []
    for _ in range(5):
        for driver in fleet.drivers.values():
            for group in driver.groups.values():
                if group.is_leader:
                    group.leading.propose(
                        EntryKind.BATCH, bytes(1 << 20), 1, lambda outcome, entry: done.append(outcome)
                    )
        fleet.run(0.2)
    assert len(done) == 300
    fleet.frames.clear()
    fleet.away = set()
    fleet.run(3.0)
    logs = [store.logs for store in fleet.stores.values()]
    for number in range(60):
        assert len({log[key(number)].last_index for log in logs}) == 1
    sizes = [sum(map(payload_size, messages)) for _, to, messages in fleet.frames if to == 3]
    assert sum(sizes) >= 300 << 20
    assert max(sizes) <= 9 << 20
    assert all(window.bytes_under_way == 0 for d in fleet.drivers.values() for window in d._windows.values())


def test_new_entries_pass_those_that_a_follower_lacks() -> None:
    window, behind, live = PeerWindow(), Progress(BrokerId(3)), Progress(BrokerId(3))
    woken: list[Progress] = []
    for follower in (behind, live):
        follower.share(window, lambda follower=follower: woken.append(follower))  # type: ignore[misc]
    size = 0
    while window.may_send(behind, is_committed=True):
        size += APPEND_BYTES_MAX
        behind.sent(size, APPEND_BYTES_MAX)
        window.begin_turn()
    assert size == CATCH_UP_BYTES_MAX
    assert window.may_send(live, is_committed=False)
    assert not window.may_send(live, is_committed=True), "it waits behind the other"
    behind.acked(2 * APPEND_BYTES_MAX)
    assert woken == [behind, live]
    assert window.may_send(live, is_committed=True)


def test_bytes_that_wait_for_a_turn_are_bounded() -> None:
    driver = Driver(MemoryStore(), send=lambda to, messages: None)  # type: ignore[arg-type]
    entry = Entry(RaftIndex(1), Term(1), EntryKind.BATCH, bytes(8 << 20), Offset(0), Offset(1))
    append = Append(KEY, Term(1), RaftIndex(0), Term(0), RaftIndex(0), [entry])
    for _ in range(40):
        driver.receive(BrokerId(2), [append])
    assert driver._inbox.bytes <= INBOX_BYTES_MAX
    assert driver.dropped_messages == 40 - INBOX_BYTES_MAX // (8 << 20)


def test_who_was_stopped_reads_what_came_before_it_calls_an_election() -> None:
    """A follower that was not run for ten seconds was silent itself."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    stopped = next(number for number in (1, 2, 3) if number != leader)
    node = cluster.brokers.pop(stopped)
    cluster.run(10.0)
    cluster.sent.clear()
    node.driver.turn(cluster.now)
    assert not [m for _, sender, _, m in cluster.sent if sender == stopped and isinstance(m, PreVote)]
    cluster.now += 3.0  # and heard nobody in a while of its own
    node.driver.turn(cluster.now)
    assert [m for _, sender, _, m in cluster.sent if sender == stopped and isinstance(m, PreVote)]


def test_a_leader_that_was_stopped_asks_before_it_steps_down() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    node = cluster[leader]
    cluster.now += 10.0
    node.driver.turn(cluster.now)
    assert node.group.is_leader
    cluster.now += 0.3
    node.driver.turn(cluster.now)
    assert not node.group.is_leader, "nobody answered"


def test_the_metadata_group_is_served_before_all_that_wait() -> None:
    """A turn takes a bounded number of messages, and the metadata group's before them."""
    fleet = Fleet(60, metadata=True)
    fleet.run(2.0)
    driver = next(d for d in fleet.drivers.values() if d.groups[METADATA_GROUP].is_leader)
    metadata = driver.groups[METADATA_GROUP]
    fleet.away = set(range(10, 60))
    for number in range(50):
        keys = [k for k in driver.groups if k != METADATA_GROUP]
        messages = [PreVote(k, Term(1), RaftIndex(0), Term(0), False) for k in keys]
        driver.receive(BrokerId(number + 10), messages)
    entry = metadata.leading.propose(EntryKind.BATCH, b"command", 1, lambda outcome, entry: None)
    assert isinstance(entry, Entry)
    driver.turn(fleet.now)
    assert driver._inbox.has_parts, "more than one turn's"
    for sender in (1, 2, 3):
        if driver is not fleet.drivers[sender]:
            reply = AppendReply(METADATA_GROUP, metadata.term, entry.index)
            driver.receive(BrokerId(sender), [reply])
    driver.turn(fleet.now)
    assert driver._inbox.has_parts
    assert metadata.commit_index == entry.index


def test_elections_that_fail_are_called_less_often() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.crash(leader)
    cluster.rules.append(lambda *sent: None if isinstance(sent[2], VoteReply) else 0.001)
    cluster.run(200.0)
    terms = max(node.group.term for node in cluster.brokers.values())
    assert 20 <= terms <= 120, "as often as the time-outs allow: about 150"
    cluster.heal()
    cluster.run(5.0)
    assert cluster.leader is not None


def test_a_removed_groups_proposals_end_also_when_no_turn_comes_any_more() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(0.5)
    proposal = cluster.propose(leader, b"payload")
    driver = cluster[leader].driver
    driver.remove(KEY)
    assert proposal.outcome is None
    driver.abandon()
    assert proposal.outcome is Outcome.WILL_NOT_HAPPEN


def test_a_heartbeat_brings_a_deadline_forward_that_had_grown() -> None:
    """Found by the simulator (seed 20001, network): a follower's deadline was far off after elections that
    failed, an idle leader's heartbeat brought it back, and no turn came for it."""
    fleet = Fleet(1)
    fleet.run(5.0)
    (leader,) = [number for number, driver in fleet.drivers.items() if driver.groups[key(0)].is_leader]
    follower = next(number for number in fleet.drivers if number != leader)
    driver = fleet.drivers[follower]
    group = driver.groups[key(0)]
    group.turning.replica.parts.engine.failed_elections = 6
    group.turning.replica.parts.elections.postpone(fleet.now)
    member = driver._members[key(0)]
    member.scheduled_at = group.turning.next_deadline
    driver._heap = [(group.turning.next_deadline, 0, member)]
    grown = driver.next_deadline
    fleet.run(0.5)
    assert group.leader == leader and group.turning.next_deadline < grown
    assert driver.next_deadline <= group.turning.next_deadline
