"""A replica whose log was filled with a copy: when the replica begins to use the copy, and whether it votes
before."""

from __future__ import annotations

import random

import pytest

from raftlog.raft.group import RaftGroup
from raftlog.raft.messages import (
    AppendReply,
    Filled,
    Heartbeat,
    Message,
    PreVote,
    PreVoteReply,
    Rejoin,
    Welcome,
)
from raftlog.raft.values import RaftTiming, Role
from raftlog.types import BrokerId, RaftIndex, Term
from tests.compaction_world import KEY, World, fill
from tests.unit.test_storage_cleaned_log import records_of
from tests.unit.test_storage_filling import behind, giver

ME, LEADER, OTHER = BrokerId(1), BrokerId(2), BrokerId(3)
TERM = Term(3)


class Replica:
    """One of three, on a virtual disk; its log is behind what the leader has compacted."""

    def __init__(self, *, is_lost: bool = False) -> None:
        self.world = behind()
        self.world.log.promises.may_lack = is_lost
        self.source = giver().log
        self.copy = self.source.cleaning.copy()
        self.end = self.copy.image.commit.index
        self.group = RaftGroup(
            KEY,
            ME,
            self.world.log,
            frozenset((ME, LEADER, OTHER)),
            timing=RaftTiming(),
            rng=random.Random(1),
            now=0.0,
        )
        filling, self.dirname = fill(self.world, self.copy)
        self.image = filling.image

    def hear(self, message: Message, sender: BrokerId = LEADER) -> list[Message]:
        """What the replica says to a message, in a turn with a sync."""
        self.group.turning.step(sender, message, 1.0)
        self.group.turning.before_sync(1.0)
        self.group.turning.on_written()
        self.world.flush()
        self.group.turning.on_synced(1.0)
        return [message for _, message in self.group.turning.after_sync().replies]

    def beat(self, commit_index: int) -> list[Message]:
        return self.hear(Heartbeat(KEY, TERM, RaftIndex(commit_index), 1))

    def fill(self) -> list[Message]:
        return self.hear(Filled(KEY, self.group.term, self.image, self.dirname), ME)

    @property
    def is_filled(self) -> bool:
        return self.group.log.dirname == self.dirname


def test_a_follower_goes_on_with_the_copy_and_says_so_once_it_is_on_the_disk() -> None:
    replica = Replica()
    replica.beat(replica.end)
    replica.group.turning.step(ME, Filled(KEY, TERM, replica.image, replica.dirname), 1.0)
    assert replica.is_filled and replica.group.log.entries.synced_index == 0
    assert replica.beat(replica.end)[-1] == AppendReply(KEY, TERM, replica.end)
    assert replica.group.commit_index == replica.group.applied_index == replica.end
    assert replica.group.membership.voters == {ME, LEADER, OTHER}
    ready = records_of(replica.group.log)
    assert ready == [each for each in records_of(replica.source) if each.offset < replica.image.commit.offset]


def test_the_state_machine_takes_the_state_of_the_copy() -> None:
    replica = Replica()
    replica.beat(replica.end)
    replica.group.turning.step(ME, Filled(KEY, TERM, replica.image, replica.dirname), 1.0)
    assert replica.group.turning.before_sync(1.0).restored == (b"state", replica.end)


def test_while_no_leader_is_known_the_log_stays() -> None:
    """Whether the leader to come has what is in the copy, this replica cannot tell by its own term."""
    replica = Replica()
    replica.fill()
    assert not replica.is_filled


def test_what_came_by_entries_meanwhile_is_not_thrown_away() -> None:
    replica = Replica()
    replica.beat(0)
    log = replica.world.log
    while log.last_index < replica.end + 2:
        replica.world.put(b"k", b"v", term=3)
    replica.world.commit()
    replica.fill()
    assert not replica.is_filled and log.last_index == replica.end + 2


def test_a_replica_that_lost_its_log_is_filled_once_it_is_welcome_and_votes_only_with_all_of_it() -> None:
    replica = Replica(is_lost=True)
    (rejoin,) = [each for each in replica.beat(replica.end) if isinstance(each, Rejoin)]
    replica.fill()
    assert not replica.is_filled  # its old acknowledgements may still be counted

    def asks() -> bool:
        last = RaftIndex(replica.end + 100)
        answer = replica.hear(PreVote(KEY, Term(9), last, Term(8), fresh=False), OTHER)
        return any(isinstance(each, PreVoteReply) and each.granted for each in answer)

    replica.hear(Welcome(KEY, TERM, rejoin.nonce, RaftIndex(replica.end + 1)))
    replica.fill()
    assert replica.is_filled and not replica.group.is_trusted
    replica.group.turning.tick(60.0)
    assert replica.group.role is not Role.CANDIDATE and not asks()
    replica.beat(replica.end)
    replica.hear(Welcome(KEY, TERM, rejoin.nonce, RaftIndex(replica.end)))
    assert replica.group.is_trusted


@pytest.mark.parametrize("step", range(2))
def test_a_restart_between_the_files_and_the_step_begins_with_the_old_log(step: int) -> None:
    replica = Replica()
    replica.beat(replica.end)
    old = records_of(replica.world.log)
    if step:
        replica.group.turning.step(ME, Filled(KEY, TERM, replica.image, replica.dirname), 1.0)
    world: World = replica.world
    world.reopen()
    assert records_of(world.log) == old and world.log.dirname != replica.dirname
