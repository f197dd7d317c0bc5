"""What a follower does with what its leader sends: take it, acknowledge it once it is on disk, never lose
what it acknowledged.

It knows no votes and compares no terms: every message that it gets is of the current term.

Invariants:

- A follower removes an entry only where its term conflicts with the leader's, and never at or below the
  commit index. (SyncObj removes everything behind the leader's previous index, on every append.)
- A follower acknowledges only what is on its disk.
- In one term it hears one leader.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from raftlog.errors import InvalidInput, SafetyError
from raftlog.raft.elections import Elections
from raftlog.raft.engine import Engine
from raftlog.raft.membership import Memberships
from raftlog.raft.messages import (
    Append,
    AppendReject,
    AppendReply,
    Filled,
    Heartbeat,
    HeartbeatReply,
    Rejoin,
    Snapshot,
    Welcome,
)
from raftlog.raft.outbox import Outbox
from raftlog.raft.trust import Trust
from raftlog.raft.values import Membership
from raftlog.storage.entry import LOG_BEGIN, LogPoint
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, RaftIndex, Term

log = logging.getLogger("raftlog.raft")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The log is the leader's up to `match_index`; its end may not be on disk yet."""

    match_index: RaftIndex
    truncated_from: RaftIndex | None
    appended: int


class FollowingOwner(Protocol):
    """The replica that follows."""

    @property
    def is_leader(self) -> bool: ...
    def look_for_damage(self) -> None: ...
    def use_membership(self) -> None: ...
    def log_was_cut(self, from_index: RaftIndex) -> None: ...
    def log_was_replaced(self, index: RaftIndex) -> None: ...
    def commit_to(self, index: RaftIndex) -> None: ...


