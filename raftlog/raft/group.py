"""A Raft group of this broker: who leads it, what is committed, what may be said when.

Elections are SyncObj's (`engine`), with pre-votes, check-quorum and votes counted once; a leader's work is in
`leadership`, a follower's in `following`. It does no I/O: messages go in and out, what the log holds is made
durable by the driver. The letters in comments are those of docs/raft.md.

Invariants: no vote and no acknowledgement leaves before what it rests on is durable; a proposal is answered
exactly once; one leader a term.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from typing import Final

from raftlog.errors import DamagedLog, FileRefused
from raftlog.raft.elections import SILENT_BEATS, Elections
from raftlog.raft.engine import Engine, Peer
from raftlog.raft.events import Cause, Kind
from raftlog.raft.following import Following
from raftlog.raft.leadership import Leadership
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
from raftlog.raft.progress import FollowerProgress, PeerWindow
from raftlog.raft.proposals import Applying, Ended, OnDone, Proposals
from raftlog.raft.repair import Repairs
from raftlog.raft.trust import Trust
from raftlog.raft.values import ChangeRefused, Membership, NotLeader, RaftTiming, Role
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, RaftIndex, Term

log = logging.getLogger("raftlog.raft")

FOREVER: Final = float("inf")

_PENDING, _WRITTEN = 2, 1
"""How far term and vote are from being durable; 0 is durable."""


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
        self._eager_commit = eager_commit
        self._out: list[Addressed] = []
        self._out_synced: list[Addressed] = []
        self._hard_state_unsynced = 0
        self._now = now
        self._leadership: Leadership | None = None
        self._ending: tuple[Cause, BrokerId | None] = (Cause.ENDED, None)
        """Why the leadership here ends, once it does."""
        self._beat_due = FOREVER
        self._is_excused = False
        self._proposals = Proposals()
        self._failed_reads: list[Callable[[bool], None]] = []
        self._applying = Applying(log)
        self._truncated_from: RaftIndex | None = None
        self._was_restored = False
        self._cuts = 0
        self._is_stuck = False
        """What comes next to be applied cannot be read until it is repaired."""
        self._trust = Trust(rng)
        if log.may_lack:
            self._trust.lose()
        self._memberships = members = Memberships(Membership(voters, learners - voters), log.memberships)
        self._engine = engine = Engine(self, self_id, log, timing, rng, now)
        self._elections = elections = Elections(self, key, self_id, log, engine, self._trust, timing)
        self._following = following = Following(self, key, log, engine, elections, self._trust, members)
        log.on_rot = lambda: self.on_work(self)
        self._repairs = Repairs(self, key, self_id, log, engine, timing)
        self._said_of: object = None
        """The damage that the broker's log speaks of already."""
        self._is_preferred = preferred
        self._handlers: dict[type, Callable[..., None]] = {
            Append: following.on_append,
            AppendReply: self._on_append_reply,
            AppendReject: self._on_append_reject,
            Heartbeat: following.on_heartbeat,
            HeartbeatReply: self._on_heartbeat_reply,
            PreVote: elections.on_pre_vote,
            PreVoteReply: elections.on_pre_vote_reply,
            Vote: elections.on_vote,
            VoteReply: elections.on_vote_reply,
            Snapshot: following.on_snapshot,
            TimeoutNow: elections.on_timeout_now,
            Rejoin: self._on_rejoin,
            Welcome: following.on_welcome,
            RepairRequest: self._repairs.on_request,
            Repair: self._repairs.on_repair,
        }
        self.use_membership()
        self.look_for_damage()
        self.start(now)

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
        return self._leadership is not None

    @property
    def is_ready(self) -> bool:
        """Leads, and has committed its own term's first entry: all earlier commits are known here."""
        return self._leadership is not None and self._leadership.has_committed

    @property
    def is_transferring(self) -> bool:
        """Leads, and is handing the leadership over: proposals are refused meanwhile."""
        return self._leadership is not None and self._leadership.is_transferring

    def may_be_led_in(self, term: Term, now: float) -> bool:
        """Whether who led in `term` may still take something, as far as this replica can tell: not when a
        newer term has begun, nor while leadership is handed over, nor when the leader has gone silent."""
        if term != self.term:
            return term > self.term
        if self._leadership is not None:
            return not self._leadership.is_transferring
        return not self._elections.is_leader_silent(now)

    @property
    def commit_index(self) -> RaftIndex:
        return self._engine.commit_index

    @property
    def applied_index(self) -> RaftIndex:
        """The last entry that `take_committed` has given out. The driver sets it back for a state machine
        that has to apply again from earlier on (h)."""
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
        if self._leadership is not None:
            return self._beat_due
        return min(self._elections.deadline, self._repairs.deadline)

    def followers(self, now: float) -> tuple[FollowerProgress, ...]:
        """How far the others are, as their leader knows; none where this replica does not lead."""
        return () if self._leadership is None else self._leadership.followers(now)

    @property
    def pending_proposals(self) -> int:
        return len(self._proposals)

    def statistics(self) -> dict[str, int | str | None]:
        return {
            "role": self.role.name.lower(),
            "term": self.term,
            "leader": self.leader,
            "last_index": self.log.last_index,
            "commit_index": self.commit_index,
            "applied_index": self.applied_index,
            "pending_proposals": len(self._proposals),
            "trusted": int(self.is_trusted),
        }

    # What a leader is asked for

    def propose(
        self, payload: bytes | bytearray | memoryview, record_count: int, now: float, on_done: OnDone
    ) -> Entry | NotLeader:
        """Append a batch, already stamped with `log.log_end_offset` and `term`, to the log.

        `on_done` is called once, from the driver's resolve phase, after the state machine applied the entry
        when the outcome is COMMITTED. When NotLeader is returned, nothing was written and `on_done` is never
        called; nothing is forwarded to the leader (i). The payload must not change afterwards.
        """
        leadership = self._leadership
        if leadership is None or leadership.is_transferring:
            return self._not_leader()
        entry = self.log.append(leadership.term, EntryKind.BATCH, payload, record_count)
        self._proposals.add(entry, on_done)
        self.on_work(self)
        return entry

    def propose_command(self, payload: bytes, on_done: OnDone) -> Entry | NotLeader:
        """As `propose`, for something that the state machine does and that takes no offset."""
        leadership = self._leadership
        if leadership is None or leadership.is_transferring:
            return self._not_leader()
        entry = self.log.append(leadership.term, EntryKind.NOOP, payload, 0)
        self._proposals.add(entry, on_done)
        self.on_work(self)
        return entry

    def propose_membership(
        self, membership: Membership, now: float, on_done: OnDone
    ) -> Entry | NotLeader | ChangeRefused:
        """Change the group by one server (e). It counts from now on, and is undone when another leader
        replaces the entry. A new voter must be a learner that holds all that is committed."""
        leadership = self._leadership
        if leadership is None or leadership.is_transferring:
            return self._not_leader()
        reason = leadership.refuse_change(membership, now)
        if reason is not None:
            return ChangeRefused(reason=reason)
        entry = self.log.append(leadership.term, EntryKind.MEMBERSHIP, membership.encode(), 0)
        self._memberships.add(entry.index, membership)
        self.use_membership()
        self._proposals.add(entry, on_done)
        self.on_work(self)
        return entry

    def _not_leader(self) -> NotLeader:
        return NotLeader(None if self.is_leader else self.leader, self.term)

    def read_barrier(self, now: float, on_ready: Callable[[bool], None]) -> None:
        """Calls `on_ready(True)` once this replica is known to have led after the call began, and has
        applied what was committed by then: maybe at once. `on_ready(False)` when it does not lead. A
        cancelled caller's `on_ready` is still called."""
        leadership = self._leadership
        if leadership is None:
            on_ready(False)
            return
        leadership.read(now, on_ready)
        for ready in leadership.take_reads(self.applied_index):
            ready(True)
        if leadership.wants_round:
            self.on_work(self)

    def transfer_leadership(self, to: BrokerId, now: float, why: Cause = Cause.AS_ASKED) -> str | None:
        """Hand leadership to another voter once it holds the whole log. Returns None when that is under way,
        else why not. Proposals are refused meanwhile, for one election time-out at most."""
        if self._leadership is None:
            return "this broker does not lead"
        refusal = self._leadership.transfer(to, now)
        if refusal is None:
            self.note(Kind.HANDING_OVER, why, to)
        self.on_work(self)
        return refusal

    def yield_leadership(self, now: float) -> bool:
        """Hand leadership to whoever can take it, if it is here and somebody can."""
        leadership = self._leadership
        successor = None if leadership is None else leadership.successor(now)
        return successor is not None and (
            self.transfer_leadership(successor, now, Cause.DISK_STALLED) is None
        )

    def peer_is_gone(self, broker: BrokerId, now: float) -> None:
        """The process of `broker` has ended, for certain: if it led, its successor need not wait for the
        election time-out. Only liveness rests on this being true, as long as no lease is in use."""
        if self._leadership is not None or self.leader != broker:
            return
        self._elections.leader_is_gone(now)
        self.on_work(self)

    def close(self) -> None:
        """The group is being removed: what is pending ends as MAY_STILL_HAPPEN, with the next resolve."""
        self._ending = (Cause.ENDED, None)
        self._engine.become_follower()

    # Phase 1: deliver

    def step(self, sender: BrokerId, message: Message, now: float) -> None:
        """Take a message of `sender`. What it makes this replica say is taken with `take_messages`."""
        self._now = now
        term = self._engine.term
        if (
            message.term != term and type(message) not in _ELECTION_KINDS
        ):  # those decide about terms themselves
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
        """Nothing of an old term counts (a); who leads in it is told that it is over."""
        if isinstance(message, Append | Heartbeat | Snapshot):
            self.say(sender, AppendReply(self.key, self.term, RaftIndex(0)))

    def _on_append_reply(self, sender: BrokerId, reply: AppendReply, now: float) -> None:
        leadership, peer = self._leadership, self._member(sender)
        if leadership is not None and peer is not None and leadership.on_match(peer, reply.match_index, now):
            self._commit_as_leader()

    def _on_append_reject(self, sender: BrokerId, reject: AppendReject, now: float) -> None:
        leadership, peer = self._leadership, self._member(sender)
        if leadership is not None and peer is not None:
            leadership.on_reject(peer, reject, now)

    def _on_heartbeat_reply(self, sender: BrokerId, reply: HeartbeatReply, now: float) -> None:
        leadership, peer = self._leadership, self._member(sender)
        if leadership is None or peer is None:
            return
        if leadership.on_heartbeat_reply(peer, reply.match_index, reply.round, now):
            self._commit_as_leader()

    def _on_rejoin(self, sender: BrokerId, rejoin: Rejoin, now: float) -> None:
        peer = self._member(sender)
        if self._leadership is not None and peer is not None:
            self._leadership.on_rejoin(peer, rejoin, now)

    def _member(self, broker: BrokerId) -> Peer | None:
        """Who is not in the membership is not counted, whatever it says (e)."""
        return self._engine.peers[broker] if broker in self.membership.members else None

    # The two messages of an idle group, without the turn that others take. They answer None and False when
    # there is more to do than to note who is alive.

    def hear_idle_heartbeat(
        self, sender: BrokerId, heartbeat: Heartbeat, now: float
    ) -> HeartbeatReply | None:
        if self._hard_state_unsynced:
            return None
        return self._following.on_idle_heartbeat(sender, heartbeat, now)

    def hear_idle_reply(self, sender: BrokerId, reply: HeartbeatReply, now: float) -> bool:
        """Whether that was all: the follower has everything, and nothing waits for its answer."""
        leadership = self._leadership
        peer = self._engine.peers.get(sender)
        if leadership is None or peer is None or reply.term != leadership.term:
            return False
        return leadership.on_idle_reply(peer, reply.match_index, reply.round, now)

    # Phase 2: tick

    def tick(self, now: float, unread_for: float = 0.0) -> bool:
        """What is due by the clock: heartbeats, check-quorum, elections. True when all it did was to beat.
        What followers said in the last `unread_for` seconds may have come and not be delivered."""
        self._now = now
        self.look_for_damage()
        leadership = self._leadership
        if leadership is None:
            if now >= self._elections.deadline:
                if self._leader_sends(now):
                    self._elections.leader_sends(now)
                elif not self._elections.excuse_leader(now):
                    self._elections.ask(now)
            if now >= self._repairs.deadline:
                self._repairs.ask(now)
            return False
        if now < self._beat_due:
            return False
        if not leadership.has_quorum(now - unread_for, self.bytes_heard):  # (g)
            is_late = now - self._beat_due > SILENT_BEATS * self._timing.heartbeat
            if self._is_excused or not is_late:
                self._ending = (Cause.NO_MAJORITY, None)
                self._engine.become_follower()
                return False
            self._is_excused = True  # this broker's loop came late: the answers may be in its sockets
        else:
            self._is_excused = False
        leadership.beat(now)
        self._beat_due = self._next_beat(now)
        if self.log.refused is not None:
            self._commit_as_leader()
            return False
        return not self._hard_state_unsynced

    def _leader_sends(self, now: float) -> bool:
        """Whether the leader's process is sending something large just now."""
        leader = self.leader
        return leader is not None and now - self.bytes_heard.get(leader, -FOREVER) < self._timing.election_min

    def take_beats(self) -> list[Addressed]:
        """The heartbeats that `tick` made, when it made nothing else."""
        out, self._out = self._out, []
        return out

    def _next_beat(self, now: float) -> float:
        """All groups of a broker beat at the same instants, so that their heartbeats share a frame."""
        if len(self.membership.members) == 1:
            return FOREVER
        period = self._timing.heartbeat
        due = (now // period + 1) * period
        return due if due - now > period / 2 else due + period

    # raftlog.raft.elections.ElectionOwner

    def say(self, to: BrokerId, message: Message) -> None:
        """Send once this replica's term and vote are durable."""
        self._out_synced.append((to, message))

    def note(self, kind: Kind, cause: Cause, other: BrokerId | None = None) -> None:
        self.on_event(self, kind, cause, other)

    def enter_term(self, term: Term, of: BrokerId) -> None:
        """A newer term, which `of` is in: whatever this replica was, it follows now; whom, it does not know
        yet. What it was about to promise in an older one is not said any more: the log that it spoke of may
        change now."""
        self._out_synced.clear()
        self._ending = (Cause.NEWER_TERM, of)
        self._engine.enter_term(term)
        self._elections.stop_asking()
        self._following.restart()

    def become_leader(self, now: float) -> None:
        engine = self._engine
        for peer in engine.peers.values():
            peer.reset()
        self._trust.regain()
        self.log.may_lack = False
        self._leadership = Leadership(
            self.key,
            self.term,
            self._self_id,
            self.log,
            engine.next_index,
            engine.match_index,
            self._memberships,
            self._timing,
            self._send_before_sync,
            window_of=self.window_of,
            on_room=lambda: self.on_work(self),
            on_snapshot=lambda to: self.note(Kind.SNAPSHOT_SENT, Cause.FAR_BEHIND, to),
            state_is_all=self._eager_commit,
        )
        self.use_membership()
        self._leadership.beat(now)
        self.note(Kind.LEADER, *self._elections.cause)

    def _send_before_sync(self, to: BrokerId, message: Message) -> None:
        self._out.append((to, message))

    # raftlog.raft.following.FollowingOwner

    def look_for_damage(self) -> None:
        """Bytes that had been acknowledged are not what was written: found at the start, by the scrub or by
        a read since. The replica leads no more, and asks the others for them; where it no longer knows what
        it had, it has itself filled anew. A group of one has nobody to ask: it stays as it is, and whoever
        reads the damage is told."""
        trust, found = self._trust, self.log.damage or self.log.rot
        if found is None:
            return
        is_alone = self.voters == {self._self_id}
        if found is not self._said_of:
            self._said_of = found
            self._say_damage(is_alone)
        if is_alone:
            return
        self._ending = (Cause.DAMAGED, None)
        if self.log.damage is None:
            self._engine.become_follower()
        elif not trust.must_drop_log:
            trust.must_drop_log = True
            trust.lose()
            self._engine.become_follower()

    def _say_damage(self, is_alone: bool) -> None:
        if is_alone:
            then = "what is damaged is not served, and there is no replica to repair it from"
        elif self.log.damage is not None:
            then = "the replica is filled anew by its leader, and votes for nobody until then"
        else:
            then = "it is not served, and repaired from another replica; this one does not lead until then"
        log.error("%s is damaged: %s: %s", self.log.dirname, self.log.problem, then)

    def can_fill_anew(self, asking: BrokerId, now: float) -> bool:
        leadership, peer = self._leadership, self._member(asking)
        return leadership is not None and peer is not None and leadership.can_do_without(peer, now)

    def log_was_repaired(self) -> None:
        self._is_stuck = False
        self.on_work(self)

    def use_membership(self) -> None:
        """Make the latest configuration in the log the one that counts."""
        membership, engine = self.membership, self._engine
        this = {self._self_id}
        engine.set_members(membership.voters - this, membership.learners - this, self.log.last_index)
        if self._leadership is not None:
            self._leadership.set_membership(membership, engine.peers, self._now)
            self._beat_due = self._next_beat(self._now)

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
        self._is_stuck = False
        self._cuts += 1

    def commit_to(self, index: RaftIndex) -> None:
        """At once, or in a later turn: what is committed late is only known late."""
        if self.log.commit_begins_file(index) and not self.may_begin_file(self):
            return
        entries = self.log.commit_to(index)
        if entries:
            self._engine.commit_index = entries[-1].index
            self._applying.committed(entries)
        if self.log.refused is not None and self._leadership is not None:  # a follower hears of it again
            self._beat_due = min(self._beat_due, self._now + self._timing.heartbeat)

    def commit_what_is_due(self, now: float) -> None:
        """What a turn before this one had no time for, as far as it is still to be committed."""
        self._now = now
        if self._leadership is not None:
            self._commit_as_leader()
        else:
            self._following.commit()

    # raftlog.raft.engine.EngineOwner

    def on_vote_wanted(self, of: BrokerId) -> None:
        self._elections.want_vote(of)

    def on_hard_state(self) -> None:
        self._hard_state_unsynced = _PENDING

    def on_leadership_ended(self) -> None:
        """Whatever waits for this leadership is answered (g). What was offered to nobody is removed."""
        leadership = self._leadership
        if leadership is None:
            return
        self._leadership = None
        self.note(Kind.STEPPED_DOWN, *self._ending)
        for peer in self._engine.peers.values():
            peer.reset()
        self._beat_due = FOREVER
        self._elections.postpone(self._now)
        offered = leadership.sent_index
        self._proposals.leadership_ended(offered)
        self._failed_reads += leadership.drop_reads()
        if self.log.last_index > offered:
            self.log.truncate_from(RaftIndex(offered + 1))
            self.log_was_cut(RaftIndex(offered + 1))
        self._following.restart()

    # Phase 3: persist

    def take_messages(self, now: float) -> list[Addressed]:
        """What may leave before this broker's own sync: what a leader sends, so that all disks work at
        once. Called once a turn, after everything was delivered."""
        if self.log.rot is not None:
            self.look_for_damage()
        leadership = self._leadership
        if leadership is not None:
            if leadership.wants_round:
                leadership.beat(now)
            try:
                leadership.replicate(now)
            except FileRefused:
                pass  # for want of a descriptor: the follower asks again
            except DamagedLog:
                self.look_for_damage()
        out = self._out
        if not out:
            return out
        self._out = []
        if self._hard_state_unsynced:
            self._out_synced += out
            return []
        return out

    @property
    def has_messages(self) -> bool:
        """There is something to send: a sync that completed a majority is told to the followers."""
        return bool(self._out)

    def on_written(self) -> None:
        """Everything that was pending is in the write that the driver syncs next."""
        if self._hard_state_unsynced == _PENDING:
            self._hard_state_unsynced = _WRITTEN

    # Phase 4: release

    def on_synced(self, now: float) -> None:
        """The last write is durable: acknowledge and count what rests on it."""
        if self._hard_state_unsynced == _WRITTEN:
            self._hard_state_unsynced = 0
        if self._leadership is not None:
            self._commit_as_leader()
        else:
            self._following.on_synced()

    def take_replies(self) -> list[Addressed]:
        """What may leave now that this broker's term and vote are durable; nothing while they are not."""
        out = self._out_synced
        if not out or self._hard_state_unsynced:
            return []
        self._out_synced = []
        return out

    def _commit_as_leader(self) -> None:
        assert self._leadership is not None
        index = self._leadership.committable_index()
        if index > self.log.commit_index:
            self.commit_to(index)
            if self._eager_commit:
                self._leadership.announce_commit()

    # Phase 5: resolve

    @property
    def has_committed(self) -> bool:
        """There is something to apply."""
        return self._applying.is_behind and self.log.damage is None and not self._is_stuck

    def take_committed(self) -> list[Entry]:
        """The next entries to apply, in order, a bounded number at a time (h); they count as applied."""
        if not self.has_committed:
            return []
        try:
            entries = self._applying.take()
        except FileRefused:
            return []
        except DamagedLog:
            self._is_stuck = True
            self.look_for_damage()
            return []
        if entries:
            self._engine.applied_index = self._applying.index
        return entries

    def take_done(self) -> list[Ended]:
        """Callbacks of the proposals that have ended since the last call, with how."""
        return self._proposals.take_ended(self._applying.index)

    @property
    def has_reads(self) -> bool:
        """There may be reads to answer."""
        return bool(self._failed_reads) or (self._leadership is not None and self._leadership.has_reads)

    def take_reads(self) -> list[tuple[Callable[[bool], None], bool]]:
        """Callbacks of the reads that may be answered, with whether this replica led."""
        reads = [(on_ready, False) for on_ready in self._failed_reads]
        self._failed_reads.clear()
        if self._leadership is not None:
            reads += [(on_ready, True) for on_ready in self._leadership.take_reads(self.applied_index)]
        return reads

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


_ELECTION_KINDS: Final = frozenset({PreVote, PreVoteReply, Vote, RepairRequest, Repair})
