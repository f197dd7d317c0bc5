"""What the replicas of a group say to each other.

Frozen, and nothing but numbers and entries: `raftlog.transport.wire` turns them into frames, the simulator
passes them on as they are. Every message carries its group and its sender's term. A message of an older term
is never counted: an acknowledgement of an old leader's entries must not complete a majority for a new one.
They are NamedTuples since a loaded leader makes thousands a second, and a frozen dataclass costs four times
as much to build.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from raftlog.storage.entry import Entry
from raftlog.storage.snapshot import LogImage
from raftlog.types import BrokerId, GroupKey, Offset, RaftIndex, Term


class Append(NamedTuple):
    """Leader to follower: the entries after `prev_index`; none of them makes it a probe."""

    group: GroupKey
    term: Term
    prev_index: RaftIndex
    prev_term: Term
    commit_index: RaftIndex
    entries: Sequence[Entry]


class AppendReply(NamedTuple):
    """Follower to leader: everything up to `match_index` is what the leader has, and is on my disk."""

    group: GroupKey
    term: Term
    match_index: RaftIndex


class AppendReject(NamedTuple):
    """Follower to leader: I have no entry `prev_index` of the term that you named.

    The hint is my last entry that could be in the leader's log, by index and term: a whole conflicting
    term is skipped at a time.
    """

    group: GroupKey
    term: Term
    prev_index: RaftIndex
    hint_index: RaftIndex
    hint_term: Term


class Heartbeat(NamedTuple):
    """Leader to follower: I lead. `round` counts the leader's heartbeats, for reads and the lease."""

    group: GroupKey
    term: Term
    commit_index: RaftIndex
    round: int


class HeartbeatReply(NamedTuple):
    """Follower to leader: the same promise as AppendReply, and the round that it answers."""

    group: GroupKey
    term: Term
    match_index: RaftIndex
    round: int


class PreVote(NamedTuple):
    """Would you vote for me in `term`? Changes nothing at the receiver (Raft thesis §9.6).

    `fresh` says that the sender holds nothing, so that replicas that lost their log may take part.
    """

    group: GroupKey
    term: Term
    last_index: RaftIndex
    last_term: Term
    fresh: bool


class PreVoteReply(NamedTuple):
    """`asked_term` is the term of the PreVote, `term` the sender's own."""

    group: GroupKey
    term: Term
    asked_term: Term
    granted: bool
    fresh: bool


class Vote(NamedTuple):
    """Vote for me in `term`. `transfer` says that the leader asked for this election."""

    group: GroupKey
    term: Term
    last_index: RaftIndex
    last_term: Term
    transfer: bool
    fresh: bool


class VoteReply(NamedTuple):
    group: GroupKey
    term: Term
    granted: bool


class Snapshot(NamedTuple):
    """Leader to follower: your log ends before mine begins. Start anew after this entry."""

    group: GroupKey
    term: Term
    last_index: RaftIndex
    last_term: Term
    offset: Offset
    membership: bytes
    state: bytes


class TimeoutNow(NamedTuple):
    """Leader to follower: you have all that I have; hold an election at once (Raft thesis §3.10)."""

    group: GroupKey
    term: Term


class Rejoin(NamedTuple):
    """Follower to leader: I lost my log; forget what I acknowledged. Each loss has a `nonce` of its own."""

    group: GroupKey
    term: Term
    nonce: int


class Welcome(NamedTuple):
    """Leader to follower: forgotten. You may vote again when you hold everything up to `commit_index`."""

    group: GroupKey
    term: Term
    nonce: int
    commit_index: RaftIndex


class RepairRequest(NamedTuple):
    """To any replica: my bytes of this entry, which is committed, are damaged. Counts in every term."""

    group: GroupKey
    term: Term
    entry_index: RaftIndex


class Repair(NamedTuple):
    """The answer: committed entries from `entry_index` on. Counts in every term."""

    group: GroupKey
    term: Term
    entry_index: RaftIndex
    entries: Sequence[Entry]


class Filled(NamedTuple):
    """A broker to its own replica, never to another: the compacted part of the leader's log is complete in a
    folder here, and on the disk. Go on with that. Only what is committed is in it, whoever leads."""

    group: GroupKey
    term: Term
    image: LogImage
    dirname: str


Message: TypeAlias = (
    Append
    | AppendReply
    | AppendReject
    | Heartbeat
    | HeartbeatReply
    | PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | Snapshot
    | TimeoutNow
    | Rejoin
    | Welcome
    | RepairRequest
    | Repair
    | Filled
)

Addressed: TypeAlias = tuple[BrokerId, Message]
"""A message and the broker that it goes to, or comes from."""

_WITH_ENTRIES: Final = (Append, Repair)

APPEND_ENTRY_COST: Final = 2 << 10
"""Bytes that are checked and copied in the time that a follower takes for an entry, however small it is: five
microseconds."""


def payload_size(message: Message) -> int:
    """Bytes of entries or state that a message carries."""
    if isinstance(message, _WITH_ENTRIES):
        return sum([len(entry.payload) for entry in message.entries])
    return len(message.state) if isinstance(message, Snapshot) else 0