class Following:
    """How much of the current leader's log is here, and what the leader is still owed."""

    def __init__(
        self,
        owner: FollowingOwner,
        key: GroupKey,
        log: GroupLog,
        engine: Engine,
        elections: Elections,
        trust: Trust,
        memberships: Memberships,
        outbox: Outbox,
    ) -> None:
        self._owner = owner
        self._key = key
        self._log = log
        self._engine = engine
        self._elections = elections
        self._trust = trust
        self._memberships = memberships
        self._outbox = outbox
        self.restart()

    def restart(self) -> None:
        """The leader, the term or the log is another one. Up to the commit index this log equals the
        leader's. Whether it does behind that is not known yet."""
        self.match_index = self._log.commit_index
        """Up to here the log is the leader's. `durable_match` says how much of that is on disk."""
        self.leader_commit = RaftIndex(0)
        self._owes_ack = False

    @property
    def durable_match(self) -> RaftIndex:
        """What the follower may acknowledge."""
        if not self._trust.may_acknowledge:
            return RaftIndex(0)
        return RaftIndex(min(self.match_index, self._log.entries.synced_index))

    @property
    def committable_index(self) -> RaftIndex:
        """What the leader has committed, as far as the log is the leader's and is on disk."""
        return RaftIndex(min(self.leader_commit, self.match_index, self._log.entries.synced_index))

    # What a leader sends

    def on_append(self, sender: BrokerId, append: Append, now: float) -> None:
        self.hear_leader(sender, now)
        if not self._may_take_entries(sender):
            return
        try:
            self._log.entries.check_received(append.entries)
        except InvalidInput as error:  # as if it were lost on the way: the leader sends it again
            log.error("broker %d sent a damaged entry of %r: %s", sender, self._log, error)
            return
        result = self.append(append, self._engine.term)
        if isinstance(result, AppendReject):
            self._outbox.send_after_sync(sender, result)
            return
        if result.truncated_from is not None:
            self._owner.log_was_cut(result.truncated_from)
        if result.appended and self._memberships.learn(append.entries):
            self._owner.use_membership()
        self._release_ack()
        self.commit()

    def append(self, append: Append, term: Term) -> Accepted | AppendReject:
        result = accept(self._log, append, term)
        if isinstance(result, Accepted):
            self.matches_to(result.match_index)
            self.hear_commit(append.commit_index)
        return result

    def on_heartbeat(self, sender: BrokerId, heartbeat: Heartbeat, now: float) -> None:
        self.hear_leader(sender, now)
        self.hear_commit(heartbeat.commit_index)
        term, trust = self._engine.term, self._trust
        if trust.is_lost:
            self._outbox.send_after_sync(sender, Rejoin(self._key, term, trust.nonce))
        # An answer says that nobody else leads, as far as is known here. Who forgot everything cannot say so.
        if not trust.is_lost or trust.is_welcome:
            reply = HeartbeatReply(self._key, term, self.durable_match, heartbeat.round)
            self._outbox.send_after_sync(sender, reply)
        self.commit()

    def on_idle_heartbeat(self, sender: BrokerId, heartbeat: Heartbeat, now: float) -> HeartbeatReply | None:
        """The reply to a heartbeat that only says that the leader lives. The reply rests on nothing that is
        not on disk. None when the heartbeat says more, or this replica has more to say."""
        engine, log = self._engine, self._log
        if (
            heartbeat.term != engine.term
            or engine.leader != sender
            or heartbeat.commit_index > log.commit_index
            or log.damage.lost is not None
            or log.damage.rot is not None
            or self._trust.nonce
            or self._elections.is_asking
        ):
            return None
        self._elections.heard_idle_leader(now)
        return HeartbeatReply(self._key, heartbeat.term, self.durable_match, heartbeat.round)

    def on_snapshot(self, sender: BrokerId, snapshot: Snapshot, now: float) -> None:
        self.hear_leader(sender, now)
        if not self._may_take_entries(sender):
            return
        if install(self._log, snapshot):
            self._memberships.replace(snapshot.last_index, Membership.decode(snapshot.membership))
            self._owner.log_was_replaced(snapshot.last_index)
        self.matches_to(snapshot.last_index)
        self._release_ack()
        # Where this log held the whole snapshot already, the snapshot still says how far it is the leader's.
        self.commit()

    def on_filled(self, sender: BrokerId, filled: Filled, now: float) -> None:
        """As a snapshot of the leader. While no leader is known the log stays as it is."""
        log, leader, image = self._log, self._engine.leader, filled.image
        end = image.commit
        if self._owner.is_leader or leader is None or not self._may_take_entries(leader):
            return
        if not _is_behind(log, end.index, end.term):
            return
        membership = self._memberships.at(end.index)
        if image.membership is not None:
            membership = Membership.decode(image.membership.payload)
        log.cleaning.go_on_with(filled.dirname, image)
        self._memberships.replace(end.index, membership)
        self._owner.log_was_replaced(end.index)
        self.matches_to(end.index)

    def hear_leader(self, sender: BrokerId, now: float) -> None:
        """A message of this term's leader."""
        self._owner.look_for_damage()
        engine = self._engine
        leader = engine.leader
        if leader != sender:
            if leader is not None or self._owner.is_leader:
                raise SafetyError(f"brokers {leader} and {sender} both lead in term {engine.term}")
            engine.leader = sender
            self.restart()
        engine.become_follower()
        self._elections.heard_leader(now)

    def hear_commit(self, commit_index: RaftIndex) -> None:
        if commit_index > self.leader_commit:
            self.leader_commit = commit_index

    def matches_to(self, index: RaftIndex) -> None:
        if index > self.match_index:
            self.match_index = index
        self._owes_ack = True

    # What the leader is told

    def on_synced(self) -> None:
        """The last write is on disk: acknowledge and commit what was in it."""
        if self._owes_ack:
            self._acknowledge()
        self._regain_trust()
        self.commit()

    def _release_ack(self) -> None:
        """Acknowledge at once what is on disk already. The rest waits for its sync."""
        if self.match_index <= self._log.entries.synced_index:
            self._acknowledge()
        self._regain_trust()

    def _acknowledge(self) -> None:
        if not self._trust.may_acknowledge:
            return
        leader, match_index = self._engine.leader, self.durable_match
        self._owes_ack = leader is not None and match_index < self.match_index
        if leader is not None:
            self._outbox.send_after_sync(leader, AppendReply(self._key, self._engine.term, match_index))

    def commit(self) -> None:
        """Commit what the leader has committed, as far as it is here."""
        index = self.committable_index
        if index > self._log.commit_index:
            self._owner.commit_to(index)

    # A replica that lost its log

    def _may_take_entries(self, leader: BrokerId) -> bool:
        """Whether this replica may take the leader's entries. A replica that lost its log waits until the
        leader has forgotten its old acknowledgements. It drops a damaged log here and not before: now there
        is a leader to fill it again."""
        trust, log = self._trust, self._log
        if not trust.is_lost:
            return True
        if trust.must_drop_log:
            trust.must_drop_log = False
            log.promises.may_lack = (
                True  # the next start finds an empty log without damage, and must know this too
            )
            log.reset(*LOG_BEGIN, b"", LOG_BEGIN.membership(self._memberships.current.encode()))
            self._memberships.forget()
            self._owner.log_was_replaced(RaftIndex(0))
        if not trust.is_welcome:
            self._outbox.send_after_sync(leader, Rejoin(self._key, self._engine.term, trust.nonce))
        return trust.is_welcome

    def on_welcome(self, sender: BrokerId, welcome: Welcome, now: float) -> None:
        self.hear_leader(sender, now)
        self._trust.welcome(welcome)
        self._regain_trust()

    def _regain_trust(self) -> None:
        """To be asked whenever more of the leader's log is on the disk, and not only when the leader says
        something: this leader may have ended."""
        if self._trust.has_all(self.durable_match):
            self._trust.regain()
            self._log.promises.may_lack = False


