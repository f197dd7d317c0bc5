"""A replica's side as leader: what it is asked for, what its followers answer, what its clock asks of it.

It holds a `Leadership` while this replica leads. While it does not, a proposal is refused and an answer is
not counted; nothing is forwarded to whoever leads. What waits for a leadership is answered when that ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from raftlog.raft.elections import SILENT_BEATS
from raftlog.raft.engine import Engine, Peer
from raftlog.raft.events import Cause, Kind
from raftlog.raft.leadership import Leadership
from raftlog.raft.membership import Memberships
from raftlog.raft.messages import AppendReject, AppendReply, HeartbeatReply, Rejoin
from raftlog.raft.outbox import Outbox
from raftlog.raft.progress import PeerWindow
from raftlog.raft.proposals import OnDone, Proposals
from raftlog.raft.values import ChangeRefused, Membership, NotLeader, RaftTiming
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, RaftIndex

FOREVER: Final = float("inf")

OnReady = Callable[[bool], None]


class LeadingOwner(Protocol):
    """The replica that leads, or does not."""

    def wake(self) -> None:
        """There is work for the next turn."""
        ...

    def note(self, kind: Kind, cause: Cause, other: BrokerId | None = None) -> None: ...
    def step_down(self, cause: Cause) -> None: ...
    def use_membership(self) -> None: ...
    def commit_to(self, index: RaftIndex) -> None: ...
    def log_was_cut(self, from_index: RaftIndex) -> None: ...


class LeadingHooks(Protocol):
    """What whoever drives the replica tells."""

    bytes_heard: Mapping[BrokerId, float]
    window_of: Callable[[BrokerId], PeerWindow]


class Leading:
    """Of one replica in one group."""

    def __init__(
        self,
        owner: LeadingOwner,
        hooks: LeadingHooks,
        key: GroupKey,
        self_id: BrokerId,
        log: GroupLog,
        engine: Engine,
        memberships: Memberships,
        outbox: Outbox,
        timing: RaftTiming,
        *,
        eager_commit: bool,
    ) -> None:
        self.leadership: Leadership | None = None
        self.beat_due = FOREVER
        self.proposals = Proposals()
        self.ending: tuple[Cause, BrokerId | None] = (Cause.ENDED, None)
        """Why the leadership here ends, once it does."""
        self._owner = owner
        self._hooks = hooks
        self._key = key
        self._self_id = self_id
        self._log = log
        self._engine = engine
        self._memberships = memberships
        self._outbox = outbox
        self._timing = timing
        self._eager_commit = eager_commit
        self._is_excused = False
        self._failed_reads: list[OnReady] = []
        self._written_index = RaftIndex(0)
        """Up to here entries of this leadership have been offered to the disk."""

    # Its begin and its end

    def begin(self, electors: set[BrokerId] | None, now: float) -> None:
        """This replica was elected; its no-op is in the log. `electors`: see `Elections`."""
        owner, engine = self._owner, self._engine
        for peer in engine.peers.values():
            peer.reset()
        self.leadership = Leadership(
            self._key,
            engine.term,
            self._self_id,
            self._log,
            engine.next_index,
            engine.match_index,
            self._memberships,
            self._timing,
            self._outbox.send_before_sync,
            window_of=self._hooks.window_of,
            on_room=owner.wake,
            on_snapshot=lambda to: owner.note(Kind.SNAPSHOT_SENT, Cause.FAR_BEHIND, to),
            electors=electors,
            state_is_all=self._eager_commit,
        )
        owner.use_membership()
        self.leadership.beat(now)

    def end(self) -> None:
        """The leadership is over. Whatever waits for it is answered in the next turn. Entries that were
        offered to no disk and no peer leave the log again."""
        leadership, log = self.leadership, self._log
        assert leadership is not None
        self.leadership = None
        self._owner.note(Kind.STEPPED_DOWN, *self.ending)
        for peer in self._engine.peers.values():
            peer.reset()
        self.beat_due = FOREVER
        offered = max(leadership.sent_index, self._written_index)
        self._written_index = RaftIndex(0)
        self.proposals.leadership_ended(offered)
        self._failed_reads += leadership.reads.drop()
        if log.last_index > offered:
            log.truncate_from(RaftIndex(offered + 1))
            self._owner.log_was_cut(RaftIndex(offered + 1))

    def set_membership(self, membership: Membership, now: float) -> None:
        if self.leadership is not None:
            self.leadership.set_membership(membership, self._engine.peers, now)
            self.beat_due = self._next_beat(now)

    # What it is asked for

    def propose(
        self, kind: EntryKind, payload: bytes | bytearray | memoryview, record_count: int, on_done: OnDone
    ) -> Entry | NotLeader:
        """Append to the log a BATCH, already stamped with `log.log_end_offset` and `term`, or a NOOP: a
        command for the state machine, which takes no offset.

        `on_done` is called once, from a turn of the driver. When the outcome is COMMITTED, the state machine
        has applied the entry by then. When NotLeader is returned, nothing was written, nothing is forwarded
        to the leader, and `on_done` is never called. The payload must not change afterwards.
        """
        leadership = self.leadership
        if leadership is None or leadership.is_transferring:
            return self._refusal()
        entry = self._log.append(leadership.term, kind, payload, record_count)
        self.proposals.add(entry, on_done)
        self._owner.wake()
        return entry

    def propose_membership(
        self, membership: Membership, now: float, on_done: OnDone
    ) -> Entry | NotLeader | ChangeRefused:
        """Change the group by one server. The change counts from now on. It is undone when another leader
        replaces the entry. A new voter must be a learner that holds all that is committed."""
        leadership = self.leadership
        if leadership is None or leadership.is_transferring:
            return self._refusal()
        reason = leadership.refuse_change(membership, now)
        if reason is not None:
            return ChangeRefused(reason=reason)
        entry = self._log.append(leadership.term, EntryKind.MEMBERSHIP, membership.encode(), 0)
        self._memberships.add(entry.index, membership)
        self._owner.use_membership()
        self.proposals.add(entry, on_done)
        self._owner.wake()
        return entry

    def _refusal(self) -> NotLeader:
        return NotLeader(None if self.leadership is not None else self._engine.leader, self._engine.term)

    def read_barrier(self, now: float, on_ready: OnReady, applied_index: RaftIndex) -> None:
        """See `RaftGroup.read_barrier`."""
        leadership = self.leadership
        if leadership is None:
            on_ready(False)
            return
        leadership.reads.add(now, self._log.commit_index, on_ready)
        for ready in leadership.take_reads(applied_index):
            ready(True)
        if leadership.reads.is_round_wanted:
            self._owner.wake()

    def transfer(self, to: BrokerId, now: float, why: Cause = Cause.AS_ASKED) -> str | None:
        """Hand leadership to another voter once it holds the whole log. Returns None when that is under way,
        else why not. Proposals are refused meanwhile, for one election time-out at most."""
        if self.leadership is None:
            return "this broker does not lead"
        refusal = self.leadership.transfer(to, now)
        if refusal is None:
            self._owner.note(Kind.HANDING_OVER, why, to)
        self._owner.wake()
        return refusal

    # What followers answer

    def on_append_reply(self, sender: BrokerId, reply: AppendReply, now: float) -> None:
        leadership, peer = self.leadership, self._member(sender)
        if (
            leadership is not None
            and peer is not None
            and leadership.on_match(peer, peer.counted(reply.match_index), now)
        ):
            self.commit()

    def on_append_reject(self, sender: BrokerId, reject: AppendReject, now: float) -> None:
        leadership, peer = self.leadership, self._member(sender)
        if leadership is not None and peer is not None:
            leadership.on_reject(peer, reject, now)

    def on_heartbeat_reply(self, sender: BrokerId, reply: HeartbeatReply, now: float) -> None:
        leadership, peer = self.leadership, self._member(sender)
        if leadership is None or peer is None:
            return
        if leadership.on_heartbeat_reply(peer, reply.match_index, reply.round, now):
            self.commit()

    def on_idle_reply(self, sender: BrokerId, reply: HeartbeatReply, now: float) -> bool:
        """Whether the answer says only that the follower lives: it has all, and nothing waits for it."""
        leadership = self.leadership
        peer = self._engine.peers.get(sender)
        if leadership is None or peer is None or reply.term != leadership.term:
            return False
        return leadership.on_idle_reply(peer, reply.match_index, reply.round, now)

    def on_rejoin(self, sender: BrokerId, rejoin: Rejoin, now: float) -> None:
        leadership, peer = self.leadership, self._member(sender)
        if leadership is not None and peer is not None:
            leadership.on_rejoin(peer, rejoin, now)

    def can_fill_anew(self, asking: BrokerId, now: float) -> bool:
        leadership, peer = self.leadership, self._member(asking)
        return leadership is not None and peer is not None and leadership.can_do_without(peer, now)

    def _member(self, broker: BrokerId) -> Peer | None:
        """Only a member of the group is counted, whatever another broker says."""
        is_member = broker in self._memberships.current.members
        return self._engine.peers[broker] if is_member else None

    def commit(self) -> None:
        """Commit what a majority of the voters has on disk."""
        leadership = self.leadership
        assert leadership is not None
        index = leadership.committable_index()
        if index > self._log.commit_index:
            self._owner.commit_to(index)
            if self._eager_commit:
                leadership.announce_commit()

    # What its clock asks

    def tick(self, now: float, unread_for: float) -> bool:
        """Send heartbeats when they are due, or step down without a majority. True when it only made
        heartbeats. `unread_for`: see `Turning.tick`."""
        leadership = self.leadership
        assert leadership is not None
        if now < self.beat_due:
            return False
        if not leadership.has_quorum(now - unread_for, self._hooks.bytes_heard):
            is_late = now - self.beat_due > SILENT_BEATS * self._timing.heartbeat
            if self._is_excused or not is_late:
                self._owner.step_down(Cause.NO_MAJORITY)
                return False
            self._is_excused = True  # this broker's loop came late: the answers may be in its sockets
        else:
            self._is_excused = False
        leadership.beat(now)
        self.beat_due = self._next_beat(now)
        if self._log.refused is not None:
            self.commit()
            return False
        return True

    def _next_beat(self, now: float) -> float:
        """All groups of a broker beat at the same instants, so that their heartbeats share a frame."""
        if len(self._memberships.current.members) == 1:
            return FOREVER
        period = self._timing.heartbeat
        due = (now // period + 1) * period
        return due if due - now > period / 2 else due + period

    def beat_soon(self, now: float) -> None:
        self.beat_due = min(self.beat_due, now + self._timing.heartbeat)

    # What a turn takes

    def replicate(self, now: float) -> None:
        """Send what the followers lack, and the heartbeat that a read waits for."""
        leadership = self.leadership
        if leadership is not None:
            if leadership.reads.is_round_wanted:
                leadership.beat(now)
            leadership.replicate(now)

    @property
    def has_unsent(self) -> bool:
        """Entries wait for `replicate`: the state machine proposed after this turn's."""
        return self.leadership is not None and self.leadership.sent_index < self._log.last_index

    def written(self) -> None:
        """What the log holds is in the write that is synced next."""
        if self.leadership is not None:
            self._written_index = self._log.last_index

    @property
    def has_reads(self) -> bool:
        leadership = self.leadership
        return bool(self._failed_reads) or (leadership is not None and leadership.reads.is_waiting)

    def take_reads(self, applied_index: RaftIndex) -> Sequence[tuple[OnReady, bool]]:
        """Callbacks of the reads that may be answered, with whether this replica led."""
        reads = [(on_ready, False) for on_ready in self._failed_reads]
        self._failed_reads.clear()
        if self.leadership is not None:
            reads += [(on_ready, True) for on_ready in self.leadership.take_reads(applied_index)]
        return reads
