"""Bugs planted on purpose: the simulation must find each. A checker that finds nothing proves nothing.

Every bug undoes one guard of docs/raft.md. Most are found by random faults, seed by seed; what takes a
schedule that chance does not find is looked for with the scenario that was written for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from raftlog.errors import SafetyError
from raftlog.raft import replica as replica_module
from raftlog.raft.elections import Elections
from raftlog.raft.engine import Engine
from raftlog.raft.following import Accepted, Following
from raftlog.raft.following import accept as sound_accept
from raftlog.raft.leadership import Leadership
from raftlog.raft.messages import Addressed, Append, AppendReply, Rejoin
from raftlog.raft.outbox import Outbox
from raftlog.raft.progress import Progress
from raftlog.raft.proposals import Proposals
from raftlog.raft.trust import Trust
from raftlog.raft.turning import Turning
from raftlog.types import RaftIndex
from tests.sim.test_raft_random import Chaos
from tests.unit import test_raft_pysyncobj_liveness as liveness
from tests.unit import test_raft_pysyncobj_safety as safety
from tests.unit import test_raft_trust as trust
from tests.unit.raft_script import Base, Hardened

sound_on_rejoin = Leadership.on_rejoin
SEEDS = 60
Plant = Callable[[pytest.MonkeyPatch], None]
Finder = Callable[[], None]


def truncate_what_matches(patch: pytest.MonkeyPatch) -> None:
    """b: SyncObj's own rule."""

    def accept(self: Following, append: Append, term: int) -> object:
        log = self._log
        cut = max(append.prev_index, log.commit_index) + 1
        if log.term_at(append.prev_index) == append.prev_term and cut <= log.last_index:
            log.truncate_from(RaftIndex(cut))
        result = sound_accept(log, append, append.term)
        if isinstance(result, Accepted):
            self.matches_to(result.match_index)
            self.hear_commit(append.commit_index)
        return result

    patch.setattr(Following, "append", accept)


def acknowledge_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    """c: in the handler, as SyncObj does."""
    patch.setattr(Following, "durable_match", property(lambda self: self.match_index))
    patch.setattr(Following, "_release_ack", Following._acknowledge)


