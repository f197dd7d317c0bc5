"""Who may lead: pre-votes, votes, and when to ask for them. The counting of votes is SyncObj's.

It does not know what a leader does. Invariants: nobody gets a vote while a leader is heard, unless that
leader asked for the election; a voter counts once, and only a voter of the group; a replica that may lack
what it acknowledged neither votes nor wins, unless every voter takes part and has nothing: then there never
was anything that could have been acknowledged by a majority.

A replica that knows which entries it has, and cannot read the bytes of some (`GroupLog.rot`), votes as ever,
and does not ask. A vote says: what I acknowledged is in the candidate's log (Raft §5.4.1). That is compared
by term and index alone, which are intact; so whoever wins with that vote has every committed entry, and, not
knowing of damage itself, can give it to the others.
"""

from __future__ import annotations

from typing import Final, Protocol

from raftlog.raft.engine import Engine
from raftlog.raft.events import Cause, Kind
from raftlog.raft.messages import PreVote, PreVoteReply, TimeoutNow, Vote, VoteReply
from raftlog.raft.outbox import Outbox
from raftlog.raft.trust import Trust
from raftlog.raft.values import RaftTiming
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, Term

SILENT_BEATS: Final = 3
"""Heartbeats that do not come before a leader is doubted; elections wait longer."""
FAILED_MAX: Final = 2
"""Failed elections in a row that lengthen the next time-out, each by half its upper bound: where brokers are
too busy to answer in time, asking as often as before keeps them so."""


class ElectionOwner(Protocol):
    """The replica that asks and is asked."""

    @property
    def voters(self) -> frozenset[BrokerId]: ...
    @property
    def is_leader(self) -> bool: ...
    def enter_term(self, term: Term, of: BrokerId) -> None: ...
    def become_leader(self, now: float) -> None: ...
    def note(self, kind: Kind, cause: Cause, other: BrokerId | None = None) -> None:
        """Something happened that people want to know."""
        ...


