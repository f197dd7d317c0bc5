"""What a follower does with what a leader sends: accept, refuse, never lose what it acknowledged.

Works on the log alone; it knows no pysyncobj, no votes and no clock.

Invariants: an entry is removed only where its term conflicts with the leader's, and never at or below the
commit index (PYSYNCOBJ.md, b: SyncObj cuts on every append); what is acknowledged is on this disk.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftlog.errors import SafetyError
from raftlog.raft.messages import Append, AppendReject, Snapshot
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.types import RaftIndex, Term


@dataclass(frozen=True, slots=True)
class Accepted:
    """The log matches the leader's up to `match_index`, on disk or about to be."""

    match_index: RaftIndex
    truncated_from: RaftIndex | None
    appended: int


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


def install(log: GroupLog, snapshot: Snapshot, *, replace: bool) -> bool:
    """Start anew behind a leader's snapshot. False when the log contains the snapshot's end already, or
    has committed past it: then nothing may be wiped (PYSYNCOBJ.md, k). `replace`: the log is not to be
    trusted, take the snapshot in any case."""
    contained = snapshot.index <= log.commit_index or log.term_at(snapshot.index) == snapshot.index_term
    if contained and not replace:
        return False
    index, term = snapshot.index, snapshot.index_term
    membership = Entry(
        index, term, EntryKind.MEMBERSHIP, snapshot.membership, snapshot.offset, snapshot.offset
    )
    log.reset(index, term, snapshot.offset, snapshot.state, membership)
    return True
