"""The flow of a group: what it wants done in a turn, in the order in which the driver does it.

A broker holds one replica of each of many Raft groups, and one disk for all of them. A turn takes a group
through seven steps:

1. **Deliver**: the group gets the messages that arrived (`Turning.step`).
2. **Tick**: the group gets the time (`tick`). A heartbeat or an election may be due.
3. The group gives the first half of a `Ready` (`before_sync`). The driver tells the state machine what became
   of the log and who leads. It sends what rests on no disk: a leader's entries and heartbeats.
4. **Persist**: one write and one sync make durable what all groups have changed since the last one, in their
   logs, terms and votes. No group says what that is: the store keeps a change until it is written. The group
   is told when its part is in the write (`on_written`) and when that is on the disk (`on_synced`). Then a
   follower acknowledges what it has synced; a leader counts its own disk, and commits what a majority has.
5. The group gives the second half of a `Ready` (`after_sync`).
6. **Release**: the driver sends what rests on the disk, votes and acknowledgements.
7. **Resolve**: the state machine applies what is committed. Then proposals and reads are answered.

While a slow disk syncs, turns go on and leave out the write. The group itself holds back what rests on the
sync that is under way.

A group with nothing to do is in no turn. Its heartbeats go without a `Ready` (`hear_idle_heartbeat`,
`hear_idle_reply`, `take_beats`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from raftlog.raft.messages import Addressed
from raftlog.raft.proposals import Ended
from raftlog.raft.values import Role
from raftlog.storage.entry import Entry
from raftlog.types import BrokerId, RaftIndex, Term

Standing: TypeAlias = tuple[Role, Term, BrokerId | None]
"""What a replica is, in which term, and who leads there as far as it knows."""
Read: TypeAlias = tuple[Callable[[bool], None], bool]
"""The callback of a read that may be answered, and whether this replica led."""


class Ready(NamedTuple):
    """What one group wants of the driver in one turn. The fields are in the order of the turn."""

    # Before the sync

    restored: tuple[bytes, RaftIndex] | None = None
    """A leader's snapshot replaced the log: the state machine takes this state, as of this index."""
    truncated_from: RaftIndex | None = None
    """Uncommitted entries from here on are gone."""
    catch_up: Iterable[Sequence[Entry]] = ()
    """For a new leader: what is committed and not applied, part by part, each read when it is asked for. A
    state machine applies it before it hears that it leads."""
    standing: Standing | None = None
    """What the replica is from now on; None when that did not change."""
    messages: Sequence[Addressed] = ()
    """What a leader sends. It leaves before the leader's own sync, so that all disks of a group work at
    once."""

    # After the sync

    replies: Sequence[Addressed] = ()
    """Votes, acknowledgements, requests for votes: they leave when term and vote are durable."""
    committed: Sequence[Entry] = ()
    """What the state machine applies next, in order. It counts as applied."""
    ended: Sequence[Ended] = ()
    """Proposals and how they ended, to be answered after `committed` is applied."""
    reads: Sequence[Read] = ()
    """Reads that may be answered after `committed` is applied."""
    has_more: bool = False
    """The group has work for the next turn, although nothing else may call for one."""

    @property
    def has_news(self) -> bool:
        """There is something to tell the state machine before the sync."""
        return self.standing is not None or self.restored is not None or self.truncated_from is not None


NOTHING: Final = Ready()
"""What a group gives that has nothing: always this one."""
