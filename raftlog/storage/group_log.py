"""The Raft log of one group: committed batches in segments, the uncommitted tail in memory and the WAL.

It decides where an entry goes and refuses what Raft must never do. It does not know who leads, what an
entry means or what time it is.

Invariants, each a SafetyError when broken: indexes and offsets are dense, terms never fall; nothing at or
below commit_index is truncated; nothing is committed here before it is durable here, which is why
everything in a segment that no checkpoint covers yet is also in the write-ahead log.

A log's folder belongs to one life of it: after a reset the log goes on in a new folder, so that nothing
that is still being done to the old one (a checkpoint, an unlink) can touch the new.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cbor2

from raftlog.errors import SafetyError
from raftlog.storage.cleaning import Cleaning
from raftlog.storage.committed import CommittedLog, LogLimits
from raftlog.storage.disk import Disk, Health
from raftlog.storage.entry import LOG_BEGIN, Entry, EntryKind, HardState, LogPoint, Payload
from raftlog.storage.epochs import Epochs
from raftlog.storage.log_damage import LogDamage
from raftlog.storage.log_entries import LogEntries
from raftlog.storage.passes import Passes
from raftlog.storage.promises import Promises
from raftlog.storage.reader import LogReader
from raftlog.storage.recent import RecentEntries
from raftlog.storage.retention import Retention
from raftlog.storage.saved import Saved
from raftlog.storage.segment_pool import SegmentPool
from raftlog.storage.snapshot import LogImage, empty_image, entry_to_cbor
from raftlog.storage.wal import Wal
from raftlog.storage.wal_format import RecordKind
from raftlog.types import Offset, RaftIndex, Term

__all__ = ["GroupLog", "LogContext"]

NO_HARD_STATE: Final = HardState(Term(0), None)

_STAMP: Final = struct.Struct(">qii")  # base offset, length, leader epoch
_LOG_OVERHEAD: Final = 12


@dataclass(slots=True)
class LogContext:
    """What the logs of one store share."""

    disk: Disk
    root: str
    health: Health
    wal: Wal
    pool: SegmentPool
    recent: RecentEntries
    limits: LogLimits
    touched: dict[GroupLog, None]
    """Logs with something pending in the WAL."""
    abandoned: list[str]
    """Folders that are of no use once what is pending is durable."""
    new_dirname: Callable[[str], str]
    """A folder's name that nothing on the disk has, like the one given."""
    has_garbage: bool = False
    """Whether files wait for the next checkpoint to be removed."""


