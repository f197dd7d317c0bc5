"""How a driver turns a replica (`flow`): messages for the replica go in, what it wants done comes out.

This is where the term of a message is compared with the replica's, and where each message is handed to the
part that it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from raftlog.errors import DamagedLog, FileRefused
from raftlog.raft.events import Cause
from raftlog.raft.flow import NOTHING, Ready
from raftlog.raft.leading import FOREVER
from raftlog.raft.messages import (
    Addressed,
    Append,
    AppendReject,
    AppendReply,
    Filled,
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
from raftlog.raft.replica import Replica
from raftlog.raft.values import RaftTiming
from raftlog.storage.entry import Entry
from raftlog.types import BrokerId, RaftIndex


class Turning:
    """Of one replica."""

    def __init__(self, replica: Replica, timing: RaftTiming, *, preferred: bool) -> None:
        parts = replica.parts
        self.replica = replica
        self.hooks = replica.hooks
        self.log = replica.log
        self._timing = timing
        self._is_preferred = preferred
        self._applying, self._outbox, self._news = parts.applying, parts.outbox, parts.news
        self._engine, self._elections = parts.engine, parts.elections
        self._following, self._leading, self._repairs = parts.following, parts.leading, parts.repairs
        self._handlers = self._handlers_of_messages()

    def __repr__(self) -> str:
        return f"<Turning {self.replica!r}>"

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
            Filled: following.on_filled,
        }

    def wake(self) -> None:
        """There is work for the next turn."""
        self.replica.wake()

    def start(self, now: float) -> None:
        """Time-outs run from `now` on. A group of one is due for its election at once."""
        self._elections.start(now, preferred=self._is_preferred)

    # What comes in

    def step(self, sender: BrokerId, message: Message, now: float) -> None:
        """Take a message of `sender`. What it makes this replica say leaves with the turn."""
        self.replica.now = now
        term = self._engine.term
        if message.term != term and type(message) not in _JUDGE_TERMS:
            if message.term < term:
                self._refuse_old_term(sender, message)
                return
            self.replica.enter_term(message.term, sender)
        try:
            self._handlers[type(message)](sender, message, now)
        except FileRefused:
            pass  # a segment cannot be opened for now: who asked asks again
        except DamagedLog:  # a follower asked for what cannot be read any more
            self.replica.look_for_damage()

    def _refuse_old_term(self, sender: BrokerId, message: Message) -> None:
        """Nothing of an old term counts. Who still leads in it is told that a newer one has begun."""
        if isinstance(message, Append | Heartbeat | Snapshot):
            self._outbox.send_after_sync(
                sender, AppendReply(self.replica.key, self._engine.term, RaftIndex(0))
            )

    # A heartbeat and its reply in an idle group need no turn. None or False means that the message says more
    # than that its sender lives: then it is for `step`.

    def hear_idle_heartbeat(
        self, sender: BrokerId, heartbeat: Heartbeat, now: float
    ) -> HeartbeatReply | None:
        if not self._outbox.is_hard_state_durable:
            return None
        return self._following.on_idle_heartbeat(sender, heartbeat, now)

    def hear_idle_reply(self, sender: BrokerId, reply: HeartbeatReply, now: float) -> bool:
        return self._leading.on_idle_reply(sender, reply, now)

    def tick(self, now: float, unread_for: float = 0.0) -> bool:
        """Do what is due by the clock: heartbeats, check-quorum, elections. True when it only made heartbeats
        (`take_beats`). Messages of the last `unread_for` seconds may lie unread in the sockets: a leader does
        not step down for want of answers that may be among them."""
        self.replica.now = now
        self.replica.look_for_damage()
        if self._leading.leadership is not None:
            return self._leading.tick(now, unread_for) and self._outbox.is_hard_state_durable
        if now >= self._elections.deadline:
            is_awaited = self._leader_sends(now) and self._elections.leader_sends(now)
            if not is_awaited and not self._elections.excuse_leader(now):
                self._elections.ask(now)
        if now >= self._repairs.deadline:
            self._repairs.ask(now)
        return False

    def _leader_sends(self, now: float) -> bool:
        """Whether the leader's process is sending something large just now."""
        leader = self._engine.leader
        return (
            leader is not None
            and now - self.hooks.bytes_heard.get(leader, -FOREVER) < self._timing.election_min
        )

    def take_beats(self) -> Sequence[Addressed]:
        """The heartbeats that `tick` made, when it made nothing else."""
        return self._outbox.take_before_sync()

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do next; FOREVER for who only listens."""
        leading = self._leading
        if leading.leadership is not None:
            return leading.beat_due
        if self.log.damage.rot is None:  # then there is nothing to repair
            return self._elections.deadline
        return min(self._elections.deadline, self._repairs.deadline)

    def yield_leadership(self, now: float, among: Collection[BrokerId] | None = None) -> bool:
        """The disk here stalls: hand leadership, if it is here, to a replica whose disk does not; `among`
        these brokers, where it matters."""
        leadership = self._leading.leadership
        successor = None if leadership is None else leadership.successor(now, among)
        return successor is not None and self._leading.transfer(successor, now, Cause.DISK_STALLED) is None

    def peer_is_gone(self, broker: BrokerId, now: float) -> None:
        """The process of `broker` has ended. If it led this group, its successor need not wait for the
        election time-out. Should it not have ended after all, an election comes too early, and nothing worse
        happens as long as no lease is in use."""
        replica = self.replica
        if replica.is_leader or replica.leader != broker:
            return
        self._elections.leader_is_gone(now)
        replica.wake()

    # What it wants in a turn (raftlog.raft.flow)

    def before_sync(self, now: float) -> Ready:
        """What is due before this broker's own sync: the news for the state machine, and a leader's messages.
        Called once a turn, after all was delivered."""
        news = self._take_news() if self._news.is_waiting else NOTHING
        if self.log.damage.rot is not None:
            self.replica.look_for_damage()
        if self._leading.leadership is not None:
            try:
                self._leading.replicate(now)
            except FileRefused:
                pass  # for want of a descriptor: the follower asks again
            except DamagedLog:
                self.replica.look_for_damage()
        messages = self._outbox.take_before_sync()
        if not messages:
            return news
        if news is NOTHING:
            return Ready(None, None, (), None, messages)
        return news._replace(messages=messages)

    def _take_news(self) -> Ready:
        replica = self.replica
        standing = (replica.role, replica.term, replica.leader)
        return self._news.take(standing, self._applying.index, self._catch_up())

    def _catch_up(self) -> Iterator[Sequence[Entry]]:
        try:
            yield from self._applying.take_all()
        except FileRefused:  # who cannot read what is committed cannot lead
            self.replica.step_down(Cause.UNREADABLE)

    def on_written(self) -> None:
        """Everything that was pending is in the write that the driver syncs next."""
        self._outbox.written()
        self._leading.written()

    def on_synced(self, now: float) -> None:
        """The last write is durable: acknowledge and count what rests on it."""
        self._outbox.synced()
        if self._leading.leadership is not None:
            self._leading.commit()
        else:
            self._following.on_synced()

    def after_sync(self) -> Ready:
        """What may leave, be applied and be answered. Called once a turn, after the sync of this turn if
        there was one; what rests on a sync that is still under way is not in it."""
        applying, leading, commit_index = self._applying, self._leading, self.log.commit_index
        replies = self._outbox.take_after_sync()
        committed = applying.take() if applying.index < commit_index else ()
        ended = leading.proposals.take_ended(applying.index) if leading.proposals else ()
        reads = leading.take_reads(applying.index) if leading.has_reads else ()
        has_more = (
            (applying.index < commit_index and applying.is_behind)
            or leading.has_unsent
            or self._outbox.has_early
            or self._news.is_waiting
        )
        if not (replies or committed or ended or reads or has_more):
            return NOTHING
        return Ready(None, None, (), None, (), replies, committed, ended, reads, has_more)

    def commit_what_is_due(self, now: float) -> None:
        """Commit what an earlier turn had no time for. A replica that has stopped leading since then commits
        only what its new leader has committed."""
        self.replica.now = now
        if self._leading.leadership is not None:
            self._leading.commit()
        else:
            self._following.commit()

    def close(self) -> None:
        """The group ends here. What is pending ends as MAY_STILL_HAPPEN, with the next `after_sync`; nothing
        is applied any more."""
        self._applying.close()
        self.replica.step_down(Cause.ENDED)


_JUDGE_TERMS: Final = frozenset({PreVote, PreVoteReply, Vote, RepairRequest, Repair})
"""Messages of which the part that takes them compares the terms itself."""
