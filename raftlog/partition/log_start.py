"""Where a partition's log begins: moved by an entry that every replica applies.

DeleteRecords and the leader's retention ask for a new start; it is a command in the Raft log, so that it is
on a majority of disks when it is answered, and every leader to come has it. A replica made later gets the
command with the entries: it can only be compacted away together with all that it deletes. The command rides
in a NOOP entry, which takes no offset, and which a broker of an older build keeps and passes over.

It knows no clock and no socket. Invariants: the start only moves forward, is a function of the committed log,
and one command at a time is under way, whoever asks how often.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from raftlog.raft.group import RaftGroup
from raftlog.raft.values import NotLeader, Outcome
from raftlog.storage.entry import Entry, EntryKind, Payload
from raftlog.storage.group_log import GroupLog
from raftlog.types import Offset

WAITING_MAX: Final = 1_000
"""Who asks meanwhile waits for the next command; more are told to come again."""

COMMANDS_MAX: Final = 1_000
"""Commands and other entries without an offset that a log holds, before they go once a tick instead of one
behind the other: they stay until the segment goes that they lie in."""

UNKNOWN_OFFSET: Final = Offset(-1)

_COMMAND: Final = struct.Struct(">BBq")
_VERSION: Final = 1
_LOG_START: Final = 1

OnMoved = Callable[[Outcome | None], None]
"""COMMITTED: the start lies at what was asked for, or beyond. None: too many ask."""


def encode_log_start(offset: Offset) -> bytes:
    """The payload of the entry that moves the start to `offset`."""
    return _COMMAND.pack(_VERSION, _LOG_START, offset)


def log_start_of(payload: Payload) -> Offset | None:
    """Where the payload of a NOOP entry moves the start to; None for all that do not, and for commands of a
    newer build."""
    if len(payload) != _COMMAND.size:
        return None
    version, command, offset = _COMMAND.unpack_from(payload)
    return Offset(offset) if (version, command) == (_VERSION, _LOG_START) else None


class LogStart:
    """The start of one replica's log. Only a leader is asked to move it."""

    def __init__(self, group: RaftGroup, log: GroupLog) -> None:
        self._group = group
        self._log = log
        self._under_way: Offset | None = None
        self._waiting: list[tuple[Offset, OnMoved]] = []
        self._has_told = False
        self.uncommitted = Offset(0)
        """Where the entries that a new leader has found, and not committed yet, move it to."""

    @property
    def told(self) -> Offset:
        """What an answer says of the log's start: a leader that has not committed anything in its term yet
        may not know how far an earlier one moved it."""
        return self._log.retention.start_offset if self._group.is_ready else UNKNOWN_OFFSET

    def move_to(self, offset: Offset, on_moved: OnMoved) -> None:
        """Move the start to `offset`, at most the high watermark. `on_moved` is called once."""
        if len(self._waiting) >= WAITING_MAX:
            on_moved(None)
            return
        self._waiting.append((offset, on_moved))
        if self._log.retention.internal_count < COMMANDS_MAX:
            self.propose()

    def propose(self) -> None:
        """Put into the log what is waited for, unless a command is under way."""
        if self._under_way is not None or not self._waiting:
            return
        wanted = max(offset for offset, _ in self._waiting)
        if self._log.retention.start_offset >= wanted:
            self._end(wanted, Outcome.COMMITTED)
            return
        self._under_way = wanted
        entry = self._group.leading.propose(EntryKind.NOOP, encode_log_start(wanted), 0, self._proposed)
        if isinstance(entry, NotLeader):
            self._under_way = None
            self._end(wanted, Outcome.WILL_NOT_HAPPEN)

    def _proposed(self, outcome: Outcome, entry: Entry) -> None:
        wanted, self._under_way = self._under_way, None
        assert wanted is not None, entry
        self._end(wanted, outcome)
        if outcome is not Outcome.COMMITTED:
            self.fail()  # the leadership is over: nobody else would tell them
        elif self._log.retention.internal_count < COMMANDS_MAX:
            self.propose()

    def _end(self, wanted: Offset, outcome: Outcome) -> None:
        ended = [each for each in self._waiting if each[0] <= wanted]
        self._waiting = [each for each in self._waiting if each[0] > wanted]
        for _, on_moved in ended:
            on_moved(outcome)

    def tell_followers(self) -> None:
        """Once a leadership: replicas may lack a start that was moved when only its own replica was told, or
        while a broker of an older build passed over the command."""
        if not self._has_told and not self._group.is_transferring:
            self._has_told = True
            if self._log.retention.start_offset > self._log.retention.first_offset:
                self._group.leading.propose(
                    EntryKind.NOOP,
                    encode_log_start(self._log.retention.start_offset),
                    0,
                    lambda outcome, entry: None,
                )

    def apply(self, entry: Entry) -> None:
        """The NOOP entry is committed."""
        offset = log_start_of(entry.payload)
        if offset is not None:
            self._log.retention.delete_before(offset)

    def leadership_changed(self, tail: list[Entry]) -> None:
        """`tail`: what a new leader has not committed yet; empty for who follows. Commands of a leadership
        that is over are answered by the group."""
        self._has_told = False
        starts = [log_start_of(entry.payload) for entry in tail if entry.kind is EntryKind.NOOP]
        self.uncommitted = max((start for start in starts if start is not None), default=Offset(0))
        if self._under_way is None:
            self.fail()

    def fail(self) -> None:
        """Whoever waits for a command that was never proposed is told to ask the next leader."""
        waiting, self._waiting = self._waiting, []
        for _, on_moved in waiting:
            on_moved(Outcome.WILL_NOT_HAPPEN)