class Elections:
    """Of one replica in one group."""

    def __init__(
        self,
        owner: ElectionOwner,
        key: GroupKey,
        self_id: BrokerId,
        log: GroupLog,
        engine: Engine,
        trust: Trust,
        outbox: Outbox,
        timing: RaftTiming,
    ) -> None:
        self._owner = owner
        self._key = key
        self._self_id = self_id
        self._log = log
        self._engine = engine
        self._trust = trust
        self._outbox = outbox
        self._timing = timing
        self._heard_at = float("-inf")
        self._timeout = timing.election_max
        self._is_excused = False
        self._pre_votes: dict[BrokerId, bool] | None = None
        self._votes: set[BrokerId] = set()
        self._wanted: list[BrokerId] = []
        self._gone: BrokerId | None = None
        self.cause: tuple[Cause, BrokerId | None] = (Cause.NO_LEADER, None)
        """Why this replica asked last."""

    # When

    def start(self, now: float, *, preferred: bool) -> None:
        """Time-outs run from `now` on. Who is alone is due at once, and so is who should lead a new group."""
        engine = self._engine
        is_new = engine.term == 0
        # A restart must not cut short the promise that a leader's lease rests on: whom this replica heard
        # before it counts as heard now. Who was never in any term has promised nothing.
        self._heard_at = float("-inf") if is_new else now
        at_once = self._is_alone or (is_new and preferred)
        engine.election_deadline = now if at_once else now + engine.election_timeout()

    @property
    def deadline(self) -> float:
        # A replica that lost its log asks as well, and wins only when all did; a damaged one does not.
        is_damaged = self._trust.must_drop_log or self._is_rotten
        may_ask = self._self_id in self._owner.voters and not is_damaged
        return self._engine.election_deadline if may_ask else float("inf")

    @property
    def _is_alone(self) -> bool:
        return self._owner.voters == {self._self_id}

    @property
    def _is_rotten(self) -> bool:
        """Bytes are damaged that others may have: this replica leads again when it has them. One that is
        alone can only go on without them."""
        return self._log.rot is not None and not self._is_alone

    @property
    def is_asking(self) -> bool:
        return self._pre_votes is not None

    def heard_leader(self, now: float) -> None:
        self._pre_votes = self._gone = None
        self.cause = (Cause.NO_LEADER, None)
        self._engine.failed_elections = 0  # before the next time-out is drawn
        self._timeout = self._engine.election_timeout()
        self.heard_idle_leader(now)

    def heard_idle_leader(self, now: float) -> None:
        """The same, where chance need not be asked again."""
        self._heard_at = now
        self._engine.failed_elections = 0
        self._is_excused = False
        self._engine.election_deadline = now + self._timeout

    def postpone(self, now: float) -> None:
        self._engine.election_deadline = now + self._engine.election_timeout()

    def excuse_leader(self, now: float) -> bool:
        """This broker's own loop came late to the deadline, so that what the leader said may lie unread in a
        socket. It is given half a time-out more, once: who was stopped must not call elections in all its
        groups because he himself was silent."""
        beats = SILENT_BEATS * self._timing.heartbeat
        is_late = now - self._engine.election_deadline > beats
        if not is_late or self._is_excused or self._engine.leader is None or self._heard_at == float("-inf"):
            return False
        self._is_excused = True
        self._engine.election_deadline = now + self._timeout / 2
        return True

    def leader_sends(self, now: float) -> None:
        """Part of something large has come from the leader's process."""
        self._engine.election_deadline = now + self._timeout

    def stop_asking(self) -> None:
        self._pre_votes = None

    def leader_is_gone(self, now: float) -> None:
        """Its process has ended: whoever asks soon may have the vote, and this replica asks soon."""
        self._heard_at = float("-inf")
        self._gone = self._engine.leader
        soon = now + self._engine.election_timeout() / 16
        self._engine.election_deadline = min(soon, self._engine.election_deadline)

    def is_leader_silent(self, now: float) -> bool:
        """Nothing was heard of a leader for several heartbeats: an election may be near."""
        return now - self._heard_at > SILENT_BEATS * self._timing.heartbeat

    def _hears_other_leader(self, now: float, asking: BrokerId) -> bool:
        """A leader is alive as far as this replica knows: then nobody gets a vote (f). Who led and now asks
        for votes leads no more."""
        if self._owner.is_leader:
            return True
        heard = now - self._heard_at < self._timing.election_min
        return heard and asking != self._engine.leader

    # Asking

    def ask(self, now: float) -> None:
        """Ask first who would vote, without a new term that would depose a leader (f)."""
        engine, log = self._engine, self._log
        if self._is_alone:
            self.cause = (Cause.ALONE, None)
            self.campaign(now, transfer=False)
            return
        self.cause = self._why(engine.leader)
        self._owner.note(Kind.ASKED, *self.cause)
        engine.leader = None
        engine.election_deadline = now + (
            engine.election_timeout() if engine.term else self._timing.heartbeat
        )
        self._pre_votes = {self._self_id: self._trust.is_lost}
        term = Term(engine.term + 1)
        request = PreVote(self._key, term, log.last_index, log.last_term, self._has_nothing)
        for broker in sorted(self._owner.voters - {self._self_id}):
            self._outbox.send_after_sync(broker, request)

    def _why(self, leader: BrokerId | None) -> tuple[Cause, BrokerId | None]:
        if leader is not None:
            return (Cause.PROCESS_ENDED if leader == self._gone else Cause.SILENT, leader)
        # Asked before, to no avail: the reason is still the same one.
        return self.cause if self.cause[0] in (Cause.SILENT, Cause.PROCESS_ENDED) else (Cause.NO_LEADER, None)

    def on_pre_vote_reply(self, sender: BrokerId, reply: PreVoteReply, now: float) -> None:
        term = self._engine.term
        if reply.term > term:
            # Without this a replica that is behind by a term asks for ever (canonical/raft #280).
            self._owner.enter_term(reply.term, sender)
            return
        votes, voters = self._pre_votes, self._owner.voters
        if votes is None or not reply.granted or reply.asked_term != term + 1 or sender not in voters:
            return
        votes[sender] = reply.fresh
        if not self._trust.is_lost and 2 * sum(not fresh for fresh in votes.values()) > len(voters):
            self.campaign(now, transfer=False)
        elif votes.keys() == voters and (self._log.last_index == 0 or all(votes.values())):
            # Whoever grants to an empty log has an empty one. What an emptied disk had acknowledged, with
            # others, would be on theirs; and the new term is above all that any of them has been in, so also
            # above every one in which an earlier self of an emptied one can have been elected.
            self.campaign(now, transfer=False, fresh=True)

    def _has_nothing_for(self, candidate: BrokerId) -> bool:
        """Whether this replica, which lost its log, may take part in the first election of a group: as one
        voter of it for another. Who only listens has joined a group that has a leader somewhere; who asks him
        goes by the members of before."""
        return self._log.last_index == 0 and {self._self_id, candidate} <= self._owner.voters

    @property
    def _has_nothing(self) -> bool:
        """Neither in the log, nor anything to be kept: what lets emptied replicas vote for this one."""
        return self._trust.is_lost or self._log.last_index == 0

    def campaign(self, now: float, *, transfer: bool, fresh: bool = False) -> None:
        """A new term, and SyncObj's election in it. `fresh`: the group is new, as all voters say."""
        assert not self._owner.is_leader
        self._pre_votes = None
        self._votes = {self._self_id}
        self._engine.failed_elections = min(self._engine.failed_elections + 1, FAILED_MAX)
        self._wanted = []
        if fresh:
            self.cause = (Cause.NEW_GROUP, None)
        engine, log = self._engine, self._log
        engine.campaign(now)
        self._owner.note(Kind.CANDIDATE, *self.cause)
        request = Vote(self._key, engine.term, log.last_index, log.last_term, transfer, fresh)
        for broker in sorted(self._wanted):  # SyncObj keeps its nodes in a set
            self._outbox.send_after_sync(broker, request)
        if engine.is_leader:
            self._owner.become_leader(now)

    def want_vote(self, of: BrokerId) -> None:
        """Within `campaign`: SyncObj would ask this voter."""
        self._wanted.append(of)

    def on_vote_reply(self, sender: BrokerId, reply: VoteReply, now: float) -> None:
        if not self._engine.is_candidate or not reply.granted:
            return
        if sender not in self._owner.voters or sender in self._votes:
            return  # a voter counts once (e)
        self._votes.add(sender)
        self._engine.count_vote(sender, reply.term, now)
        if self._engine.is_leader:
            self._pre_votes = None  # asked for again while the votes were still out
            self._engine.failed_elections = 0
            self._owner.become_leader(now)

    def on_timeout_now(self, sender: BrokerId, message: TimeoutNow, now: float) -> None:
        may_lead = not self._trust.is_lost and not self._is_rotten
        if sender == self._engine.leader and may_lead and self._self_id in self._owner.voters:
            self.cause = (Cause.HANDED_OVER, sender)
            self.campaign(now, transfer=True)

    # Being asked

    def on_pre_vote(self, sender: BrokerId, request: PreVote, now: float) -> None:
        log, term = self._log, self._engine.term
        if self._trust.is_lost:
            granted = request.fresh and self._has_nothing_for(sender)
        else:
            up_to_date = (request.last_term, request.last_index) >= (log.last_term, log.last_index)
            granted = request.term > term and up_to_date and not self._hears_other_leader(now, sender)
        reply = PreVoteReply(self._key, term, request.term, granted, self._trust.is_lost)
        self._outbox.send_after_sync(sender, reply)

    def on_vote(self, sender: BrokerId, request: Vote, now: float) -> None:
        engine = self._engine
        if request.term < engine.term:
            self._outbox.send_after_sync(sender, VoteReply(self._key, engine.term, False))
            return
        if self._trust.is_lost and not (request.fresh and self._has_nothing_for(sender)):
            return
        if self._hears_other_leader(now, sender) and not request.transfer:
            return
        if request.term > engine.term:
            self._owner.enter_term(request.term, sender)
        if engine.voted_for != sender:
            engine.consider_vote(sender, request.term, request.last_index, request.last_term, now)
            if engine.voted_for == sender:
                self._owner.note(Kind.VOTED, Cause.ASKED_FOR_VOTE, sender)
        granted = engine.voted_for == sender  # also when it was before: the answer may have been lost (j)
        if granted:
            self.postpone(now)
        self._outbox.send_after_sync(sender, VoteReply(self._key, engine.term, granted))
