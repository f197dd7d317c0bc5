"""Bytes that are not what was written, in a group: never passed on, repaired from whoever has them."""

from __future__ import annotations

import itertools
import logging

import pytest

from raftlog.errors import DamagedLog
from raftlog.raft.messages import Append, Message
from raftlog.storage.entry import Entry
from raftlog.types import BrokerId, RaftIndex
from tests.sim.raft_disk_store import DiskStore, batch_of, compact
from tests.unit.raft_cluster import Cluster


def new_cluster(size: int = 3) -> Cluster:
    disks = itertools.count(1)
    return Cluster(size, new_store=lambda broker: DiskStore(next(disks)), encode=batch_of, eager_commit=True)


def test_a_follower_takes_nothing_whose_bytes_are_not_those_of_its_checksum() -> None:
    """The leader's memory, or what is between the two, may be at fault: it counts as lost on the way."""
    cluster = new_cluster()
    leader = cluster.elect()
    spoilt: list[Message] = []
    deliver = cluster.deliver

    def spoil(sender: int, receiver: int, message: Message) -> None:
        is_full = isinstance(message, Append) and any(entry.payload for entry in message.entries)
        if isinstance(message, Append) and is_full and receiver != leader and len(spoilt) < 4:
            (*others, entry) = message.entries
            payload = bytearray(entry.payload)
            payload[-1] ^= 1
            message = message._replace(entries=[*others, entry._replace(payload=bytes(payload))])
            spoilt.append(message)
        deliver(sender, receiver, message)

    cluster.deliver = spoil  # type: ignore[method-assign]
    cluster.commit(b"first")
    cluster.converge()
    assert len(spoilt) == 4
    cluster.check_all()
    assert all(cluster[BrokerId(number)].log.damage.lost is None for number in (1, 2, 3))


def flip(cluster: Cluster, broker: int, entry: Entry, byte: int = -1) -> None:
    """Turn over a bit of the batch `entry` in the broker's segments."""
    disk = cluster[broker].store.disk
    for path in disk.files("/data"):
        at = disk.content(path).find(bytes(entry.payload))
        if path.endswith(".log") and at >= 0:
            disk.flip_bit(path, 8 * (at + (len(entry.payload) + byte if byte < 0 else byte)))
            return
    raise AssertionError(f"entry {entry.index} is in no segment of broker {broker}")


def with_history(count: int = 40) -> tuple[Cluster, list[Entry]]:
    """Entries that are on all disks, and in nobody's memory."""
    cluster = new_cluster()
    entries = [cluster.commit(b"v%d" % number).entry for number in range(count)]
    cluster.converge()
    for broker in cluster.brokers.values():
        broker.log.entries.forget_to(broker.log.commit_index)
    return cluster, entries


def read_all(cluster: Cluster, broker: int) -> None:
    log = cluster[broker].log
    index = log.first_index
    while index <= log.commit_index:
        try:
            index = RaftIndex(log.entries.read(index, 1, 1)[-1].index + 1)
        except DamagedLog:
            return


