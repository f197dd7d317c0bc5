"""A Raft group of this broker: PySyncObj's Raft, with the guards that keep what was acknowledged.

The only importer of pysyncobj and the only speller of its private names. SyncObj holds the role, the term,
the vote, the log, the next and match indexes and the commit index, and decides elections; its handling of
appends, acknowledgements and commits is replaced (`following`, `leadership`), since it loses acknowledged
writes. The guards are named here by their letters in the list of what was found in PySyncObj 0.3.17 (a to
o; docs/raft.md has them all).

It does no I/O: messages go in and out, what the log holds is made durable by the driver. Time and chance
are passed in. Invariants: no vote and no acknowledgement leaves before what it rests on is durable; a
proposal is answered exactly once.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pysyncobj import syncobj
from pysyncobj.config import SyncObjConf
from pysyncobj.journal import Journal
from pysyncobj.node import Node
from pysyncobj.syncobj import SyncObj
from pysyncobj.transport import Transport

from raftlog.errors import SafetyError
from raftlog.raft.following import accept, install
from raftlog.raft.leadership import Leadership
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
    Snapshot,
    TimeoutNow,
    Vote,
    VoteReply,
    Welcome,
)
from raftlog.raft.progress import Progress
from raftlog.raft.values import ChangeRefused, Membership, NotLeader, Outcome, RaftTiming, Role
from raftlog.storage.entry import Entry, EntryKind, HardState
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, Offset, RaftIndex, Term

__all__ = ["ChangeRefused", "Membership", "NotLeader", "Outcome", "RaftGroup", "RaftTiming", "Role"]

FOREVER: Final = float("inf")

_HANDLES: Final = {kind: bytes([kind]) for kind in EntryKind}
"""What SyncObj sees of an entry: one byte. The payload goes beside it."""

OnDone = Callable[[Outcome, Entry], None]


# SyncObj's clock and journal factory are globals of its module. Both fall back to its own for whoever else
# uses the library in this process.

_now: float | None = None


def _monotonic_time() -> float:
    return time.monotonic() if _now is None else _now


_create_journal = syncobj.createJournal


def _create_journal_or_ours(journal: Any = None) -> Any:
    return journal if isinstance(journal, Journal) else _create_journal(journal)


syncobj.monotonicTime = _monotonic_time
syncobj.createJournal = _create_journal_or_ours


@contextmanager
def _at(now: float) -> Iterator[None]:
    """SyncObj's clock stands at `now` inside."""
    global _now
    _now = now
    try:
        yield
    finally:
        _now = None


class _Peer(Progress, Node):  # type: ignore[misc]
    """A member as SyncObj's dictionaries know it. Identity is enough: one object a broker and group."""

    __setattr__ = object.__setattr__
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, broker: BrokerId) -> None:
        self._id = broker
        Progress.__init__(self, broker)


class _Journal(Journal):  # type: ignore[misc]
    """SyncObj's view of a GroupLog: the entry before the log's first, and the last. Nothing is pickled."""

    def __init__(self, log: GroupLog, group: RaftGroup) -> None:
        self.log = log
        self._group = group

    def __len__(self) -> int:
        return self.log.last_index - self.log.first_index + 2

    def __getitem__(self, position: int) -> tuple[bytes, int, int]:
        log = self.log
        if position == -1:
            return _HANDLES[EntryKind.NOOP], log.last_index, log.last_term
        index = RaftIndex(log.first_index - 1 + position)
        term = log.term_at(index)
        if term is None:
            raise IndexError(position)
        return _HANDLES[EntryKind.NOOP], index, term

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Only the no-op of a new term comes this way; it has no payload."""
        entry = self.log.append(Term(term), EntryKind.NOOP, b"", 0)
        if entry.index != idx:
            raise SafetyError(f"SyncObj appends at {idx}, the log at {entry.index}")

    def setCurrentTerm(self, term: int, votedForNodeId: BrokerId | None) -> None:
        self.log.hard_state = HardState(Term(term), votedForNodeId)
        self._group._hard_state_unsynced = _PENDING

    def getCurrentTerm(self) -> int:
        return self.log.hard_state.term

    def getVotedForNodeId(self) -> BrokerId | None:
        return self.log.hard_state.voted_for

    def getRaftCommitIndex(self) -> int:
        """The commit index is volatile (d). Segments hold committed entries only, so their end is a lower
        bound that is always right."""
        return self.log.commit_index

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Nothing: see above."""

    def _destroy(self) -> None:
        """The store closes the log."""


class _NoTransport(Transport):  # type: ignore[misc]
    """Sends nothing anywhere: it hands SyncObj's requests and votes to the group."""

    def __init__(self, group: RaftGroup) -> None:
        super().__init__(None, None, [])
        self._group = group

    def send(self, node: _Peer, message: dict[str, Any]) -> bool:
        self._group._on_syncobj_message(node, message)
        return True