def count_the_leader_before_its_sync(patch: pytest.MonkeyPatch) -> None:
    """c: the leader counts itself at once. (Applied unsynced: storage refuses.)"""

    def committable(self: Leadership) -> int:
        indexes = sorted([self._match[peer] for peer in self._voters] + [self._log.last_index])
        index = indexes[(len(indexes) - 1) // 2]
        return index if index >= self.first_index else self._log.commit_index

    patch.setattr(Leadership, "committable_index", committable)


def count_acks_of_any_term(patch: pytest.MonkeyPatch) -> None:
    """a: replies without a term."""
    sound = Turning.step

    def step(self: Turning, sender: int, message: object, now: float) -> None:
        if isinstance(message, AppendReply) and message.term < self.replica.term:
            message = message._replace(term=self.replica.term)
        sound(self, sender, message, now)  # type: ignore[arg-type]

    patch.setattr(Turning, "step", step)


def let_votes_leave_before_they_are_durable(patch: pytest.MonkeyPatch) -> None:
    """c: the vote is forgotten by power loss."""

    def take_after_sync(self: Outbox) -> Sequence[Addressed]:
        out, self._after_sync = self._after_sync, []
        return out

    patch.setattr(Outbox, "take_after_sync", take_after_sync)


def commit_old_terms_by_counting(patch: pytest.MonkeyPatch) -> None:
    """Figure 8: without the rule that only this term's entries are counted."""
    sound = Leadership.committable_index

    def committable(self: Leadership) -> int:
        first, self.first_index = self.first_index, RaftIndex(0)
        try:
            return sound(self)
        finally:
            self.first_index = first

    patch.setattr(Leadership, "committable_index", committable)


def vote_for_everyone(patch: pytest.MonkeyPatch) -> None:
    """Logs are not compared."""

    def consider(self: Engine, candidate: int, term: int, index: int, log_term: int, now: float) -> None:
        if self.voted_for is None:
            self._SyncObj__setCurrentTerm(term, candidate)

    patch.setattr(Engine, "consider_vote", consider)
    sound = Elections.on_pre_vote
    patch.setattr(
        Elections,
        "on_pre_vote",
        lambda self, sender, request, now: sound(
            self, sender, request._replace(last_term=request.term, last_index=RaftIndex(1 << 40)), now
        ),
    )


def believe_a_heartbeats_commit_index(patch: pytest.MonkeyPatch) -> None:
    """k: the commit index moves over a tail that is not known to match."""
    patch.setattr(
        Following,
        "committable_index",
        property(lambda self: min(self.leader_commit, self._log.entries.synced_index)),
    )


def accept_without_looking_behind(patch: pytest.MonkeyPatch) -> None:
    """Log matching is not checked."""

    def accept(self: Following, append: Append, term: int) -> object:
        known = self._log.term_at(append.prev_index)
        result = sound_accept(
            self._log, append._replace(prev_term=known) if known is not None else append, append.term
        )
        if isinstance(result, Accepted):
            self.matches_to(result.match_index)
            self.hear_commit(append.commit_index)
        return result

    patch.setattr(Following, "append", accept)


def say_will_not_happen(patch: pytest.MonkeyPatch) -> None:
    """An outcome that nobody knows is called a failure."""
    sound = Proposals.leadership_ended
    patch.setattr(Proposals, "leadership_ended", lambda self, offered: sound(self, RaftIndex(0)))


def answer_before_the_majority(patch: pytest.MonkeyPatch) -> None:
    """acks=1: the leader's own disk is enough."""

    def committable(self: Leadership) -> int:
        index = min(self._log.entries.synced_index, self._log.last_index)
        return index if index >= self.first_index else self._log.commit_index

    patch.setattr(Leadership, "committable_index", committable)


def forget_the_configuration(patch: pytest.MonkeyPatch) -> None:
    """e: after a restart the first configuration counts."""
    sound = replica_module.Memberships
    patch.setattr(replica_module, "Memberships", lambda first, entries=(): sound(first))


def vote_with_an_emptied_disk(patch: pytest.MonkeyPatch) -> None:
    """Nobody keeps in mind that a log was lost."""
    patch.setattr(Trust, "lose", lambda self: None)


def vote_as_soon_as_welcome(patch: pytest.MonkeyPatch) -> None:
    """The leader's answer is enough, whatever of its log is there again."""
    patch.setattr(Trust, "has_all", lambda self, durable_match: self.is_lost and self.is_welcome)


def keep_what_was_acknowledged_before_a_loss(patch: pytest.MonkeyPatch) -> None:
    """The leader welcomes who lost its log, and goes on counting what that one had."""

    def on_rejoin(self: Leadership, peer: Progress, rejoin: Rejoin, now: float) -> None:
        match, peer.rejoin_nonce = self._match[peer], rejoin.nonce
        sound_on_rejoin(self, peer, rejoin, now)
        self._match[peer] = match

    patch.setattr(Leadership, "on_rejoin", on_rejoin)


def chaos(size: int) -> Finder:
    def find() -> None:
        for seed in range(SEEDS):
            Chaos(seed, size=size).play()

    return find


def scenario(run: Callable[[Base], None], size: int) -> Finder:
    return lambda: run(Hardened(size))


PLANTS: list[tuple[Plant, Finder]] = [
    (truncate_what_matches, scenario(safety.a_copy_of_an_append_arrives_late, 3)),
    (acknowledge_before_the_sync, chaos(3)),
    (count_the_leader_before_its_sync, chaos(3)),
    (count_acks_of_any_term, scenario(safety.an_old_ack_arrives_late, 5)),
    (let_votes_leave_before_they_are_durable, safety.test_a_vote_leaves_only_when_it_is_durable),
    (commit_old_terms_by_counting, liveness.test_an_entry_of_an_old_term_is_not_committed_by_counting),
    (vote_for_everyone, chaos(3)),
    (believe_a_heartbeats_commit_index, chaos(3)),
    (accept_without_looking_behind, chaos(3)),
    (say_will_not_happen, chaos(3)),
    (answer_before_the_majority, chaos(3)),
    (vote_with_an_emptied_disk, safety.test_a_wiped_broker_does_not_vote_until_it_has_caught_up),
    (vote_as_soon_as_welcome, trust.test_a_welcome_alone_gives_no_vote),
    (
        keep_what_was_acknowledged_before_a_loss,
        safety.test_what_a_wiped_broker_acknowledged_before_is_forgotten,
    ),
    (forget_the_configuration, safety.test_the_configuration_is_read_from_the_log_at_start),
]


@pytest.mark.parametrize(("plant", "find"), PLANTS, ids=[p[0].__name__ for p in PLANTS])
def test_a_planted_bug_is_found(plant: Plant, find: Finder, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, SafetyError, LookupError)):
        find()
