"""What PySyncObj does for raftlog, and everything that raftlog knows of its inside.

The only importer of pysyncobj and the only speller of its private names. SyncObj holds the role, the term,
the vote, the log, the next and match indexes and the commit index, and runs elections. What it does about
appends, acknowledgements and commits is switched off here, since it loses acknowledged writes: `leadership`
and `following` do that instead (docs/raft.md has the list).

It does no I/O and decides nothing of its own: `elections`, `leading` and `following` do. Time and chance are
passed in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from pysyncobj import syncobj
from pysyncobj.config import SyncObjConf
from pysyncobj.journal import Journal
from pysyncobj.node import Node
from pysyncobj.syncobj import SyncObj
from pysyncobj.transport import Transport

from raftlog.errors import SafetyError
from raftlog.raft.progress import Progress
from raftlog.raft.values import RaftTiming, Role
from raftlog.storage.entry import EntryKind, HardState
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, RaftIndex, Term

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
    "_SyncObj__raftNextIndex",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__otherNodes",
    "_SyncObj__readonlyNodes",
    "_poller",
)
"""What this module relies on; a test checks each against the installed library."""

_FOLLOWER, _CANDIDATE, _LEADER = 0, 1, 2
_ROLES: Final = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)
_HANDLE: Final = b"\1"
"""What SyncObj sees of an entry: one byte (its no-op). The payload goes beside it."""

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
def clock_at(now: float) -> Iterator[None]:
    """SyncObj's clock stands at `now` inside."""
    global _now
    _now = now
    try:
        yield
    finally:
        _now = None


class EngineOwner(Protocol):
    """Who gets what SyncObj has to say."""

    def on_vote_wanted(self, of: BrokerId) -> None: ...
    def on_hard_state(self) -> None: ...
    def on_leadership_ended(self) -> None: ...


class Peer(Progress, Node):  # type: ignore[misc]
    """A member as SyncObj's dictionaries know it. Identity is enough: one object a broker and group."""

    __setattr__ = object.__setattr__
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, broker: BrokerId) -> None:
        self._id = broker
        Progress.__init__(self, broker)


class _Journal(Journal):  # type: ignore[misc]
    """SyncObj's view of a GroupLog: the entry before the log's first, and the last. Nothing is pickled."""

    def __init__(self, log: GroupLog, owner: EngineOwner) -> None:
        self._log = log
        self._owner = owner

    def __len__(self) -> int:
        return self._log.last_index - self._log.first_index + 2

    def __getitem__(self, position: int) -> tuple[bytes, int, int]:
        log = self._log
        if position == -1:
            return _HANDLE, log.last_index, log.last_term
        index = RaftIndex(log.first_index - 1 + position)
        term = log.term_at(index)
        if term is None:
            raise IndexError(position)
        return _HANDLE, index, term

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Only the no-op of a new term comes this way; it has no payload."""
        entry = self._log.append(Term(term), EntryKind.NOOP, b"", 0)
        if entry.index != idx:
            raise SafetyError(f"SyncObj appends at {idx}, the log at {entry.index}")

    def setCurrentTerm(self, term: int, votedForNodeId: BrokerId | None) -> None:
        self._log.promises.hard_state = HardState(Term(term), votedForNodeId)
        self._owner.on_hard_state()

    def getCurrentTerm(self) -> int:
        return self._log.promises.hard_state.term

    def getVotedForNodeId(self) -> BrokerId | None:
        return self._log.promises.hard_state.voted_for

    def getRaftCommitIndex(self) -> int:
        """The commit index is volatile in Raft: a stored one may lie beyond a log that lost its end. Segments
        hold committed entries only, so that their end is a commit index that is always right."""
        return self._log.commit_index

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Nothing: see above."""

    def _destroy(self) -> None:
        """The store closes the log."""


class _NoTransport(Transport):  # type: ignore[misc]
    """Sends nothing anywhere: it tells the owner what SyncObj would say."""

    def __init__(self, owner: EngineOwner) -> None:
        super().__init__(None, None, [])
        self._owner = owner

    def send(self, node: Peer, message: dict[str, Any]) -> bool:
        match message["type"]:
            case "request_vote":
                self._owner.on_vote_wanted(node.broker)
            case "response_vote":
                pass  # the vote itself is in the log's hard state
            case kind:
                raise SafetyError(f"SyncObj sends {kind!r}, which raftlog does itself")
        return True


class _NoPoller:
    """SyncObj polls sockets of its own transport; there are none, and 1000 groups need no 1000 pollers."""

    def poll(self, timeout: float) -> None:
        pass