class _NoPoller:
    """SyncObj polls sockets of its own transport; there are none, and 1000 groups need no 1000 pollers."""

    def poll(self, timeout: float) -> None:
        pass


class _Core(SyncObj):  # type: ignore[misc]
    """SyncObj with what raftlog does itself switched off."""

    def __init__(self, group: RaftGroup, journal: _Journal, timing: RaftTiming, rng: random.Random) -> None:
        self._rng = rng
        conf = SyncObjConf(
            autoTick=False,
            journalFile=journal,
            appendEntriesPeriod=timing.heartbeat,
            raftMinTimeout=timing.election_min,
            raftMaxTimeout=timing.election_max,
            connectionTimeout=timing.election_max,
            leaderFallbackTimeout=timing.election_min,
            onStateChanged=group._on_state_changed,
            pollerType="select",
        )
        super().__init__(group._self_node, [], conf, transport=_NoTransport(group))
        self._poller = _NoPoller()

    def _SyncObj__generateRaftTimeout(self) -> float:
        conf = self.conf
        return float(self._rng.uniform(conf.raftMinTimeout, conf.raftMaxTimeout))

    def _SyncObj__connectedToAnyone(self) -> bool:
        return True

    def _SyncObj__getEntries(self, *_: object) -> list[object]:
        return []  # SyncObj must not count: it counts itself before its disk has the entry (c)

    def _SyncObj__applyLogEntries(self) -> bool:
        return False

    def _SyncObj__sendAppendEntries(self) -> None:
        pass

    def _SyncObj__tryLogCompaction(self) -> None:
        pass

    def _checkCommandsToApply(self) -> None:
        pass


PRIVATE_METHODS: Final = (
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__connectedToAnyone",
    "_SyncObj__getEntries",
    "_SyncObj__applyLogEntries",
    "_SyncObj__sendAppendEntries",
    "_SyncObj__tryLogCompaction",
    "_checkCommandsToApply",
    "_SyncObj__onMessageReceived",
    "_SyncObj__setState",
    "_SyncObj__setCurrentTerm",
    "_onTick",
)
PRIVATE_ATTRIBUTES: Final = (
    "_SyncObj__raftState",
    "_SyncObj__raftCurrentTerm",
    "_SyncObj__votedForNodeId",
    "_SyncObj__raftLeader",
    "_SyncObj__raftElectionDeadline",
    "_SyncObj__raftCommitIndex",
    "_SyncObj__raftLastApplied",
    "_SyncObj__raftNextIndex",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__otherNodes",
    "_SyncObj__readonlyNodes",
    "_SyncObj__votesCount",
    "_poller",
)
"""What the adapter relies on; a test checks each against the installed library."""

_FOLLOWER, _CANDIDATE, _LEADER = 0, 1, 2

_PENDING, _WRITTEN = 2, 1
"""How far term and vote are from being durable; 0 is durable."""

APPLY_ENTRIES_MAX: Final = 1024
APPLY_BYTES_MAX: Final = 4 << 20
"""What is applied in one turn of one group; the loop must go on answering (h)."""


