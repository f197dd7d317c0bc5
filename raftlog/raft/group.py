"""This broker's replica of a Raft group, as the rest of the broker sees it: its state, the calls that others
make, and what the driver does for it in a turn (`flow`). Its decisions are in `replica` and its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from raftlog.errors import DamagedLog, FileRefused
from raftlog.raft.events import Cause
from raftlog.raft.flow import NOTHING, Ready
from raftlog.raft.messages import Addressed
from raftlog.raft.progress import FollowerProgress
from raftlog.raft.proposals import OnDone
from raftlog.raft.replica import Replica
from raftlog.raft.values import ChangeRefused, Membership, NotLeader
from raftlog.storage.entry import Entry, EntryKind
from raftlog.types import BrokerId, RaftIndex, Term


class RaftGroup(Replica):
    """One replica of one group.

    What its methods change in the log is durable only after the driver's next sync; the driver says so with
    `on_synced`. A replica that may lack what it once acknowledged (`is_trusted`) does not vote: its vote
    would count as if it still held that. When every voter of a group has nothing, the group is new, and they
    may elect; so the first start of a group needs all of its voters.
    """

    def __repr__(self) -> str:
        return (
            f"<RaftGroup {self.key.hex()[24:]} {self.role.name.lower()} term={self.term}"
            f" last={self.log.last_index} committed={self.commit_index}>"
        )

    # What it is

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
        """The last entry that was given out to be applied. The driver sets it back for a state machine
        that has to apply again from earlier on."""
        return self._applying.index

    @applied_index.setter
    def applied_index(self, index: RaftIndex) -> None:
        self._applying.restart(index)

    @property
    def is_membership_committed(self) -> bool:
        """Whether the membership in force can no longer be undone by another leader."""
        return self._memberships.index <= self.commit_index

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
        if self.log.rot is None:  # then there is nothing to repair
            return self._elections.deadline
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

    # What it wants in a turn (raftlog.raft.flow)

    def before_sync(self, now: float) -> Ready:
        """What is due before this broker's own sync: the news for the state machine, and a leader's messages.
        Called once a turn, after all was delivered."""
        news = self._take_news() if self._news.is_waiting else NOTHING
        if self.log.rot is not None:
            self.look_for_damage()
        if self._leading.leadership is not None:
            try:
                self._leading.replicate(now)
            except FileRefused:
                pass  # for want of a descriptor: the follower asks again
            except DamagedLog:
                self.look_for_damage()
        messages = self._outbox.take_before_sync()
        if not messages:
            return news
        if news is NOTHING:
            return Ready(None, None, (), None, messages)
        return news._replace(messages=messages)

    def _take_news(self) -> Ready:
        standing = (self.role, self.term, self.leader)
        return self._news.take(standing, self.applied_index, self._catch_up())

    def _catch_up(self) -> Iterator[Sequence[Entry]]:
        try:
            yield from self._applying.take_all()
        except FileRefused:  # who cannot read what is committed cannot lead
            self.step_down(Cause.UNREADABLE)

    def on_written(self) -> None:
        """Everything that was pending is in the write that the driver syncs next."""
        self._outbox.written()
        self._leading.written()

    def on_synced(self, now: float) -> None:
        """The last write is durable: acknowledge and count what rests on it."""
        self._outbox.synced()
        if self.is_leader:
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

    def take_beats(self) -> Sequence[Addressed]:
        """The heartbeats that `tick` made, when it made nothing else: an idle group has no turn for them."""
        return self._outbox.take_before_sync()

    def close(self) -> None:
        """The group ends here. What is pending ends as MAY_STILL_HAPPEN, with the next `after_sync`; nothing
        is applied any more."""
        self._applying.close()
        self.step_down(Cause.ENDED)
