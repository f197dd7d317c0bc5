"""Committed entries that wait to be applied: how far the state machine is, and what it gets next.

It gets a bounded number at a time, so that the event loop goes on answering, also after a restart with a long
log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from raftlog.errors import DamagedLog, FileRefused
from raftlog.storage.entry import Entry
from raftlog.storage.group_log import GroupLog
from raftlog.types import RaftIndex

APPLY_ENTRIES_MAX: Final = 1024
"""Entries that a group applies in one turn."""
APPLY_BYTES_MAX: Final = 1 << 20
"""Bytes that a group reads from its log in one turn, to apply them."""
COMMANDS_BYTES_MAX: Final = 64 * 1024
"""Bytes of commands that a group applies in one turn, and a command more: each of the 1,500 offsets in them
is looked at, which takes five milliseconds. Of a partition's batch little more than the header is."""


class Applying:
    """Of one replica in one group. Entries that were committed a moment ago come from memory. All others are
    read from the log when they are to be applied."""

    def __init__(
        self,
        log: GroupLog,
        *,
        are_commands: bool,
        may_read: Callable[[], bool],
        on_damage: Callable[[], None],
    ) -> None:
        """`are_commands`: to apply an entry costs by its bytes. `may_read` says whether this turn has time
        left to read from the log. Where it has none, the entries wait for a later turn. `on_damage` is called
        when the log could not be read."""
        self.index = log.commit_index
        self.is_stuck = False
        """What comes next is damaged and waits to be repaired, or the group has ended."""
        self.is_closed = False
        """The group has ended."""
        self._log = log
        self._are_commands = are_commands
        self._may_read = may_read
        self._on_damage = on_damage
        self._waiting: list[Entry] = []

    @property
    def is_behind(self) -> bool:
        """There is something to apply."""
        log = self._log
        return self.index < log.commit_index and not self.is_stuck and log.damage.lost is None

    def restart(self, index: RaftIndex) -> None:
        """The state machine stands at `index`."""
        self.index = index
        self.is_stuck = False
        self._waiting = []

    def look_again(self) -> None:
        """Damage was found, or was dropped with the entries around it: what comes next may be sound."""
        self.is_stuck = self.is_closed

    def close(self) -> None:
        """The group ends: nothing is applied any more."""
        self.is_stuck = self.is_closed = True
        self._waiting = []

    def committed(self, entries: list[Entry]) -> None:
        waiting = self._waiting
        if self.index + len(waiting) + 1 == entries[0].index and len(waiting) < APPLY_ENTRIES_MAX:
            self._waiting = waiting + entries if waiting else entries

    def take(self) -> Sequence[Entry]:
        """The next entries, in order, a bounded number. They count as applied."""
        if not self.is_behind or not (self._waiting or self._may_read()):
            return ()
        try:
            return self._take()
        except FileRefused:  # there is no descriptor for the file: a later turn tries again
            return ()

    def take_all(self) -> Iterator[Sequence[Entry]]:
        """Everything, in the same bounded parts. Ends early where the log is damaged. Raises FileRefused."""
        while self.is_behind:
            entries = self._take()
            if not entries:
                return
            yield entries

    def _take(self) -> Sequence[Entry]:
        entries = self._waiting
        if entries:
            at_once = _commands_at_once(entries) if self._are_commands else APPLY_ENTRIES_MAX
            self._waiting = entries[at_once:]
            if self._waiting:
                entries = entries[:at_once]
        else:
            entries = self._read()
        if entries:
            self.index = entries[-1].index
        return entries

    def _read(self) -> list[Entry]:
        log, commit_index = self._log, self._log.commit_index
        try:
            bytes_max = COMMANDS_BYTES_MAX if self._are_commands else APPLY_BYTES_MAX
            entries = log.entries.read(RaftIndex(self.index + 1), bytes_max, APPLY_ENTRIES_MAX)
        except DamagedLog:
            self.is_stuck = True
            self._on_damage()
            return []
        del entries[commit_index - self.index :]
        return entries


def _commands_at_once(entries: list[Entry]) -> int:
    """How many of these a turn applies, one at least."""
    size = 0
    for count, entry in enumerate(entries[:APPLY_ENTRIES_MAX]):
        if size >= COMMANDS_BYTES_MAX:
            return count
        size += len(entry.payload)
    return APPLY_ENTRIES_MAX