class GroupLog:
    """One group's log. Made by `Store.create_log` and by recovery, never directly.

    Plain attributes, to be read by everyone and set by nobody else:
      key, dirname
      last_index       the last entry, committed or not; first_index - 1 when there is none
      last_term        its term
      commit_index     the last entry known to be committed; everything up to it is in the segments
      high_watermark   the end of what is committed; log_end_offset: of everything
      memberships      the MEMBERSHIP entries that the log holds or has held last: the newest one that was
                       compacted away, or the one that it was made with (if any), then all that are in the
                       log, in index order
      refused          None, or why what is committed could not be moved to the segments for now
      entries          the entries one by one, and how far they are durable
      promises         term and vote
      damage           what is known to be wrong with the log
      saved            the state machine's saved state
      reader           what a consumer, or a scrub, reads
      retention        how the log's beginning goes
      cleaning         what compaction asks
    The last three belong to one life of the log.
    """

    def __init__(
        self,
        context: LogContext,
        dirname: str,
        image: LogImage,
        *,
        has_snapshot: bool = False,
        hard_state: HardState = NO_HARD_STATE,
    ) -> None:
        self._context = context
        self.key = image.key
        self._is_closed = False
        self.damage = LogDamage(context.health)
        self.entries = LogEntries(self.damage.reading)
        self.promises = Promises(
            self.key, hard_state, image.may_lack, self._add, lambda: self.saved.note_changed()
        )
        self.saved = Saved(context.disk, self.promises, self.damage, self.term_at, self._start_moved)
        self._begin(dirname, image, context.limits, image.commit.index, has_snapshot=has_snapshot)
        is_plain = image.start == LOG_BEGIN and image.membership is None
        self._committed.is_changed = not (is_plain or has_snapshot)

    def _begin(
        self, dirname: str, image: LogImage, limits: LogLimits, synced_index: RaftIndex, *, has_snapshot: bool
    ) -> None:
        """Stand where `image` says, with nothing uncommitted."""
        context = self._context
        self.dirname = dirname
        self.refused: str | None = None
        self._epochs = Epochs(image.epochs)
        self._committed = committed = CommittedLog(
            context.disk,
            context.health,
            context.pool,
            f"{context.root}/{dirname}",
            limits,
            image,
            self.term_at,
            self._epochs.term_of,
        )
        self.commit_index = self.last_index = image.commit.index
        self.last_term = image.commit.term
        self.high_watermark = self.log_end_offset = image.commit.offset
        self.memberships = [] if image.membership is None else [image.membership]
        self.memberships += [entry for entry in image.internal if entry.kind is EntryKind.MEMBERSHIP]
        passes = Passes(image.passes)
        self.damage.begin(dirname, committed, image.damage)
        self.entries.begin(committed, synced_index)
        self.saved.begin(
            dirname, image, committed, self._epochs, passes, self.memberships, has_file=has_snapshot
        )
        self.cleaning = Cleaning(
            committed, self._epochs, passes, self._cleaned, copy=self.saved.copy, go_on_with=self._go_on_with
        )
        self.reader = LogReader(committed, self._epochs, self.term_at, self.damage.reading)
        self.retention = Retention(committed, self._note_start, self._start_moved)

    def __repr__(self) -> str:
        return (
            f"<GroupLog {self.dirname} entries={self.first_index}..{self.last_index} term={self.last_term} "
            f"committed={self.commit_index} synced={self.entries.synced_index} end={self.log_end_offset}"
            f"{' DAMAGED' if self.damage.problem else ''}>"
        )

    @property
    def first_index(self) -> RaftIndex:
        """The first entry that can still be read."""
        return RaftIndex(self._committed.start.index + 1)

    def _add(
        self, kind: RecordKind, *, index: int = 0, term: int = 0, offset: int = 0, payload: bytes = b""
    ) -> None:
        self._check()
        self._context.wal.add(
            kind, self.key, index=index, term=term, commit=self.commit_index, offset=offset, payload=payload
        )
        self._context.touched[self] = None

    def _check(self) -> None:
        self._context.health.check()
        if self._is_closed:
            raise SafetyError(f"{self!r} was deleted or closed")

    def term_at(self, index: RaftIndex) -> Term | None:
        """The term of the entry at `index`; also of first_index - 1; None outside of that."""
        start = self._committed.start
        if index > self.last_index or index < start.index:
            return None
        return start.term if index == start.index else self._epochs.term_at(index)

    def append(self, term: Term, kind: EntryKind, payload: Payload, record_count: int) -> Entry:
        """The leader's append: gives the entry the next index and offset, and makes it pending.

        A BATCH must have been stamped with `log_end_offset` and `term` by the caller. Its record count is
        the number of offsets it takes (last offset delta + 1); 0 for the other kinds.
        """
        offset = self.log_end_offset
        entry = Entry(
            RaftIndex(self.last_index + 1), term, kind, payload, offset, Offset(offset + record_count)
        )
        self._append(entry)
        return entry

    def append_entries(self, entries: Sequence[Entry]) -> None:
        """The follower's append: entries as the leader numbered them, the first being last_index + 1.
        The caller truncates first where terms conflict. Raises SafetyError when they do not fit."""
        for entry in entries:
            self._append(entry)

    def _append(self, entry: Entry) -> None:
        context = self._context
        if context.health.failure is not None or self._is_closed:
            self._check()
        index, term, kind, payload, base_offset, next_offset = entry
        if index != self.last_index + 1 or base_offset != self.log_end_offset or term < self.last_term:
            raise SafetyError(f"{self!r}: {_describe(entry)} does not follow term {self.last_term}")
        if kind is EntryKind.BATCH:
            if len(payload) < _STAMP.size or next_offset <= base_offset:
                raise SafetyError(f"{self!r}: {_describe(entry)} is not a batch")
            stamped_offset, length, epoch = _STAMP.unpack_from(payload)
            if stamped_offset != base_offset or epoch != term or length + _LOG_OVERHEAD != len(payload):
                raise SafetyError(
                    f"{self!r}: {_describe(entry)} is stamped with offset {stamped_offset}, term {epoch}, "
                    f"length {length}"
                )
        elif next_offset != base_offset:
            raise SafetyError(f"{self!r}: {_describe(entry)} must not take an offset")
        elif kind is EntryKind.MEMBERSHIP:
            self.memberships.append(entry)
        if term != self.last_term or not self._epochs:
            self._epochs.add(term, index, base_offset)
            self.last_term = term
        self.entries.memory.append(entry)
        self.last_index = index
        self.log_end_offset = next_offset
        context.wal.add_entry(self.key, entry, self.commit_index)
        context.touched[self] = None

    def truncate_from(self, index: RaftIndex) -> None:
        """Drop the uncommitted entries from `index` on. At or below commit_index: SafetyError."""
        if index <= self.commit_index:
            raise SafetyError(f"{self!r}: must not truncate from {index}, which is committed")
        if index > self.last_index:
            return
        self._add(RecordKind.TRUNCATE, index=index)
        self.entries.truncate_from(index)
        self._epochs.truncate_from(index)
        self.last_index = RaftIndex(index - 1)
        if self.last_index > self.commit_index:
            last = self.entries.memory[-1]
            self.last_term, self.log_end_offset = last.term, last.next_offset
        else:
            end = self._committed.end
            self.last_term, self.log_end_offset = end.term, end.offset
        while self.memberships and self.memberships[-1].index >= index:
            del self.memberships[-1]

    def commit_to(self, index: RaftIndex) -> list[Entry]:
        """Move what is committed up to `index` into the segments (written, not synced) and return the
        entries that became committed. Only what is synced here can be committed here (index at most
        `entries.synced_index`), else SafetyError. Does nothing when `index` is not ahead of commit_index.

        Where the system does not open a segment's file, it commits up to there, and `refused` says why: they
        stay in memory and in the WAL, and are committed when it is called again.
        """
        if index <= self.commit_index:
            return []
        if index > self.entries.synced_index:
            raise SafetyError(f"{self!r}: must not commit {index}, which is not durable here")
        first = self.entries.memory_first
        entries = self.entries.memory[self.commit_index + 1 - first : index + 1 - first]
        count, self.refused = self._committed.append(entries)
        if self.refused is not None:
            del entries[count:]
            if not entries:
                return []
        self.commit_index = entries[-1].index
        self.high_watermark = entries[-1].next_offset
        self._context.recent.add(self.entries, entries)
        return entries

    def reset(
        self, index: RaftIndex, term: Term, offset: Offset, state: bytes, membership: Entry | None = None
    ) -> None:
        """Install a snapshot: the whole log goes, the next entry will be index + 1 at `offset`. Pending
        until the next ticket is synced (`entries.synced_index` is 0 until then). Clears `damage`.

        `membership` is the newest MEMBERSHIP entry at or below `index`, where it is known.
        """
        dirname = self._context.new_dirname(self.dirname)
        payload = cbor2.dumps([dirname, state, entry_to_cbor(membership)])
        self._add(RecordKind.RESET, index=index, term=term, offset=offset, payload=payload)
        self._context.abandoned.append(self.dirname)
        self.go_on_in(dirname, empty_image(self.key, LogPoint(index, term, offset), state, membership))

    def _go_on_with(self, dirname: str, image: LogImage) -> None:
        """As `reset`, with a log that was filled in the folder `dirname`, and is on the disk."""
        index, term, offset = image.commit
        payload = cbor2.dumps([dirname])
        self._add(RecordKind.FILLED, index=index, term=term, offset=offset, payload=payload)
        self._context.abandoned.append(self.dirname)
        self.go_on_in(dirname, image, has_snapshot=True)

    def go_on_in(self, dirname: str, image: LogImage, *, has_snapshot: bool = False) -> None:
        """What replaces the log does that, now or in a replay, but for the record of it. `has_snapshot`: the
        folder has files."""
        self.reader.close()
        self._committed.close()
        self._begin(dirname, image, self._committed.limits, RaftIndex(0), has_snapshot=has_snapshot)
        self._committed.is_changed = True

    def _note_start(self) -> None:
        self._add(RecordKind.LOG_START, offset=self._committed.log_start_offset)

    def _start_moved(self) -> None:
        """The log begins later: let go of what memory holds of the part that is gone."""
        start = self._committed.start.index
        self._context.has_garbage = True
        self.damage.forget_to(start)
        self._note_start()
        self.entries.forget_to(start)
        self._epochs.drop_before(RaftIndex(start + 1))
        self._forget_memberships()

    def _forget_memberships(self) -> None:
        """Of those whose entries are gone the newest stays."""
        gone_to = max(self._committed.start.index, self._committed.clean_index)
        gone = [entry for entry in self.memberships if entry.index <= gone_to]
        del self.memberships[: max(len(gone) - 1, 0)]

    def _cleaned(self) -> None:
        """Compaction has been over a part of the log. The record says nothing that is not known; it has the
        store write, and so the checkpoint come that removes the old files."""
        self._context.has_garbage = True
        self._note_start()
        self._forget_memberships()
        self.damage.forget_to(self._committed.clean_index)

    def close(self) -> None:
        """No use of the log is allowed any more. Slices stay valid."""
        self._is_closed = True
        self.cleaning.close()
        self.reader.close()
        self._committed.close()


def _describe(entry: Entry) -> str:
    return (
        f"entry {entry.index} of term {entry.term}, {EntryKind(entry.kind).name}, "
        f"{len(entry.payload)} bytes, offsets {entry.base_offset}..{entry.next_offset}"
    )