class Engine(SyncObj):  # type: ignore[misc]
    """SyncObj of one group, with what raftlog does itself switched off, and its state under plain names."""

    def __init__(
        self,
        owner: EngineOwner,
        self_id: BrokerId,
        log: GroupLog,
        timing: RaftTiming,
        rng: random.Random,
        now: float,
    ) -> None:
        self._rng = rng
        self._timing = timing
        self._owner = owner
        self.failed_elections = 0
        """Elections that this replica began since it heard a leader, or was one."""
        self.changes = 0
        """Counts changes of role, term and leader, so that who watches them need not compare."""
        self.peers: dict[BrokerId, Peer] = {self_id: Peer(self_id)}
        conf = SyncObjConf(
            autoTick=False,
            journalFile=_Journal(log, owner),
            appendEntriesPeriod=timing.heartbeat,
            raftMinTimeout=timing.election_min,
            raftMaxTimeout=timing.election_max,
            connectionTimeout=timing.election_max,
            leaderFallbackTimeout=timing.election_min,
            onStateChanged=self._on_state_changed,
            pollerType="select",
        )
        with clock_at(now):
            super().__init__(self.peers[self_id], [], conf, transport=_NoTransport(owner))
        self._poller = _NoPoller()
        if log.last_term > log.promises.hard_state.term:
            self._SyncObj__setCurrentTerm(log.last_term, None)
        self.next_index: dict[Progress, int] = self._SyncObj__raftNextIndex
        self.match_index: dict[Progress, int] = self._SyncObj__raftMatchIndex

    # SyncObj's state

    # (annotated instead of converted: a NewType's call costs as much as the rest of the property)

    @property
    def role(self) -> Role:
        return _ROLES[self._SyncObj__raftState]

    @property
    def is_leader(self) -> bool:
        return bool(self._SyncObj__raftState == _LEADER)

    @property
    def is_candidate(self) -> bool:
        return bool(self._SyncObj__raftState == _CANDIDATE)

    @property
    def term(self) -> Term:
        term: Term = self._SyncObj__raftCurrentTerm
        return term

    @property
    def voted_for(self) -> BrokerId | None:
        voted_for: BrokerId | None = self._SyncObj__votedForNodeId
        return voted_for

    @property
    def leader(self) -> BrokerId | None:
        node: Peer | None = self._SyncObj__raftLeader
        return None if node is None else node.broker

    @leader.setter
    def leader(self, broker: BrokerId | None) -> None:
        self.changes += 1
        self._SyncObj__raftLeader = None if broker is None else self.peer(broker)

    @property
    def commit_index(self) -> RaftIndex:
        index: RaftIndex = self._SyncObj__raftCommitIndex
        return index

    @commit_index.setter
    def commit_index(self, index: RaftIndex) -> None:
        self._SyncObj__raftCommitIndex = index

    @property
    def election_deadline(self) -> float:
        deadline: float = self._SyncObj__raftElectionDeadline
        return deadline

    @election_deadline.setter
    def election_deadline(self, at: float) -> None:
        self._SyncObj__raftElectionDeadline = at

    def __dir__(self) -> list[str]:
        return []  # SyncObj looks through all attributes, twice, for replicated methods; there are none

    def election_timeout(self) -> float:
        """A new one, between the two bounds; each failed election moves the upper one by half."""
        growth = 1 + self.failed_elections / 2
        return self._rng.uniform(self._timing.election_min, self._timing.election_max * growth)

    def peer(self, broker: BrokerId) -> Peer:
        peer = self.peers.get(broker)
        if peer is None:
            peer = self.peers[broker] = Peer(broker)
        return peer

    def set_members(self, voters: Iterable[BrokerId], learners: Iterable[BrokerId], last_index: int) -> None:
        """Whom SyncObj counts, and whom it only sends to; without this broker itself."""
        self.changes += 1
        others = {self.peer(broker) for broker in voters}
        readers = {self.peer(broker) for broker in learners}
        self._SyncObj__otherNodes = others
        self._SyncObj__readonlyNodes = readers
        for peer in others | readers:
            if peer not in self.match_index:
                self.next_index[peer] = last_index + 1
                self.match_index[peer] = 0
                peer.reset()
        for gone in self.match_index.keys() - others - readers:
            del self.match_index[gone], self.next_index[gone]

    # What SyncObj decides

    def campaign(self, now: float) -> None:
        """An election, in SyncObj's own tick: a new term, the vote for itself, the requests to the others.
        A group of one has its leader when this returns."""
        self._SyncObj__raftElectionDeadline = now - 1.0
        self.changes += 1
        with clock_at(now):
            self._onTick()

    def consider_vote(
        self, candidate: BrokerId, term: Term, index: RaftIndex, log_term: Term, now: float
    ) -> None:
        """A request for a vote. SyncObj compares logs; when it agrees, `voted_for` is the candidate after."""
        message = {"type": "request_vote", "term": term, "last_log_index": index, "last_log_term": log_term}
        with clock_at(now):
            self._SyncObj__onMessageReceived(self.peer(candidate), message)

    def count_vote(self, voter: BrokerId, term: Term, now: float) -> None:
        """One more vote; with a majority SyncObj becomes leader and appends its no-op. It counts messages,
        not voters: the caller passes on one of each voter."""
        with clock_at(now):
            self._SyncObj__onMessageReceived(self.peer(voter), {"type": "response_vote", "term": term})

    def become_follower(self) -> None:
        if self._SyncObj__raftState != _FOLLOWER:
            self._SyncObj__setState(_FOLLOWER)

    def enter_term(self, term: Term) -> None:
        """A newer term, in which nobody has this broker's vote yet and no leader is known."""
        self.become_follower()
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__raftLeader = None
        self.changes += 1

    def _on_state_changed(self, old: int, new: int) -> None:
        self.changes += 1
        if old == _LEADER:
            self._SyncObj__raftLeader = None
            self._owner.on_leadership_ended()

    # What SyncObj must not do

    def _SyncObj__generateRaftTimeout(self) -> float:
        return self.election_timeout()

    def _SyncObj__connectedToAnyone(self) -> bool:
        return True

    def _SyncObj__getEntries(self, *_: object) -> list[object]:
        return []  # without entries SyncObj commits nothing: it would count this broker before its sync

    def _SyncObj__applyLogEntries(self) -> bool:
        return False

    def _SyncObj__sendAppendEntries(self) -> None:
        pass

    def _SyncObj__tryLogCompaction(self) -> None:
        pass

    def _checkCommandsToApply(self) -> None:
        pass