def accept(log: GroupLog, append: Append, term: Term) -> Accepted | AppendReject:
    """Make the log what the leader's append, of the current term, says it is."""
    entries = append.entries
    prev_index = append.prev_index
    commit_index = log.commit_index
    end_index = RaftIndex(prev_index + len(entries))
    if prev_index < commit_index:
        # Every leader's log has every committed entry (Raft §5.4): up to there the logs match unseen.
        if end_index <= commit_index:
            return Accepted(commit_index, None, 0)
        entries = entries[commit_index - prev_index :]
        prev_index = commit_index
    elif log.term_at(prev_index) != append.prev_term:
        return _refuse(log, append, term)
    position = 0
    truncated_from = None
    for entry in entries:
        if entry.index != prev_index + 1 + position or entry.term > append.term:
            raise SafetyError(
                f"append after {prev_index} of term {append.term} holds {entry[:3]} at {position}"
            )
        if entry.index > log.last_index:
            break
        if log.term_at(entry.index) != entry.term:
            truncated_from = entry.index
            log.truncate_from(entry.index)
            break
        position += 1
    if position < len(entries):
        log.append_entries(entries[position:] if position else entries)
    return Accepted(end_index, truncated_from, len(entries) - position)


def _refuse(log: GroupLog, append: Append, term: Term) -> AppendReject:
    """Say where the two logs may agree, so that the leader skips a whole term at a time. That is the last
    entry here, at or before the refused one, whose term is not above the leader's previous term. The logs
    agree at the commit index for certain."""
    index = min(append.prev_index, log.last_index)
    while index > log.commit_index:
        here = log.term_at(index)
        if here is not None and here <= append.prev_term:
            break
        index = RaftIndex(index - 1)
    hint_term = log.term_at(index)
    assert hint_term is not None, (index, log.first_index, log.commit_index)
    return AppendReject(append.group, term, append.prev_index, index, hint_term)


def install(log: GroupLog, snapshot: Snapshot) -> bool:
    """Begin the log anew behind a leader's snapshot. False when the log holds the snapshot's last entry, or
    has committed past it: then the snapshot may wipe nothing."""
    if not _is_behind(log, snapshot.last_index, snapshot.last_term):
        return False
    start = LogPoint(snapshot.last_index, snapshot.last_term, snapshot.offset)
    log.reset(*start, snapshot.state, start.membership(snapshot.membership))
    return True


def _is_behind(log: GroupLog, index: RaftIndex, term: Term) -> bool:
    """Whether the log lacks the entry at `index`, which is committed."""
    return index > log.commit_index and log.term_at(index) != term
