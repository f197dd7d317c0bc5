"""Who may lead: pre-votes, votes, and when to ask for them. The counting of votes is SyncObj's.

It does not know what a leader does. Invariants:

- While a replica hears a leader it votes for nobody else, unless that leader asked for the election.
- Only voters of the group are counted, and each once.
- A replica that may lack what it acknowledged does not vote and does not win (`trust`). The exception is a
  group of which every voter takes part and has an empty log: no majority can have acknowledged anything.

A replica that cannot read the bytes of an entry (`LogDamage.rot`) votes, and asks for no votes. A vote says
that the candidate's log has every entry that the voter acknowledged (Raft §5.4.1). The voter compares terms
and indexes for that, and those it still has. The candidate that wins has every committed entry and can send
it, since a candidate has no damage that it knows of.
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
SENDS_MAX: Final = 3
"""Election time-outs, of the longest, for which a leader is waited for whose process only sends bytes."""
FAILED_MAX: Final = 2
"""Failed elections in a row that lengthen the next time-out, each by half the upper bound. Brokers may be too
busy to answer in time; to ask them as often as before keeps them busy."""


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
        self._votes_until = float("-inf")
        self._wanted: list[BrokerId] = []
        self._granted_fresh: dict[BrokerId, tuple[Term, int]] = {}
        """To whom this replica, which lost its log, has granted a pre-vote: the term, and the number of the
        loss."""
        self.electors: set[BrokerId] | None = None
        """After an election in which no voter had an entry: the other voters that had not lost their log.
        None after any other."""
        self._gone: BrokerId | None = None
        self.cause: tuple[Cause, BrokerId | None] = (Cause.NO_LEADER, None)
        """Why this replica asked last."""

    # When

    def start(self, now: float, *, preferred: bool) -> None:
        """Time-outs run from `now` on. Who is alone is due at once, and so is who should lead a new group."""
        engine = self._engine
        is_new = engine.term == 0
        # A leader's lease rests on this replica's promise to refuse its vote for a while. A restart must not
        # cut that short, so a leader counts as heard now. A replica that was in no term has promised nothing.
        self._heard_at = float("-inf") if is_new else now
        at_once = self._is_alone or (is_new and preferred)
        engine.election_deadline = now if at_once else now + engine.election_timeout()

    @property
    def deadline(self) -> float:
        # A replica with an empty log asks too: it wins when all have one. A replica with a damaged log does
        # not.
        is_damaged = self._trust.must_drop_log or self._is_rotten
        may_ask = self._self_id in self._owner.voters and not is_damaged
        return self._engine.election_deadline if may_ask else float("inf")

    @property
    def _is_alone(self) -> bool:
        return self._owner.voters == {self._self_id}

    @property
    def _is_rotten(self) -> bool:
        """An entry is damaged that another replica may have: this one does not lead until it is repaired. A
        group of one has no other replica, and goes on."""
        return self._log.damage.rot is not None and not self._is_alone

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
        """As `heard_leader`, with the time-out that was drawn before."""
        self._heard_at = now
        self._engine.failed_elections = 0
        self._is_excused = False
        self._engine.election_deadline = now + self._timeout

    def postpone(self, now: float) -> None:
        self._engine.election_deadline = now + self._engine.election_timeout()

    def excuse_leader(self, now: float) -> bool:
        """Whether to wait for the leader a little longer. This broker's own loop may come late to the
        deadline (it was stopped, or starved), and the leader's heartbeat may lie unread in a socket. The
        leader gets half a time-out more, once. Otherwise a broker that was stopped would call elections in
        all its groups."""
        beats = SILENT_BEATS * self._timing.heartbeat
        is_late = now - self._engine.election_deadline > beats
        if not is_late or self._is_excused or self._engine.leader is None or self._heard_at == float("-inf"):
            return False
        self._is_excused = True
        self._engine.election_deadline = now + self._timeout / 2
        return True

    def leader_sends(self, now: float) -> bool:
        """Part of something large has come from the leader's process. Whether to wait for the leader: not for
        ever, since that process may send it for other groups, and lead this one no more."""
        if now - self._heard_at > SENDS_MAX * self._timing.election_max:
            return False
        self._engine.election_deadline = now + self._timeout
        return True

    def stop_asking(self) -> None:
        self._pre_votes = None

    def leader_is_gone(self, now: float) -> None:
        """The leader's process has ended. From now on this replica refuses no candidate its vote for that
        leader's sake. Soon it asks for votes itself."""
        self._heard_at = float("-inf")
        self._gone = self._engine.leader
        soon = now + self._engine.election_timeout() / 16
        self._engine.election_deadline = min(soon, self._engine.election_deadline)

    def is_leader_silent(self, now: float) -> bool:
        """Nothing was heard of a leader for several heartbeats: an election may be near."""
        return now - self._heard_at > SILENT_BEATS * self._timing.heartbeat

    def _hears_other_leader(self, now: float, asking: BrokerId) -> bool:
        """Whether this replica hears a leader, and therefore refuses its vote: a broker that was cut off must
        not depose the leader when it comes back. When the leader itself asks for votes, it leads no more."""
        if self._owner.is_leader:
            return True
        heard = now - self._heard_at < self._timing.election_min
        return heard and asking != self._engine.leader

    # Asking

    def ask(self, now: float) -> None:
        """Ask the others whether they would vote (a pre-vote). It begins no term, and so deposes no
        leader."""
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
            # Every voter grants. Either this log is empty, and a voter with an entry would have refused; or
            # every voter says that its log is lost. So no log holds an entry. An entry that an emptied
            # replica had acknowledged together with others would be in the log of one of them. The new term
            # is above every term that a voter was in, and so above those in which an emptied one was elected.
            self.campaign(now, transfer=False, fresh=True)

    def _has_nothing_for(self, candidate: BrokerId) -> bool:
        """Whether this replica, which lost its log, may vote in the first election of a group. Both it and
        the candidate must be voters. A learner has joined a group that has a leader already; a candidate that
        asks a learner for its vote goes by an older membership."""
        return self._log.last_index == 0 and {self._self_id, candidate} <= self._owner.voters

    @property
    def _has_nothing(self) -> bool:
        """The log is empty or lost. The request says so: it lets replicas without a log vote for this one."""
        return self._trust.is_lost or self._log.last_index == 0

    def campaign(self, now: float, *, transfer: bool, fresh: bool = False) -> None:
        """Begin a new term, and SyncObj's election in it. `fresh`: every voter has said that its log is
        empty."""
        assert not self._owner.is_leader
        asked = self._pre_votes or {}
        others = {voter for voter, is_lost in asked.items() if not is_lost} - {self._self_id}
        self.electors = others if fresh else None
        self._pre_votes = None
        self._votes = {self._self_id}
        self._votes_until = now + self._timing.vote_life
        self._engine.failed_elections = min(self._engine.failed_elections + 1, FAILED_MAX)
        self._wanted = []
        if fresh:
            self.cause = (Cause.NEW_GROUP, None)
        engine, log = self._engine, self._log
        self._trust.forget_leader()  # that of the term before
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
        if not self._engine.is_candidate or not reply.granted or now > self._votes_until:
            return
        if sender not in self._owner.voters or sender in self._votes:
            return  # each voter counts once
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
            if granted:
                self._granted_fresh[sender] = (request.term, self._trust.nonce)
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
        # A request that was sent before the loss may come after it. Before the loss this replica may have
        # voted for another candidate of that term. So it votes only for whom it has granted a pre-vote since.
        was_asked = self._granted_fresh.get(sender) == (request.term, self._trust.nonce)
        if self._trust.is_lost and not (request.fresh and was_asked and self._has_nothing_for(sender)):
            return
        if self._hears_other_leader(now, sender) and not request.transfer:
            return
        if request.term > engine.term:
            self._owner.enter_term(request.term, sender)
        if engine.voted_for != sender:
            engine.consider_vote(sender, request.term, request.last_index, request.last_term, now)
            if engine.voted_for == sender:
                self._owner.note(Kind.VOTED, Cause.ASKED_FOR_VOTE, sender)
        granted = engine.voted_for == sender  # also when it voted so before: that reply may have been lost
        if granted:
            self.postpone(now)
        self._outbox.send_after_sync(sender, VoteReply(self._key, engine.term, granted))
