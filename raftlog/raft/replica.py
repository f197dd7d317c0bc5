"""One replica of a Raft group, put together from its parts.

Each part decides one thing: `elections` who may lead (SyncObj counts the votes, see `engine`), `leading` and
`leadership` what a leader does, `following` what a follower does, `damage` and `repair` what is done about
damaged bytes, `applying` what the state machine gets, `outbox` when a message may leave. This module compares
terms, gives each message to the part that it is for, and tells the parts of each other.

It does no I/O and knows no clock. Messages go in and out; the driver makes durable what the log holds.

Invariants: no vote and no acknowledgement leaves before what it rests on is durable; a proposal is answered
exactly once; one leader a term.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from raftlog.errors import DamagedLog, FileRefused
from raftlog.raft.applying import Applying
from raftlog.raft.damage import Damage
from raftlog.raft.elections import Elections
from raftlog.raft.engine import Engine
from raftlog.raft.events import Cause, Kind
from raftlog.raft.following import Following
from raftlog.raft.leading import FOREVER, Leading
from raftlog.raft.membership import Memberships
from raftlog.raft.messages import (
    Addressed,
    Append,
    AppendReject,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVote,
    PreVoteReply,
    Rejoin,
    Repair,
    RepairRequest,
    Snapshot,
    TimeoutNow,
    Vote,
    VoteReply,
    Welcome,
)
from raftlog.raft.news import News
from raftlog.raft.outbox import Outbox
from raftlog.raft.progress import PeerWindow
from raftlog.raft.repair import Repairs
from raftlog.raft.trust import Trust
from raftlog.raft.values import Membership, RaftTiming, Role
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, RaftIndex, Term


class Replica:
    """What `RaftGroup` is inside. Synchronous: time and chance are passed in, messages are taken out."""

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
        learners: frozenset[BrokerId] = frozenset(),
        preferred: bool = False,
        eager_commit: bool = False,
    ) -> None:
        """`voters` and `learners` are the first membership where the log was made with none; a MEMBERSHIP
        entry in the log overrides them.

        `preferred`: of a group that is new, this replica should lead: it asks for votes at once.
        `eager_commit`: the entries are commands, not data (the metadata group). Followers learn of a commit
        at once instead of with the next message, and one that is far behind gets the newest snapshot of the
        state in place of the entries before it.
        """
        self.key = key
        self.log = log
        self.on_work: Callable[[Replica], None] = lambda group: None
        self.on_event: Callable[[Replica, Kind, Cause, BrokerId | None], None] = lambda *event: None
        self.window_of: Callable[[BrokerId], PeerWindow] = lambda broker: PeerWindow()
        """What is under way to a broker, over all groups."""
        self.may_begin_file: Callable[[Replica], bool] = lambda group: True
        """Whether this turn has time for it; if not, a later one calls `commit_what_is_due`."""
        self.may_read: Callable[[Replica], bool] = lambda group: True
        """Whether this turn has time to read from the log what is to be applied; if not, a later one has."""
        self.bytes_heard: Mapping[BrokerId, float] = {}
        """When part of a message came from a broker last, be it of another group."""
        self._self_id = self_id
        self._timing = timing
        self._is_preferred = preferred
        self._now = now
        self._applying = Applying(log, may_read=lambda: self.may_read(self), on_damage=self.look_for_damage)
        self._outbox = outbox = Outbox()
        self._trust = trust = Trust(rng)
        if log.may_lack:
            trust.lose()
        self._memberships = members = Memberships(Membership(voters, learners - voters), log.memberships)
        self._engine = engine = Engine(self, self_id, log, timing, rng, now)
        self._news = News(log, engine, (self.role, self.term, None))
        self._damage = Damage(self, self_id, log, trust)
        self._elections = elections = Elections(self, key, self_id, log, engine, trust, outbox, timing)
        self._following = Following(self, key, log, engine, elections, trust, members, outbox)
        self._leading = Leading(
            self, key, self_id, log, engine, members, outbox, timing, eager_commit=eager_commit
        )
        self._repairs = Repairs(self, key, self_id, log, engine, outbox, timing)
        self._handlers = self._handlers_of_messages()
        log.on_rot = self.wake
        self.use_membership()
        self.look_for_damage()
        self.start(now)

    def _handlers_of_messages(self) -> dict[type, Callable[..., None]]:
        elections, following, leading, repairs = (
            self._elections,
            self._following,
            self._leading,
            self._repairs,
        )
        return {
            Append: following.on_append,
            AppendReply: leading.on_append_reply,
            AppendReject: leading.on_append_reject,
            Heartbeat: following.on_heartbeat,
            HeartbeatReply: leading.on_heartbeat_reply,
            PreVote: elections.on_pre_vote,
            PreVoteReply: elections.on_pre_vote_reply,
            Vote: elections.on_vote,
            VoteReply: elections.on_vote_reply,
            Snapshot: following.on_snapshot,
            TimeoutNow: elections.on_timeout_now,
            Rejoin: leading.on_rejoin,
            Welcome: following.on_welcome,
            RepairRequest: repairs.on_request,
            Repair: repairs.on_repair,
        }

    def wake(self) -> None:
        """There is work for the next turn."""
        self.on_work(self)

    def start(self, now: float) -> None:
        """Time-outs run from `now` on. A group of one is due for its election at once."""
        self._elections.start(now, preferred=self._is_preferred)

    # What it is

    @property
    def role(self) -> Role:
        role = self._engine.role
        return role if self._self_id in self._memberships.current.voters else Role.LEARNER

    @property
    def term(self) -> Term:
        return self._engine.term

    @property
    def voted_for(self) -> BrokerId | None:
        return self.log.hard_state.voted_for

    @property
    def leader(self) -> BrokerId | None:
        """Who leads in this term, as far as known here."""
        return self._engine.leader

    @property
    def is_leader(self) -> bool:
        return self._leading.leadership is not None

    @property
    def membership(self) -> Membership:
        return self._memberships.current

    @property
    def voters(self) -> frozenset[BrokerId]:
        return self._memberships.current.voters

    # What comes in

    def step(self, sender: BrokerId, message: Message, now: float) -> None:
        """Take a message of `sender`. What it makes this replica say leaves with the turn."""
        self._now = now
        term = self._engine.term
        if message.term != term and type(message) not in _JUDGE_TERMS:
            if message.term < term:
                self._refuse_old_term(sender, message)
                return
            self.enter_term(message.term, sender)
        try:
            self._handlers[type(message)](sender, message, now)
        except FileRefused:
            pass  # a segment cannot be opened for now: who asked asks again
        except DamagedLog:  # a follower asked for what cannot be read any more
            self.look_for_damage()

    def _refuse_old_term(self, sender: BrokerId, message: Message) -> None:
        """Nothing of an old term counts. Who still leads in it is told that a newer one has begun."""
        if isinstance(message, Append | Heartbeat | Snapshot):
            self._outbox.send_after_sync(sender, AppendReply(self.key, self.term, RaftIndex(0)))

    # The two messages of an idle group, which need no turn. None and False mean that there is more to do than
    # to note that the sender lives: then the message is for `step`.

    def hear_idle_heartbeat(
        self, sender: BrokerId, heartbeat: Heartbeat, now: float
    ) -> HeartbeatReply | None:
        if not self._outbox.is_hard_state_durable:
            return None
        return self._following.on_idle_heartbeat(sender, heartbeat, now)

    def hear_idle_reply(self, sender: BrokerId, reply: HeartbeatReply, now: float) -> bool:
        return self._leading.on_idle_reply(sender, reply, now)

    # Phase 2: tick

    def tick(self, now: float, unread_for: float = 0.0) -> bool:
        """Do what is due by the clock: heartbeats, check-quorum, elections. True when it only made heartbeats
        (`take_beats`). Messages of the last `unread_for` seconds may have arrived and not be delivered yet: a
        leader does not miss its majority for those."""
        self._now = now
        self.look_for_damage()
        if self.is_leader:
            return self._leading.tick(now, unread_for) and self._outbox.is_hard_state_durable
        if now >= self._elections.deadline:
            if self._leader_sends(now):
                self._elections.leader_sends(now)
            elif not self._elections.excuse_leader(now):
                self._elections.ask(now)
        if now >= self._repairs.deadline:
            self._repairs.ask(now)
        return False

    def _leader_sends(self, now: float) -> bool:
        """Whether the leader's process is sending something large just now."""
        leader = self.leader
        return leader is not None and now - self.bytes_heard.get(leader, -FOREVER) < self._timing.election_min

    def take_beats(self) -> Sequence[Addressed]:
        """The heartbeats that `tick` made, when it made nothing else."""
        return self._outbox.take_before_sync()

    # raftlog.raft.elections.ElectionOwner

    def note(self, kind: Kind, cause: Cause, other: BrokerId | None = None) -> None:
        """For people: something happened to this group."""
        self.on_event(self, kind, cause, other)

    def enter_term(self, term: Term, of: BrokerId) -> None:
        """A newer term, which `of` is in. Whatever this replica was, it is a follower now, and does not know
        yet of whom."""
        self._outbox.forget_promises()
        self._leading.ending = (Cause.NEWER_TERM, of)
        self._engine.enter_term(term)
        self._elections.stop_asking()
        self._following.restart()

    def become_leader(self, now: float) -> None:
        self._trust.regain()
        self.log.may_lack = False
        self._leading.begin(now)
        self.note(Kind.LEADER, *self._elections.cause)

    # raftlog.raft.following.FollowingOwner

    def look_for_damage(self) -> None:
        self._damage.look()

    def step_down(self, cause: Cause) -> None:
        self._leading.ending = (cause, None)
        self._engine.become_follower()

    def can_fill_anew(self, asking: BrokerId, now: float) -> bool:
        return self._leading.can_fill_anew(asking, now)

    def log_was_repaired(self) -> None:
        self._applying.is_stuck = False
        self.wake()

    def use_membership(self) -> None:
        """Make the latest configuration in the log the one that counts."""
        membership, engine = self.membership, self._engine
        this = {self._self_id}
        engine.set_members(membership.voters - this, membership.learners - this, self.log.last_index)
        self._leading.set_membership(membership, self._now)

    def log_was_cut(self, from_index: RaftIndex) -> None:
        if self.leader is not None:
            self.note(Kind.TRUNCATED, Cause.OTHER_LEADER, self.leader)
        if self._memberships.truncate(from_index):
            self.use_membership()
        self._news.log_was_cut(from_index)

    def log_was_replaced(self, index: RaftIndex) -> None:
        """The log was begun anew: behind a leader's snapshot that ends at `index`, or empty, at 0."""
        self.note(Kind.FILLED_ANEW, Cause.FROM_LEADER, self.leader)
        self.use_membership()
        self._engine.commit_index = index
        self._applying.restart(index)
        self._following.restart()
        self._news.log_was_replaced()

    def commit_to(self, index: RaftIndex) -> None:
        """Commit at once, or in a later turn when this one has begun its share of files. Nothing is lost by
        that: a commit index may always be known later."""
        if self.log.commit_begins_file(index) and not self.may_begin_file(self):
            return
        entries = self.log.commit_to(index)
        if entries:
            self._engine.commit_index = entries[-1].index
            self._applying.committed(entries)
        if self.log.refused is not None and self.is_leader:  # a follower hears of it again
            self._leading.beat_soon(self._now)

    def commit_what_is_due(self, now: float) -> None:
        """Commit what an earlier turn had no time for, as far as it is still to be committed."""
        self._now = now
        if self.is_leader:
            self._leading.commit()
        else:
            self._following.commit()

    # raftlog.raft.engine.EngineOwner

    def on_vote_wanted(self, of: BrokerId) -> None:
        self._elections.want_vote(of)

    def on_hard_state(self) -> None:
        self._outbox.hard_state_changed()

    def on_leadership_ended(self) -> None:
        if self._leading.leadership is not None:
            self._elections.postpone(self._now)
            self._leading.end()
            self._following.restart()


_JUDGE_TERMS: Final = frozenset({PreVote, PreVoteReply, Vote, RepairRequest, Repair})
"""Messages of which the part that takes them compares the terms itself."""
