"""What a Raft group's log consists of: entries, and the term and vote beside them.

Pure data; it does not know where an entry lies.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from raftlog.storage.disk import Bytes
from raftlog.types import BrokerId, Offset, RaftIndex, Term

Payload: TypeAlias = Bytes
"""An entry's bytes, by reference: never joined or copied on the way to the disk. Whoever hands one over
does not change it afterwards."""


class EntryKind(IntEnum):
    """What an entry is to Raft; the numbers are in the files."""

    BATCH = 0
    """Exactly one Kafka v2 batch, stamped with the entry's base offset and term."""
    NOOP = 1
    """Nothing to Raft. Without a payload it begins a term; with one it is a command of the state machine's
    own, and who does not know the command keeps the entry and passes over it."""
    MEMBERSHIP = 2


class Entry(NamedTuple):
    """One entry of a Raft log. Internal kinds use up an index but no offset: base_offset == next_offset."""

    index: RaftIndex  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    term: Term
    kind: EntryKind
    payload: Payload
    base_offset: Offset
    next_offset: Offset


class HardState(NamedTuple):
    """What a Raft group must not forget: its term, and whom it voted for in it."""

    term: Term
    voted_for: BrokerId | None


class LogPoint(NamedTuple):
    """A place between two entries: the last index and term before it, the first offset behind it."""

    index: RaftIndex  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    term: Term
    offset: Offset

    def membership(self, payload: Payload) -> Entry:
        """Who is in the group from here on, in a log that begins here: the entry that was the last before."""
        return Entry(self.index, self.term, EntryKind.MEMBERSHIP, payload, self.offset, self.offset)


LOG_BEGIN = LogPoint(RaftIndex(0), Term(0), Offset(0))
"""Where a log begins that has never been cut."""
