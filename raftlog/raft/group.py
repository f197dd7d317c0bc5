"""A Raft group of this broker: one replica, with its parts put together.

Each part decides one thing: `elections` who may lead (SyncObj counts the votes, see `engine`), `leading` and
`leadership` what a leader does, `following` what a follower does, `damage` and `repair` what is done about
damaged bytes, `outbox` when a message may leave. This module compares terms, gives each message to the part
that it is for, and tells the driver what to do.

It does no I/O and knows no clock. Messages go in and out; the driver makes durable what the log holds.

Invariants: no vote and no acknowledgement leaves before what it rests on is durable; a proposal is answered
exactly once; one leader a term.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from raftlog.errors import DamagedLog, FileRefused
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
from raftlog.raft.outbox import Outbox
from raftlog.raft.progress import FollowerProgress, PeerWindow
from raftlog.raft.proposals import Applying, Ended, OnDone
from raftlog.raft.repair import Repairs
from raftlog.raft.trust import Trust
from raftlog.raft.values import ChangeRefused, Membership, NotLeader, RaftTiming, Role
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, RaftIndex, Term


class RaftGroup:
    """One replica of one group. Synchronous: time and chance are passed in, messages are taken out.

    What the methods change in the log is durable only after the driver's next sync; the driver calls
    `on_synced` then. A replica that lost its log, or had another one before (`log.may_lack`, or a damaged
    log) neither votes nor campaigns until a leader has filled it again: its vote would count as if it
    still held what it once acknowledged. When every voter of a group has nothing, the group is new
    and they may elect; so the first start of a group from nothing needs all of its voters.
    """

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
        self.on_work: Callable[[RaftGroup], None] = lambda group: None
        self.on_event: Callable[[RaftGroup, Kind, Cause, BrokerId | None], None] = lambda *event: None
        self.window_of: Callable[[BrokerId], PeerWindow] = lambda broker: PeerWindow()
        """What is under way to a broker, over all groups."""
        self.may_begin_file: Callable[[RaftGroup], bool] = lambda group: True
        """Whether this turn has time for it; if not, a later one calls `commit_what_is_due`."""
        self.bytes_heard: Mapping[BrokerId, float] = {}
        """When part of a message came from a broker last, be it of another group."""
        self._self_id = self_id
        self._timing = timing
        self._is_preferred = preferred
        self._now = now
        self._applying = Applying(log)
        self._truncated_from: RaftIndex | None = None
        self._was_restored = False
        self._cuts = 0
        self._outbox = outbox = Outbox()
        self._trust = trust = Trust(rng)
        if log.may_lack:
            trust.lose()
        self._memberships = members = Memberships(Membership(voters, learners - voters), log.memberships)
        self._engine = engine = Engine(self, self_id, log, timing, rng, now)
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

    def __repr__(self) -> str:
        return (
            f"<RaftGroup {self.key.hex()[24:]} {self.role.name.lower()} term={self.term}"
            f" last={self.log.last_index} committed={self.commit_index}>"
        )

    # What a group is

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
    def is_ready(self) -> bool:
        """Leads, and has committed its own term's first entry: all earlier commits are known here."""
        leadership = self._leading.leadership
        return leadership is not None and leadership.has_committed

    @property
    def is_transferring(self) -> bool:
        """Leads, and is handing the leadership over: proposals are refused meanwhile."""
        leadership = self._leading.leadership
        return leadership is not None and leadership.is_transferring

    def may_be_led_in(self, term: Term, now: float) -> bool:
        """Whether who led in `term` may still take something, as far as this replica can tell: not when a
        newer term has begun, nor while leadership is handed over, nor when the leader has gone silent."""
        if term != self.term:
            return term > self.term
        leadership = self._leading.leadership
        if leadership is not None:
            return not leadership.is_transferring
        return not self._elections.is_leader_silent(now)

    @property
    def commit_index(self) -> RaftIndex:
        return self._engine.commit_index

    @property
    def applied_index(self) -> RaftIndex:
        """The last entry that `take_committed` has given out. The driver sets it back for a state machine
        that has to apply again from earlier on."""
        return self._applying.index

    @applied_index.setter
    def applied_index(self, index: RaftIndex) -> None:
        self._applying.restart(index)

    @property
    def membership(self) -> Membership:
        return self._memberships.current

    @property
    def is_membership_committed(self) -> bool:
        """Whether the membership in force can no longer be undone by another leader."""
        return self._memberships.index <= self.commit_index

    @property
    def voters(self) -> frozenset[BrokerId]:
        return self._memberships.current.voters

    @property
    def learners(self) -> frozenset[BrokerId]:
        return self._memberships.current.learners

    @property
    def is_trusted(self) -> bool:
        """False while this replica may lack what it once acknowledged, and therefore does not vote."""
        return not self._trust.is_lost

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do next; FOREVER for who only listens."""
        leading = self._leading
        if leading.leadership is not None:
            return leading.beat_due
        return min(self._elections.deadline, self._repairs.deadline)

    def followers(self, now: float) -> tuple[FollowerProgress, ...]:
        """How far the others are, as their leader knows; none where this replica does not lead."""
        leadership = self._leading.leadership
        return () if leadership is None else leadership.followers(now)

    @property
    def pending_proposals(self) -> int:
        return len(self._leading.proposals)

    def statistics(self) -> dict[str, int | str | None]:
        return {
            "role": self.role.name.lower(),
            "term": self.term,
            "leader": self.leader,
            "last_index": self.log.last_index,
            "commit_index": self.commit_index,
            "applied_index": self.applied_index,
            "pending_proposals": self.pending_proposals,
            "trusted": int(self.is_trusted),
        }

    # What a leader is asked for

    def propose(
        self, payload: bytes | bytearray | memoryview, record_count: int, now: float, on_done: OnDone
    ) -> Entry | NotLeader:
        """Append a batch, already stamped with `log.log_end_offset` and `term`, to the log.

        `on_done` is called once, from a turn of the driver. When the outcome is COMMITTED, the state machine
        has applied the entry by then. When NotLeader is returned, nothing was written, nothing is forwarded
        to the leader, and `on_done` is never called. The payload must not change afterwards.
        """
        return self._leading.propose(EntryKind.BATCH, payload, record_count, on_done)

    def propose_command(self, payload: bytes, on_done: OnDone) -> Entry | NotLeader:
        """As `propose`, for something that the state machine does and that takes no offset."""
        return self._leading.propose(EntryKind.NOOP, payload, 0, on_done)

    def propose_membership(
        self, membership: Membership, now: float, on_done: OnDone
    ) -> Entry | NotLeader | ChangeRefused:
        """Change the group by one server. The change counts from now on. It is undone when another leader
        replaces the entry. A new voter must be a learner that holds all that is committed."""
        return self._leading.propose_membership(membership, now, on_done)

    def read_barrier(self, now: float, on_ready: Callable[[bool], None]) -> None:
        """Calls `on_ready(True)` once this replica is known to have led after the call began, and has
        applied what was committed by then: maybe at once. `on_ready(False)` when it does not lead. A
        cancelled caller's `on_ready` is still called."""
        self._leading.read_barrier(now, on_ready, self.applied_index)

    def transfer_leadership(self, to: BrokerId, now: float, why: Cause = Cause.AS_ASKED) -> str | None:
        """Hand leadership to another voter once it holds the whole log. Returns None when that is under way,
        else why not. Proposals are refused meanwhile, for one election time-out at most."""
        return self._leading.transfer(to, now, why)

    def holds(self, broker: BrokerId, index: RaftIndex) -> bool:
        """Whether this replica leads, and knows that another has everything up to `index` on its disk."""
        leadership = self._leading.leadership
        return leadership is not None and leadership.holds(broker, index)

    def yield_leadership(self, now: float) -> bool:
        """The disk here stalls: hand leadership, if it is here, to a replica whose disk does not."""
        leadership = self._leading.leadership
        successor = None if leadership is None else leadership.successor(now)
        return successor is not None and (
            self.transfer_leadership(successor, now, Cause.DISK_STALLED) is None
        )

    def peer_is_gone(self, broker: BrokerId, now: float) -> None:
        """The process of `broker` has ended, for certain: if it led, its successor need not wait for the
        election time-out. Only liveness rests on this being true, as long as no lease is in use."""
        if self.is_leader or self.leader != broker:
            return
        self._elections.leader_is_gone(now)
        self.on_work(self)

    def close(self) -> None:
        """The group is being removed: what is pending ends as MAY_STILL_HAPPEN, with the next resolve."""
        self.step_down(Cause.ENDED)

    # Phase 1: deliver

    def step(self, sender: BrokerId, message: Message, now: float) -> None:
        """Take a message of `sender`. What it makes this replica say is taken with `take_messages`."""
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

    # The two messages of an idle group, without the turn that others take. They answer None and False when
    # there is more to do than to note who is alive.

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
        """What is due by the clock: heartbeats, check-quorum, elections. True when all it did was to beat.
        What followers said in the last `unread_for` seconds may have come and not be delivered."""
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
        self._cuts += 1
        if self._truncated_from is None or from_index < self._truncated_from:
            self._truncated_from = from_index

    def log_was_replaced(self, index: RaftIndex) -> None:
        """Nothing of before counts: the log is a snapshot's, up to `index`, or empty."""
        self.note(Kind.FILLED_ANEW, Cause.FROM_LEADER, self.leader)
        self.use_membership()
        self._engine.commit_index = index
        self._applying.restart(index)
        self._following.restart()
        self._was_restored = True
        self._cuts += 1

    def commit_to(self, index: RaftIndex) -> None:
        """At once, or in a later turn: what is committed late is only known late."""
        if self.log.commit_begins_file(index) and not self.may_begin_file(self):
            return
        entries = self.log.commit_to(index)
        if entries:
            self._engine.commit_index = entries[-1].index
            self._applying.committed(entries)
        if self.log.refused is not None and self.is_leader:  # a follower hears of it again
            self._leading.beat_soon(self._now)

    def commit_what_is_due(self, now: float) -> None:
        """What a turn before this one had no time for, as far as it is still to be committed."""
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

    # Phase 3: persist

    def take_messages(self, now: float) -> Sequence[Addressed]:
        """What may leave before this broker's own sync. Called once a turn, after all was delivered."""
        if self.log.rot is not None:
            self.look_for_damage()
        try:
            self._leading.replicate(now)
        except FileRefused:
            pass  # for want of a descriptor: the follower asks again
        except DamagedLog:
            self.look_for_damage()
        return self._outbox.take_before_sync()

    @property
    def has_messages(self) -> bool:
        """There is something to send: a sync that completed a majority is told to the followers."""
        return self._outbox.has_early

    def on_written(self) -> None:
        """Everything that was pending is in the write that the driver syncs next."""
        self._outbox.written()

    # Phase 4: release

    def on_synced(self, now: float) -> None:
        """The last write is durable: acknowledge and count what rests on it."""
        self._outbox.synced()
        if self.is_leader:
            self._leading.commit()
        else:
            self._following.on_synced()

    def take_replies(self) -> Sequence[Addressed]:
        """What may leave once this broker's term and vote are durable; nothing while they are not."""
        return self._outbox.take_after_sync()

    # Phase 5: resolve

    @property
    def has_committed(self) -> bool:
        """There is something to apply."""
        return self._applying.is_behind and self.log.damage is None

    def take_committed(self) -> list[Entry]:
        """The next entries to apply, in order, a bounded number at a time; they count as applied."""
        if not self.has_committed:
            return []
        try:
            entries = self._applying.take()
        except FileRefused:
            return []
        except DamagedLog:
            self._applying.is_stuck = True
            self.look_for_damage()
            return []
        if entries:
            self._engine.applied_index = self._applying.index
        return entries

    def take_done(self) -> list[Ended]:
        """Callbacks of the proposals that have ended since the last call, with how."""
        return self._leading.take_ended(self._applying.index)

    @property
    def has_reads(self) -> bool:
        """There may be reads to answer."""
        return self._leading.has_reads

    def take_reads(self) -> list[tuple[Callable[[bool], None], bool]]:
        """Callbacks of the reads that may be answered, with whether this replica led."""
        return self._leading.take_reads(self.applied_index)

    @property
    def changes(self) -> int:
        """Counts what a state machine is told: changes of role, term, leader, and of the log's tail (see
        take_truncated and take_restored)."""
        return self._engine.changes + self._cuts

    def take_truncated(self) -> RaftIndex | None:
        """From where on uncommitted entries have gone since the last call."""
        index, self._truncated_from = self._truncated_from, None
        return index

    def take_restored(self) -> bool:
        """Whether a snapshot replaced the log since the last call; its state is `log.snapshot_state`."""
        restored, self._was_restored = self._was_restored, False
        return restored


_JUDGE_TERMS: Final = frozenset({PreVote, PreVoteReply, Vote, RepairRequest, Repair})
"""Messages of which the part that takes them compares the terms itself."""