class RaftGroup:
    """One replica of one group. Synchronous: time and chance are passed in, messages are taken out.

    What the methods change in the log is durable only after the driver's next sync; the driver calls
    `on_synced` then. A replica that lost its log, or never had one while the group may have had (`fresh`,
    or a damaged log) neither votes nor campaigns until a leader has filled it again: its vote would count
    as if it still held what it once acknowledged. When every voter of a group is fresh, the group is new
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
        fresh: bool = False,
        preferred: bool = False,
        eager_commit: bool = False,
    ) -> None:
        """`voters` and `learners` are the first membership; a MEMBERSHIP entry in the log overrides them.

        `preferred`: of a group that is new, this replica should lead: it asks for votes at once.

        `eager_commit`: followers learn of a commit at once instead of with the next message (for the
        metadata group).
        """
        self.key = key
        self.log = log
        self.on_work: Callable[[RaftGroup], None] = lambda group: None
        self.applied_index = log.commit_index
        """The last entry that `take_committed` has given out; the driver sets it back for a state machine
        that has to apply again from earlier on (h)."""
        self._self_id = self_id
        self._self_node = _Peer(self_id)
        self._timing = timing
        self._rng = rng
        self._eager_commit = eager_commit
        self._peers: dict[BrokerId, _Peer] = {self_id: self._self_node}
        self._out: list[Addressed] = []
        self._out_synced: list[Addressed] = []
        self._leadership: Leadership | None = None
        self._beat_due = FOREVER
        self._pending: deque[tuple[RaftIndex, Entry, OnDone]] = deque()
        self._done: list[tuple[OnDone, Outcome, Entry]] = []
        self._failed_reads: list[Callable[[bool], None]] = []
        self._committed: list[Entry] = []
        self._hard_state_unsynced = 0
        self._truncated_from: RaftIndex | None = None
        self._restored = False
        # Following
        self._matched = log.commit_index
        self._leader_commit = RaftIndex(0)
        self._owes_ack = False
        self._is_preferred = preferred
        self._heard_at = now
        # Elections
        self._pre_votes: dict[BrokerId, bool] | None = None
        self._votes: set[BrokerId] = set()
        self._vote_is_transfer = False
        self._rejoin_nonce = rng.getrandbits(48) + 1 if fresh or log.damage is not None else 0
        self._is_welcome = False
        self._log_was_wiped = log.damage is None
        self._last_now = now
        with _at(now):
            self._core = _Core(self, _Journal(log, self), timing, rng)
        if log.last_term > log.hard_state.term:
            self._core._SyncObj__setCurrentTerm(log.last_term, None)
        self._next_index: dict[Progress, int] = self._core._SyncObj__raftNextIndex
        self._match_index: dict[Progress, int] = self._core._SyncObj__raftMatchIndex
        self._memberships: list[tuple[RaftIndex, Membership]] = [
            (RaftIndex(0), Membership(voters, learners - voters))
        ]
        for entry in log.memberships:
            self._memberships.append((entry.index, Membership.decode(entry.payload)))
        self._use_membership(now)
        self.start(now)

    def start(self, now: float) -> None:
        """Time-outs run from `now` on. A group of one is due for its election at once."""
        core = self._core
        is_new = self.term == 0
        # A restart must not cut short the promise that a leader's lease rests on: whom this replica heard
        # before it counts as heard now. Who was never in any term has promised nothing.
        self._heard_at = float("-inf") if is_new else now
        core._SyncObj__raftElectionDeadline = now + core._SyncObj__generateRaftTimeout()
        if self.voters == {self._self_id} or (is_new and self._is_preferred):
            core._SyncObj__raftElectionDeadline = now

    def __repr__(self) -> str:
        return (
            f"<RaftGroup {self.key.hex()[24:]} {self.role.name.lower()} term={self.term}"
            f" last={self.log.last_index} committed={self.commit_index}>"
        )

    # What a group is

    @property
    def role(self) -> Role:
        if self._self_id not in self._memberships[-1][1].voters:
            return Role.LEARNER
        return Role(self._core._SyncObj__raftState)

    @property
    def term(self) -> Term:
        return Term(self._core._SyncObj__raftCurrentTerm)

    @property
    def voted_for(self) -> BrokerId | None:
        return self.log.hard_state.voted_for

    @property
    def leader(self) -> BrokerId | None:
        """Who leads in this term, as far as known here."""
        node = self._core._SyncObj__raftLeader
        return None if node is None else node.broker

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

    @property
    def commit_index(self) -> RaftIndex:
        return RaftIndex(self._core._SyncObj__raftCommitIndex)

    @property
    def membership(self) -> Membership:
        return self._memberships[-1][1]

    @property
    def is_membership_committed(self) -> bool:
        """Whether the membership in force can no longer be undone by another leader."""
        return self._memberships[-1][0] <= self.commit_index

    @property
    def voters(self) -> frozenset[BrokerId]:
        return self._memberships[-1][1].voters

    @property
    def learners(self) -> frozenset[BrokerId]:
        return self._memberships[-1][1].learners

    @property
    def is_trusted(self) -> bool:
        """False while this replica may lack what it once acknowledged, and therefore does not vote."""
        return self._rejoin_nonce == 0

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do next; FOREVER for who only listens."""
        if self._leadership is not None:
            return self._beat_due
        if self._may_campaign:
            return float(self._core._SyncObj__raftElectionDeadline)
        return FOREVER

    @property
    def _may_campaign(self) -> bool:
        # A fresh replica asks as well: it wins only when all are fresh.
        return self._self_id in self.voters and self.log.damage is None

    def statistics(self) -> dict[str, int | str | None]:
        return {
            "role": self.role.name.lower(),
            "term": self.term,
            "leader": self.leader,
            "last_index": self.log.last_index,
            "commit_index": self.commit_index,
            "applied_index": self.applied_index,
            "pending_proposals": len(self._pending),
            "trusted": int(self.is_trusted),
        }

    # Proposals

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
            return NotLeader(None if leadership is not None else self.leader, self.term)
        entry = self.log.append(leadership.term, EntryKind.BATCH, payload, record_count)
        self._pending.append((entry.index, entry, on_done))
        self.on_work(self)
        return entry

    def propose_membership(
        self, membership: Membership, now: float, on_done: OnDone
    ) -> Entry | NotLeader | ChangeRefused:
        """Change the group by one server (e). It counts from now on, and is undone when another leader
        replaces the entry. A new voter must be a learner that holds all that is committed."""
        leadership = self._leadership
        if leadership is None or leadership.is_transferring:
            return NotLeader(None if leadership is not None else self.leader, self.term)
        reason = self._refuse_membership(membership)
        if reason is not None:
            return ChangeRefused(reason=reason)
        entry = self.log.append(leadership.term, EntryKind.MEMBERSHIP, membership.encode(), 0)
        self._memberships.append((entry.index, membership))
        self._use_membership(now)
        self._pending.append((entry.index, entry, on_done))
        self.on_work(self)
        return entry

    def _refuse_membership(self, membership: Membership) -> str | None:
        current = self.membership
        if not self.is_ready:
            return "this leader has not committed an entry of its term yet"
        if not self.is_membership_committed:
            return f"the change at index {self._memberships[-1][0]} is not committed yet"
        if self._self_id not in membership.voters:
            return "the leader cannot remove itself: transfer leadership first"
        changed = (current.voters ^ membership.voters) | (current.learners ^ membership.learners)
        if len(changed) != 1:
            return f"{len(changed)} servers change, it must be one"
        for broker in membership.voters - current.voters:
            if broker not in current.learners:
                return f"broker {broker} must be a learner first"
            if self._match_index[self._peers[broker]] < self.commit_index:
                return f"broker {broker} has not caught up"
        return None

    def read_barrier(self, now: float, on_ready: Callable[[bool], None]) -> None:
        """Calls `on_ready(True)` once this replica is known to have led after the call began, and has
        applied what was committed by then: maybe at once, under its lease. `on_ready(False)` when it does
        not lead. A cancelled caller's `on_ready` is still called."""
        leadership = self._leadership
        if leadership is None:
            on_ready(False)
            return
        leadership.read(now, on_ready)
        for ready in leadership.take_reads(self.applied_index):
            ready(True)
        if leadership.wants_round:
            self.on_work(self)

    def transfer_leadership(self, to: BrokerId, now: float) -> str | None:
        """Hand leadership to another voter once it holds the whole log. Returns None when that is under way,
        else why not. Proposals are refused meanwhile, for one election time-out at most."""
        if self._leadership is None:
            return "this broker does not lead"
        refusal = self._leadership.transfer(to, now)
        self.on_work(self)
        return refusal

    def peer_is_gone(self, broker: BrokerId, now: float) -> None:
        """The process of `broker` has ended, for certain: if it led, its successor need not wait for the
        election time-out. Only liveness rests on this being true, as long as no lease is in use."""
        if self._leadership is not None or self.leader != broker:
            return
        self._heard_at = float("-inf")
        core = self._core
        soon = now + self._rng.uniform(0.0, self._timing.election_min / 8)
        if soon < core._SyncObj__raftElectionDeadline:
            core._SyncObj__raftElectionDeadline = soon
        self.on_work(self)

    def close(self) -> None:
        """The group is being removed: what is pending ends as MAY_STILL_HAPPEN, with the next resolve."""
        if self._leadership is not None:
            self._core._SyncObj__setState(_FOLLOWER)

    # Phase 1: deliver

    def step(self, sender: BrokerId, message: Message, now: float) -> None:
        """Take a message of `sender`. What it makes this replica say is taken with `take_messages`."""
        kind = type(message)
        handler = _HANDLERS[kind]
        self._last_now = now
        if message.term != self._core._SyncObj__raftCurrentTerm:
            if kind in _ELECTION_KINDS:
                pass  # they decide about terms themselves
            elif message.term > self.term:
                self._follow(message.term)
            else:
                self._refuse_old_term(sender, message)
                return
        handler(self, sender, message, now)

    def _refuse_old_term(self, sender: BrokerId, message: Message) -> None:
        """Nothing of an old term counts (a); who leads in it is told that it is over."""
        if isinstance(message, Append | Heartbeat | Snapshot):
            self._out_synced.append((sender, AppendReply(self.key, self.term, RaftIndex(0))))

    def _on_append(self, sender: BrokerId, append: Append, now: float) -> None:
        self._hear_leader(sender, now)
        if not self._may_take_entries(sender, now):
            return
        result = accept(self.log, append, self.term)
        if isinstance(result, AppendReject):
            self._out_synced.append((sender, result))
            return
        if result.truncated_from is not None:
            self._truncated(result.truncated_from)
        if result.appended:
            self._learn_memberships(append.entries, now)
        self._matched = RaftIndex(max(self._matched, result.match_index))
        self._leader_commit = RaftIndex(max(self._leader_commit, append.commit_index))
        self._owes_ack = True
        if self._matched <= self.log.synced_index:
            self._acknowledge()
        self._commit_as_follower()

    def _on_heartbeat(self, sender: BrokerId, heartbeat: Heartbeat, now: float) -> None:
        self._hear_leader(sender, now)
        match_index = RaftIndex(min(self._matched, self.log.synced_index))
        if self._rejoin_nonce:
            self._out_synced.append((sender, Rejoin(self.key, self.term, self._rejoin_nonce)))
            if not self._is_welcome:
                match_index = RaftIndex(0)
        self._leader_commit = RaftIndex(max(self._leader_commit, heartbeat.commit_index))
        reply = HeartbeatReply(self.key, self.term, match_index, heartbeat.round)
        self._out_synced.append((sender, reply))
        self._commit_as_follower()

    def _on_snapshot(self, sender: BrokerId, snapshot: Snapshot, now: float) -> None:
        self._hear_leader(sender, now)
        if not self._may_take_entries(sender, now):
            return
        if install(self.log, snapshot, replace=False):
            membership = Membership.decode(snapshot.membership)
            self._memberships = [(snapshot.index, membership)]
            self._use_membership(now)
            self._core._SyncObj__raftCommitIndex = snapshot.index
            self._core._SyncObj__raftLastApplied = snapshot.index
            self.applied_index = snapshot.index
            self._committed.clear()
            self._matched = snapshot.index
            self._restored = True
        elif snapshot.index > self._matched:
            self._matched = snapshot.index
        self._owes_ack = True
        if self._matched <= self.log.synced_index:
            self._acknowledge()

    def _may_take_entries(self, leader: BrokerId, now: float) -> bool:
        """A replica that lost its log first has the leader forget what it acknowledged before, and then
        takes the log anew. A damaged log is dropped only now, when there is a leader to fill it."""
        if not self._rejoin_nonce:
            return True
        if not self._log_was_wiped:
            self._log_was_wiped = True
            self.log.reset(RaftIndex(0), Term(0), Offset(0), b"")
            del self._memberships[1:]
            self._use_membership(now)
            self._core._SyncObj__raftCommitIndex = 0
            self._core._SyncObj__raftLastApplied = 0
            self.applied_index = self._matched = self._leader_commit = RaftIndex(0)
            self._committed.clear()
            self._restored = True
        if not self._is_welcome:
            self._out_synced.append((leader, Rejoin(self.key, self.term, self._rejoin_nonce)))
        return self._is_welcome

    def _on_welcome(self, sender: BrokerId, welcome: Welcome, now: float) -> None:
        """The leader counts nothing any more that this replica acknowledged before. Once it also holds
        what was committed until then, its vote may count again (Raft §5.4)."""
        self._hear_leader(sender, now)
        if welcome.nonce != self._rejoin_nonce:
            return
        self._is_welcome = True
        if 0 < welcome.commit_index <= min(self._matched, self.log.synced_index):
            self._rejoin_nonce = 0

    def _hear_leader(self, sender: BrokerId, now: float) -> None:
        """A message of this term's leader."""
        core = self._core
        leader = core._SyncObj__raftLeader
        if leader is None or leader.broker != sender:
            if leader is not None or self._leadership is not None:
                raise SafetyError(f"brokers {self.leader} and {sender} both lead in term {self.term}")
            core._SyncObj__raftLeader = self._peer(sender)
            self._matched = self.log.commit_index
            self._is_welcome = False
        if core._SyncObj__raftState != _FOLLOWER:
            core._SyncObj__setState(_FOLLOWER)
        self._heard_at = now
        self._pre_votes = None
        core._SyncObj__raftElectionDeadline = now + core._SyncObj__generateRaftTimeout()

    def _on_append_reply(self, sender: BrokerId, reply: AppendReply, now: float) -> None:
        peer = self._member(sender)
        leadership = self._leadership
        if leadership is not None and peer is not None and leadership.on_match(peer, reply.match_index, now):
            self._commit_as_leader()

    def _on_append_reject(self, sender: BrokerId, reject: AppendReject, now: float) -> None:
        peer = self._member(sender)
        if self._leadership is not None and peer is not None:
            self._leadership.on_reject(peer, reject, now)

    def _on_heartbeat_reply(self, sender: BrokerId, reply: HeartbeatReply, now: float) -> None:
        peer = self._member(sender)
        leadership = self._leadership
        if leadership is None or peer is None:
            return
        if leadership.on_heartbeat_reply(peer, reply.match_index, reply.round, now):
            self._commit_as_leader()

    def _on_rejoin(self, sender: BrokerId, rejoin: Rejoin, now: float) -> None:
        peer = self._member(sender)
        if self._leadership is not None and peer is not None:
            self._leadership.on_rejoin(peer, rejoin, now)

    def _member(self, broker: BrokerId) -> _Peer | None:
        """Who is not in the membership is not counted, whatever it says (e)."""
        return self._peers[broker] if broker in self.membership.members else None

    # Phase 2: tick

    def tick(self, now: float) -> None:
        """What is due by the clock: heartbeats, check-quorum, elections."""
        self._last_now = now
        if self._leadership is not None:
            if now >= self._beat_due:
                self._lead_on(now)
        elif now >= self.next_deadline:
            if self.voters == {self._self_id}:
                self._campaign(now, transfer=False)
            else:
                self._ask_for_pre_votes(now)

    def _lead_on(self, now: float) -> None:
        leadership = self._leadership
        assert leadership is not None
        if not leadership.has_quorum(now):  # (g)
            self._core._SyncObj__setState(_FOLLOWER)
            return
        leadership.beat(now)
        self._beat_due = self._next_beat(now)

    def _next_beat(self, now: float) -> float:
        """All groups of a broker beat at the same instants, so that their heartbeats share a frame."""
        if len(self.membership.members) == 1:
            return FOREVER
        period = self._timing.heartbeat
        due = (now // period + 1) * period
        return due if due - now > period / 2 else due + period

    def _ask_for_pre_votes(self, now: float) -> None:
        core = self._core
        core._SyncObj__raftLeader = None
        retry = core._SyncObj__generateRaftTimeout() if self.term else self._timing.heartbeat
        core._SyncObj__raftElectionDeadline = now + retry
        self._pre_votes = {self._self_id: not self.is_trusted}
        term, log = Term(self.term + 1), self.log
        request = PreVote(self.key, term, log.last_index, log.last_term, not self.is_trusted)
        self._to_voters(request)

    def _to_voters(self, message: Message) -> None:
        for broker in sorted(self.voters):
            if broker != self._self_id:
                self._out_synced.append((broker, message))

    def _hears_leader(self, now: float) -> bool:
        """A leader is alive as far as this replica knows: then nobody gets a vote (f)."""
        return self._leadership is not None or now - self._heard_at < self._timing.election_min

    def _on_pre_vote(self, sender: BrokerId, request: PreVote, now: float) -> None:
        log = self.log
        if self.is_trusted:
            up_to_date = (request.last_term, request.last_index) >= (log.last_term, log.last_index)
            granted = request.term > self.term and up_to_date and not self._hears_leader(now)
        else:
            granted = request.fresh and log.last_index == 0
        reply = PreVoteReply(self.key, self.term, request.term, granted, not self.is_trusted)
        self._out_synced.append((sender, reply))

    def _on_pre_vote_reply(self, sender: BrokerId, reply: PreVoteReply, now: float) -> None:
        if reply.term > self.term:
            # Without this a replica that is behind by a term asks for ever (canonical/raft #280).
            self._follow(reply.term)
            return
        votes = self._pre_votes
        if votes is None or not reply.granted or reply.asked_term != self.term + 1:
            return
        if sender not in self.voters:
            return
        votes[sender] = reply.fresh
        if self.is_trusted:
            won = 2 * len(votes) > len(self.voters)
        else:
            won = votes.keys() == self.voters and all(votes.values())
        if won:
            self._campaign(now, transfer=False)

    def _campaign(self, now: float, *, transfer: bool) -> None:
        """SyncObj's own election, in its own tick."""
        core = self._core
        self._pre_votes = None
        self._votes = {self._self_id}
        self._vote_is_transfer = transfer
        core._SyncObj__raftElectionDeadline = now - 1.0
        with _at(now):
            core._onTick()
        if core._SyncObj__raftState == _LEADER:
            self._become_leader(now)

    def _on_vote(self, sender: BrokerId, request: Vote, now: float) -> None:
        if request.term < self.term:
            self._out_synced.append((sender, VoteReply(self.key, self.term, False)))
            return
        if not self.is_trusted and not (request.fresh and self.log.last_index == 0):
            return
        if self._hears_leader(now) and not request.transfer:
            return
        if request.term > self.term:
            self._follow(request.term)
        core = self._core
        if core._SyncObj__votedForNodeId == sender:
            self._out_synced.append((sender, VoteReply(self.key, self.term, True)))  # (j)
            return
        said = len(self._out_synced)
        with _at(now):
            core._SyncObj__onMessageReceived(
                self._peer(sender),
                {
                    "type": "request_vote",
                    "term": request.term,
                    "last_log_index": request.last_index,
                    "last_log_term": request.last_term,
                },
            )
        if len(self._out_synced) == said:
            self._out_synced.append((sender, VoteReply(self.key, self.term, False)))

    def _on_vote_reply(self, sender: BrokerId, reply: VoteReply, now: float) -> None:
        core = self._core
        if core._SyncObj__raftState != _CANDIDATE or not reply.granted:
            return
        if sender not in self.voters or sender in self._votes:
            return  # SyncObj counts messages; a voter counts once (e)
        self._votes.add(sender)
        with _at(now):
            core._SyncObj__onMessageReceived(
                self._peer(sender), {"type": "response_vote", "term": reply.term}
            )
        if core._SyncObj__raftState == _LEADER:
            self._become_leader(now)

    def _on_timeout_now(self, sender: BrokerId, message: TimeoutNow, now: float) -> None:
        if sender == self.leader and self._may_campaign and self.is_trusted:
            self._campaign(now, transfer=True)

    def _on_syncobj_message(self, node: _Peer, message: dict[str, Any]) -> None:
        """What SyncObj wants to send."""
        log = self.log
        match message["type"]:
            case "request_vote":
                transfer, fresh = self._vote_is_transfer, not self.is_trusted
                vote = Vote(self.key, self.term, log.last_index, log.last_term, transfer, fresh)
                self._out_synced.append((node.broker, vote))
            case "response_vote":
                self._out_synced.append((node.broker, VoteReply(self.key, self.term, True)))
            case kind:
                raise SafetyError(f"SyncObj sends {kind!r}, which raftlog does itself")

    def _become_leader(self, now: float) -> None:
        core = self._core
        for peer in self._peers.values():
            peer.reset()
        self._rejoin_nonce = 0
        self._leadership = Leadership(
            self.key,
            self.term,
            self._self_id,
            self.log,
            self._next_index,
            self._match_index,
            self._timing,
            lambda broker, message: self._out.append((broker, message)),
            now,
        )
        assert core._SyncObj__raftLeader is self._self_node
        self._use_membership(now)
        self._leadership.beat(now)

    def _follow(self, term: Term) -> None:
        """A newer term: whatever this replica was, it follows now; whom, it does not know yet."""
        core = self._core
        core._SyncObj__setState(_FOLLOWER)
        core._SyncObj__setCurrentTerm(term, None)
        core._SyncObj__raftLeader = None
        self._pre_votes = None
        self._leader_commit = RaftIndex(0)
        self._matched = self.log.commit_index
        self._owes_ack = False

    def _on_state_changed(self, old: int, new: int) -> None:
        """SyncObj's own callback. Leadership that ends answers everything that waits for it (g)."""
        leadership = self._leadership
        if old != _LEADER or leadership is None:
            return
        self._leadership = None
        self._beat_due = FOREVER
        core = self._core
        core._SyncObj__raftLeader = None
        core._SyncObj__raftElectionDeadline = self._last_now + core._SyncObj__generateRaftTimeout()
        offered = leadership.sent_index
        for index, entry, on_done in self._pending:
            outcome = Outcome.MAY_STILL_HAPPEN if index <= offered else Outcome.WILL_NOT_HAPPEN
            self._done.append((on_done, outcome, entry))
        self._pending.clear()
        if self.log.last_index > offered:
            self._truncated(RaftIndex(offered + 1))
            self.log.truncate_from(RaftIndex(offered + 1))
        self._failed_reads += leadership.drop_reads()
        self._matched = self.log.commit_index
        self._leader_commit = RaftIndex(0)
        self._owes_ack = False

    # Phase 3: persist

    @property
    def vote_is_durable(self) -> bool:
        return self._hard_state_unsynced == 0

    def take_messages(self, now: float) -> list[Addressed]:
        """What may leave before this broker's own sync: what a leader sends, so that all disks work at
        once. Called once a turn, after everything was delivered."""
        leadership = self._leadership
        if leadership is not None:
            if leadership.wants_round:
                leadership.beat(now)
            leadership.replicate(now)
        out = self._out
        if not out:
            return out
        self._out = []
        if self._hard_state_unsynced:
            self._out_synced += out
            return []
        return out

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
            if self._owes_ack:
                self._acknowledge()
            self._commit_as_follower()

    def take_replies(self) -> list[Addressed]:
        """What may leave now that this broker's term and vote are durable; nothing while they are not."""
        out = self._out_synced
        if not out or self._hard_state_unsynced:
            return []
        self._out_synced = []
        return out

    def _acknowledge(self) -> None:
        leader = self.leader
        if leader is None:
            self._owes_ack = False
            return
        match_index = RaftIndex(min(self._matched, self.log.synced_index))
        self._owes_ack = match_index < self._matched
        self._out_synced.append((leader, AppendReply(self.key, self.term, match_index)))

    def _commit_as_follower(self) -> None:
        """What the leader committed, as far as the log is known to be the leader's (k) and is durable."""
        index = min(self._leader_commit, self._matched, self.log.synced_index)
        if index > self.log.commit_index:
            self._commit_to(RaftIndex(index))

    def _commit_as_leader(self) -> None:
        assert self._leadership is not None
        index = self._leadership.committable_index()
        if index > self.log.commit_index:
            self._commit_to(index)
            if self._eager_commit:
                self._leadership.announce_commit()

    def _commit_to(self, index: RaftIndex) -> None:
        entries = self.log.commit_to(index)
        self._core._SyncObj__raftCommitIndex = index
        waiting = self._committed
        if self.applied_index + len(waiting) + 1 == entries[0].index and len(waiting) < APPLY_ENTRIES_MAX:
            waiting += entries  # else they are read from the log when their turn comes

    # Phase 5: resolve

    @property
    def has_committed(self) -> bool:
        """There is something to apply."""
        return self.applied_index < self.log.commit_index

    def take_committed(self) -> list[Entry]:
        """The next entries to apply, in order, a bounded number at a time (h); they count as applied."""
        entries = self._committed
        if entries:
            self._committed = entries[APPLY_ENTRIES_MAX:]
            if self._committed:
                entries = entries[:APPLY_ENTRIES_MAX]
        elif self.applied_index < self.log.commit_index:
            first = RaftIndex(self.applied_index + 1)
            entries = self.log.entries(first, APPLY_BYTES_MAX, APPLY_ENTRIES_MAX)
            del entries[self.log.commit_index - self.applied_index :]
        if entries:
            self.applied_index = entries[-1].index
            self._core._SyncObj__raftLastApplied = self.applied_index
        return entries

    def take_done(self) -> list[tuple[OnDone, Outcome, Entry]]:
        """Callbacks of the proposals that have ended since the last call, with how."""
        done, self._done = self._done, []
        pending, applied = self._pending, self.applied_index
        while pending and pending[0][0] <= applied:
            _, entry, on_done = pending.popleft()
            done.append((on_done, Outcome.COMMITTED, entry))
        return done

    def take_reads(self) -> list[tuple[Callable[[bool], None], bool]]:
        """Callbacks of the reads that may be answered, with whether this replica led."""
        reads = [(on_ready, False) for on_ready in self._failed_reads]
        self._failed_reads.clear()
        if self._leadership is not None:
            reads += [(on_ready, True) for on_ready in self._leadership.take_reads(self.applied_index)]
        return reads

    @property
    def has_reads(self) -> bool:
        """There may be reads to answer."""
        return bool(self._failed_reads) or (self._leadership is not None and self._leadership.has_reads)

    @property
    def has_news(self) -> bool:
        """The log was cut or replaced: see take_truncated and take_restored."""
        return self._restored or self._truncated_from is not None

    def take_truncated(self) -> RaftIndex | None:
        """From where on uncommitted entries have gone since the last call."""
        index, self._truncated_from = self._truncated_from, None
        return index

    def take_restored(self) -> bool:
        """Whether a snapshot replaced the log since the last call; its state is `log.snapshot_state`."""
        restored, self._restored = self._restored, False
        return restored

    # Membership

    def _peer(self, broker: BrokerId) -> _Peer:
        peer = self._peers.get(broker)
        if peer is None:
            peer = self._peers[broker] = _Peer(broker)
        return peer

    def _use_membership(self, now: float) -> None:
        """Make the latest configuration in the log the one that SyncObj counts with."""
        core, membership = self._core, self.membership
        others = {self._peer(broker) for broker in membership.voters if broker != self._self_id}
        learners = {self._peer(broker) for broker in membership.learners if broker != self._self_id}
        core._SyncObj__otherNodes = others
        core._SyncObj__readonlyNodes = learners
        for peer in others | learners:
            if peer not in self._match_index:
                self._next_index[peer] = self.log.last_index + 1
                self._match_index[peer] = 0
                peer.reset()
        for gone in self._match_index.keys() - others - learners:
            del self._match_index[gone], self._next_index[gone]
        if self._leadership is not None:
            self._leadership.set_membership(membership, self._peers, now)
            self._beat_due = self._next_beat(now)

    def _learn_memberships(self, entries: Sequence[Entry], now: float) -> None:
        known = len(self._memberships)
        for entry in entries:
            if entry.kind is EntryKind.MEMBERSHIP and entry.index > self._memberships[-1][0]:
                self._memberships.append((entry.index, Membership.decode(entry.payload)))
        if len(self._memberships) > known:
            self._use_membership(now)

    def _truncated(self, from_index: RaftIndex) -> None:
        known = len(self._memberships)
        while self._memberships[-1][0] >= from_index:
            self._memberships.pop()
        if len(self._memberships) < known:
            self._use_membership(self._last_now)
        if self._truncated_from is None or from_index < self._truncated_from:
            self._truncated_from = from_index


_ELECTION_KINDS: Final = frozenset({PreVote, PreVoteReply, Vote})
_HANDLERS: Final[dict[type, Callable[..., None]]] = {
    Append: RaftGroup._on_append,
    AppendReply: RaftGroup._on_append_reply,
    AppendReject: RaftGroup._on_append_reject,
    Heartbeat: RaftGroup._on_heartbeat,
    HeartbeatReply: RaftGroup._on_heartbeat_reply,
    PreVote: RaftGroup._on_pre_vote,
    PreVoteReply: RaftGroup._on_pre_vote_reply,
    Vote: RaftGroup._on_vote,
    VoteReply: RaftGroup._on_vote_reply,
    Snapshot: RaftGroup._on_snapshot,
    TimeoutNow: RaftGroup._on_timeout_now,
    Rejoin: RaftGroup._on_rejoin,
    Welcome: RaftGroup._on_welcome,
}
