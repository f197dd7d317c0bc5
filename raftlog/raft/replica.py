"""One replica of a Raft group, put together from its parts.

Each part decides one thing: `elections` who may lead (SyncObj counts the votes, see `engine`), `leading` and
`leadership` what a leader does, `following` what a follower does, `damage` and `repair` what is done about
damaged bytes, `applying` what the state machine gets, `outbox` when a message may leave. This module makes
them and tells them of each other; `turning` gives each message to the part that it is for.

It does no I/O and knows no clock; the driver makes durable what the log holds.

Invariants: no vote and no acknowledgement leaves before what it rests on is durable; a proposal is answered
exactly once; one leader a term.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raftlog.raft.applying import Applying
from raftlog.raft.damage import Damage
from raftlog.raft.elections import Elections
from raftlog.raft.engine import Engine
from raftlog.raft.events import Cause, Kind
from raftlog.raft.following import Following
from raftlog.raft.leading import Leading
from raftlog.raft.membership import Memberships
from raftlog.raft.news import News
from raftlog.raft.outbox import Outbox
from raftlog.raft.progress import PeerWindow
from raftlog.raft.ration import Allowance
from raftlog.raft.repair import Repairs
from raftlog.raft.trust import Trust
from raftlog.raft.values import Membership, RaftTiming, Role
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, RaftIndex, Term


class Hooks:
    """What a replica asks of whoever drives it, who sets these."""

    __slots__ = ("bytes_heard", "commits", "may_read", "on_event", "on_work", "window_of")

    def __init__(self) -> None:
        self.on_work: Callable[[Replica], None] = lambda replica: None
        self.on_event: Callable[[Replica, Kind, Cause, BrokerId | None], None] = lambda *event: None
        self.window_of: Callable[[BrokerId], PeerWindow] = lambda broker: PeerWindow()
        """What is under way to a broker, over all groups."""
        self.commits = Allowance[Replica]()
        """What this turn may still move to the segments; where a replica waits for it, a later turn calls
        `Turning.commit_what_is_due`."""
        self.may_read: Callable[[Replica], bool] = lambda replica: True
        """Whether this turn has time to read from the log what is to be applied; if not, a later one has."""
        self.bytes_heard: Mapping[BrokerId, float] = {}
        """When part of a message came from a broker last, be it of another group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Of a replica; each decides one thing."""

    applying: Applying
    outbox: Outbox
    trust: Trust
    memberships: Memberships
    engine: Engine
    news: News
    damage: Damage
    elections: Elections
    following: Following
    leading: Leading
    repairs: Repairs


class Replica:
    """What the parts know of each other. `RaftGroup` is how others see it, `turning` what a driver does with
    it."""

    def __init__(
        self,
        key: GroupKey,
        self_id: BrokerId,
        log: GroupLog,
        voters: frozenset[BrokerId],
        *,
        timing: RaftTiming,
        rng: random.Random,
        now: float,
        learners: frozenset[BrokerId],
        eager_commit: bool,
    ) -> None:
        """See `RaftGroup`."""
        self.key = key
        self.log = log
        self.hooks = hooks = Hooks()
        self.now = now
        """When this replica was last told the time."""
        self._self_id = self_id
        applying = Applying(
            log,
            are_commands=eager_commit,
            may_read=lambda: hooks.may_read(self),
            on_damage=self.look_for_damage,
        )
        self._outbox = outbox = Outbox()
        trust = Trust(rng)
        if log.promises.may_lack:
            trust.lose()
        self._memberships = members = Memberships(Membership(voters, learners - voters), log.memberships)
        self._engine = engine = Engine(self, self_id, log, timing, rng, now)
        elections = Elections(self, key, self_id, log, engine, trust, outbox, timing)
        self.parts = parts = Parts(
            applying=applying,
            outbox=outbox,
            trust=trust,
            memberships=members,
            engine=engine,
            news=News(log, engine, (self.role, self.term, None)),
            damage=Damage(self, self_id, log, trust),
            elections=elections,
            following=Following(self, key, log, engine, elections, trust, members, outbox),
            leading=Leading(
                self, hooks, key, self_id, log, engine, members, outbox, timing, eager_commit=eager_commit
            ),
            repairs=Repairs(self, key, self_id, log, engine, outbox, timing),
        )
        self._leading, self._following, self._elections = parts.leading, parts.following, parts.elections

        def on_rot() -> None:
            parts.applying.look_again()
            self.wake()

        log.damage.on_rot = on_rot
        self.use_membership()
        self.look_for_damage()

    def wake(self) -> None:
        """There is work for the next turn."""
        self.hooks.on_work(self)

    # What it is

    @property
    def role(self) -> Role:
        role = self._engine.role
        return role if self._self_id in self._memberships.current.voters else Role.LEARNER

    @property
    def term(self) -> Term:
        return self._engine.term

    @property
    def leader(self) -> BrokerId | None:
        """Who leads in this term, as far as known here."""
        return self._engine.leader

    @property
    def is_leader(self) -> bool:
        return self._leading.leadership is not None

    @property
    def voters(self) -> frozenset[BrokerId]:
        return self._memberships.current.voters

    # raftlog.raft.elections.ElectionOwner

    def note(self, kind: Kind, cause: Cause, other: BrokerId | None = None) -> None:
        """For people: something happened to this group."""
        self.hooks.on_event(self, kind, cause, other)

    def enter_term(self, term: Term, of: BrokerId) -> None:
        """A newer term, which `of` is in. Whatever this replica was, it is a follower now, and does not know
        yet of whom."""
        self._outbox.forget_promises()
        self._leading.ending = (Cause.NEWER_TERM, of)
        self._engine.enter_term(term)
        self._elections.stop_asking()
        self._following.restart()
        self.parts.trust.forget_leader()

    def become_leader(self, now: float) -> None:
        self.parts.trust.regain()
        self.log.promises.may_lack = False
        self._leading.begin(self._elections.electors, now)
        self.note(Kind.LEADER, *self._elections.cause)

    # raftlog.raft.following.FollowingOwner

    def look_for_damage(self) -> None:
        self.parts.damage.look()

    def step_down(self, cause: Cause) -> None:
        self._leading.ending = (cause, None)
        self._engine.become_follower()

    def can_fill_anew(self, asking: BrokerId, now: float) -> bool:
        return self._leading.can_fill_anew(asking, now)

    def log_was_repaired(self) -> None:
        self.parts.applying.is_stuck = False
        self.wake()

    def use_membership(self) -> None:
        """Make the latest configuration in the log the one that counts."""
        membership, engine = self._memberships.current, self._engine
        this = {self._self_id}
        engine.set_members(membership.voters - this, membership.learners - this, self.log.last_index)
        self._leading.set_membership(membership, self.now)

    def log_was_cut(self, from_index: RaftIndex) -> None:
        if self.leader is not None:
            self.note(Kind.TRUNCATED, Cause.OTHER_LEADER, self.leader)
        if self._memberships.truncate(from_index):
            self.use_membership()
        self.parts.news.log_was_cut(from_index)

    def log_was_replaced(self, index: RaftIndex) -> None:
        """The log was begun anew: behind a leader's snapshot that ends at `index`, or empty, at 0."""
        self.note(Kind.FILLED_ANEW, Cause.FROM_LEADER, self.leader)
        self.use_membership()
        self._engine.commit_index = index
        self.parts.applying.restart(index)
        self._following.restart()
        self.parts.news.log_was_replaced()

    def commit_to(self, index: RaftIndex) -> None:
        """Commit as far as this turn has time for it; a later one goes on. Nothing is lost by that: a commit
        index may always be known later."""
        log, commits = self.log, self.hooks.commits
        if commits.left <= 0:
            commits.wait(self)
            return
        end, cost = log.entries.commit_within(index, commits.left)
        commits.left -= cost
        entries = log.commit_to(end)
        if entries:
            self._engine.commit_index = entries[-1].index
            self.parts.applying.committed(entries)
        if log.refused is not None:
            if self.is_leader:  # a follower hears of it again
                self._leading.beat_soon(self.now)
        elif end < index:
            commits.wait(self)

    # raftlog.raft.engine.EngineOwner

    def on_vote_wanted(self, of: BrokerId) -> None:
        self._elections.want_vote(of)

    def on_hard_state(self) -> None:
        self._outbox.hard_state_changed()

    def on_leadership_ended(self) -> None:
        if self._leading.leadership is not None:
            self._elections.postpone(self.now)
            self._leading.end()
            self._following.restart()
