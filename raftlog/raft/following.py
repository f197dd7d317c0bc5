"""What a follower does with what a leader sends: accept, refuse, never lose what it acknowledged.

Works on the log alone; it knows no pysyncobj, no votes and no clock.

Invariants: an entry is removed only where its term conflicts with the leader's, and never at or below the
commit index (b: SyncObj cuts on every append); what is acknowledged is on this disk.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftlog.errors import SafetyError
from raftlog.raft.messages import Append, AppendReject, Snapshot
from raftlog.storage.entry import LogPoint
from raftlog.storage.group_log import GroupLog
from raftlog.types import RaftIndex, Term


@dataclass(frozen=True, slots=True)
class Accepted:
    """The log matches the leader's up to `match_index`, on disk or about to be."""

    match_index: RaftIndex
    truncated_from: RaftIndex | None
    appended: int


class Following:
    """How much of the current leader's log is here, and what the leader is still owed."""

    def __init__(self, log: GroupLog) -> None:
        self._log = log
        self.match_index = log.commit_index
        """Up to here the log is the leader's; on disk only up to `durable_match`."""
        self.leader_commit = RaftIndex(0)
        self.owes_ack = False

    def restart(self) -> None:
        """Another leader, another term or another log: what is committed matches, nothing else is known."""
        self.match_index = self._log.commit_index
        self.leader_commit = RaftIndex(0)
        self.owes_ack = False

    @property
    def durable_match(self) -> RaftIndex:
        """What may be acknowledged (c)."""
        return RaftIndex(min(self.match_index, self._log.synced_index))

    @property
    def committable_index(self) -> RaftIndex:
        """What the leader committed, as far as the log is known to be the leader's (k) and is durable."""
        return RaftIndex(min(self.leader_commit, self.match_index, self._log.synced_index))

    def hear_commit(self, commit_index: RaftIndex) -> None:
        if commit_index > self.leader_commit:
            self.leader_commit = commit_index

    def append(self, append: Append, term: Term) -> Accepted | AppendReject:
        result = accept(self._log, append, term)
        if isinstance(result, Accepted):
            self.matches_to(result.match_index)
            self.hear_commit(append.commit_index)
        return result

    def matches_to(self, index: RaftIndex) -> None:
        if index > self.match_index:
            self.match_index = index
        self.owes_ack = True


def accept(log: GroupLog, append: Append, term: Term) -> Accepted | AppendReject:
    """Bring the log in line with a leader's append of the current term."""
    entries = append.entries
    prev_index = append.prev_index
    commit_index = log.commit_index
    end_index = RaftIndex(prev_index + len(entries))
    if prev_index < commit_index:
        # What is committed is in every leader's log (Raft §5.4): it matches without being compared.
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
    """Say where the logs may agree: the last entry here, at or before the refused one, whose term is not
    above the leader's there. At the commit index they agree for certain."""
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
    """Start anew behind a leader's snapshot. False when the log contains the snapshot's end already, or
    has committed past it: then nothing may be wiped (k)."""
    if snapshot.last_index <= log.commit_index or log.term_at(snapshot.last_index) == snapshot.last_term:
        return False
    start = LogPoint(snapshot.last_index, snapshot.last_term, snapshot.offset)
    log.reset(*start, snapshot.state, start.membership(snapshot.membership))
    return True