def test_one_flipped_bit_and_one_emptied_disk_leave_a_group_that_elects_and_heals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The bit turns over on the disk of broker 3, which leads when broker 1's has been emptied, and finds it
    when it has to fill that. Broker 2 is whole, and needs a vote."""
    cluster, entries = with_history()
    cluster.elect(3)
    flip(cluster, 3, entries[3])
    cluster.wipe(1)
    cluster.run_until(lambda: "is damaged" in caplog.text)
    cluster.run_until(lambda: all(b.group.is_trusted for b in cluster.brokers.values()))
    cluster.converge()
    cluster.run_until(lambda: cluster[3].log.damage.rot is None)
    cluster.check_all()
    cluster.commit(b"after")


def test_a_replica_with_damaged_bytes_votes_for_the_one_that_is_whole() -> None:
    """The one that is emptied stays away: the other two are a majority, and nobody else can repair."""
    cluster, entries = with_history()
    flip(cluster, 3, entries[3])
    read_all(cluster, 3)
    assert cluster[3].log.damage.rot is not None
    cluster.crash(1)
    cluster.run_until(lambda: cluster.leader == 2 and cluster[2].group.is_ready)
    cluster.run_until(lambda: cluster[3].log.damage.rot is None)
    cluster.check_all()


def test_it_is_repaired_without_a_leader_by_one_that_may_not_lead_itself() -> None:
    """Each has damage where the other is whole; the third is down."""
    cluster, entries = with_history()
    flip(cluster, 2, entries[5])
    flip(cluster, 3, entries[20])
    for broker in (2, 3):
        read_all(cluster, broker)
    cluster.crash(1)
    cluster.run_until(lambda: all(cluster[broker].log.damage.rot is None for broker in (2, 3)))
    cluster.commit(b"after")
    cluster.check_all()


@pytest.mark.parametrize("byte", [0, 8, 12, 16, 17, 21, -1])
def test_damage_anywhere_in_a_batch_is_repaired_where_it_lies(byte: int) -> None:
    """Its offset, its length, its epoch, its magic, its checksum, its records."""
    cluster, entries = with_history()
    follower = next(number for number in (1, 2, 3) if number != cluster.leader)
    for entry in entries[7:11]:
        flip(cluster, follower, entry, byte)
    flip(cluster, follower, entries[30], byte)
    read_all(cluster, follower)
    assert cluster[follower].log.damage.rot is not None
    while cluster[follower].log.damage.rot is not None:
        cluster.run_until(lambda: cluster[follower].log.damage.rot is None)
        read_all(cluster, follower)
    assert cluster[follower].log.damage.lost is None and cluster[follower].group.is_trusted
    cluster.check_all()
    cluster.crash(follower)
    cluster.restart(follower)
    cluster.converge()
    cluster.check_all()


@pytest.mark.parametrize("size", [None, 0, 300])
def test_a_segment_that_is_missing_or_short_is_filled_and_costs_no_vote(size: int | None) -> None:
    cluster, _ = with_history()
    cluster.crash(3)
    disk = cluster.down[3].store.disk
    for path in [path for path in disk.files("/data/group-0") if path.endswith(".log")]:
        if size is None:
            disk.unlink(path)
            disk.sync_dir("/data/group-0")
        else:
            disk.cut(path, size)
    cluster.restart(3)
    assert cluster[3].log.damage.lost is None and cluster[3].group.is_trusted
    read_all(cluster, 3)
    while cluster[3].log.damage.rot is not None:
        cluster.run_until(lambda: cluster[3].log.damage.rot is None)
        read_all(cluster, 3)
    cluster.converge()
    cluster.check_all()


def test_a_leader_that_finds_damage_leads_no_more_until_it_is_repaired() -> None:
    cluster, entries = with_history()
    leader = cluster.elect()
    flip(cluster, leader, entries[3])
    read_all(cluster, leader)
    for other in {1, 2, 3} - {leader}:
        cluster.cut([leader], [other])
    cluster.run(10.0)
    assert cluster.leader not in (None, leader)
    assert cluster[leader].log.damage.rot is not None and not cluster[leader].group.is_leader
    cluster.heal()
    cluster.converge()
    cluster.run_until(lambda: cluster[leader].log.damage.rot is None)
    cluster.elect(leader)
    cluster.check_all()


def test_who_lacks_what_nobody_has_any_more_is_filled_anew_when_it_can_be_done_without() -> None:
    """The logs of the others begin behind the damaged entry: they hold a snapshot instead."""
    cluster, entries = with_history()
    leader = cluster.elect()
    victim = next(number for number in (1, 2, 3) if number != leader)
    third = ({1, 2, 3} - {leader, victim}).pop()
    cluster.crash(victim)
    cluster.restart(victim)
    cluster.crash(third)
    cluster.run(1.0)
    flip(cluster, victim, entries[5])
    compact(cluster[leader].log, RaftIndex(entries[-1].index))
    read_all(cluster, victim)
    cluster.run(5.0)
    assert cluster[victim].log.damage.rot is not None and cluster[victim].group.is_trusted
    cluster.restart(third)
    cluster.converge()
    compact(cluster[third].log, RaftIndex(entries[-1].index))
    cluster.run_until(lambda: cluster[victim].log.damage.problem is None)
    cluster.converge()
    cluster.run_until(lambda: cluster[victim].group.is_trusted)
    assert cluster[victim].log.first_index > entries[5].index
    cluster.check_all()


def test_who_is_alone_goes_on_without_what_is_damaged(caplog: pytest.LogCaptureFixture) -> None:
    cluster = new_cluster(1)
    entries = [cluster.commit(b"v%d" % number).entry for number in range(40)]
    cluster[1].log.entries.forget_to(cluster[1].log.commit_index)
    flip(cluster, 1, entries[3])
    read_all(cluster, 1)
    with caplog.at_level(logging.ERROR):
        cluster.commit(b"after")
        cluster[1].group.turning.tick(cluster.now)
    assert cluster[1].group.is_leader and "no replica to repair it from" in caplog.text
