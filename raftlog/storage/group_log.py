"""The Raft log of one group: committed batches in segments, the uncommitted tail in memory and the WAL.

It decides where an entry goes and refuses what Raft must never do. It does not know who leads, what an
entry means or what time it is.

Invariants, each a SafetyError when broken: indexes and offsets are dense, terms never fall; nothing at or
below commit_index is truncated; nothing is committed here before it is durable here, which is why
everything in a segment that no checkpoint covers yet is also in the write-ahead log; a term never falls
and a vote is never changed.

A log's folder belongs to one life of it: after a reset the log goes on in a new folder, so that nothing
that is still being done to the old one (a checkpoint, an unlink) can touch the new.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import cbor2

from raftlog.errors import (
    CorruptBatch,
    DamagedBatch,
    DamagedLog,
    FileRefused,
    InvalidInput,
    SafetyError,
    StorageError,
)
from raftlog.records.batch import check_batch
from raftlog.storage.checkpoint import CheckpointJob
from raftlog.storage.cleaning import Cleaning
from raftlog.storage.committed import CommittedLog, LogLimits
from raftlog.storage.disk import NOT_THE_DISKS, Disk, Health
from raftlog.storage.entry import LOG_BEGIN, Entry, EntryKind, HardState, LogPoint, Payload
from raftlog.storage.epochs import Epochs
from raftlog.storage.index import Place
from raftlog.storage.recent import RecentEntries
from raftlog.storage.segment import SegmentPiece, SegmentPool, Slice
from raftlog.storage.snapshot import LogImage, entry_to_cbor
from raftlog.storage.timestamps import FoundTime, Steps, first_record, run
from raftlog.storage.wal import Wal
from raftlog.storage.wal_format import RecordKind
from raftlog.storage.warming import Warming
from raftlog.types import FilePosition, Offset, RaftIndex, Term

__all__ = ["GroupLog", "LogContext", "Slice"]

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


@dataclass(frozen=True, slots=True)
class Rot:
    """A committed entry whose bytes are not what was written, where it lies, and how that was found."""

    place: Place
    problem: str

    @property
    def index(self) -> RaftIndex:
        return self.place.index


class GroupLog:
    """One group's log. Made by `Store.create_log` and by recovery, never directly.

    Plain attributes, to be read by everyone and set by nobody else:
      key, dirname
      last_index       the last entry, committed or not; first_index - 1 when there is none
      last_term        its term
      commit_index     the last entry known to be committed; everything up to it is in the segments
      synced_index     the last entry that is durable: what an ack may rest on
      high_watermark   the end of what is committed; log_end_offset: of everything
      snapshot_state, snapshot_index   the state machine's last saved state and the entry it stands at
      cleaning         what compaction asks
      damage           None, or why it is not known any more what the log holds; it outlives a restart
      rot              None, or an entry whose bytes are damaged in a log that is whole otherwise; it is
                       found again after a restart
      refused          None, or why what is committed could not be moved to the segments for now
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
        self.dirname = dirname
        self._hard_state = hard_state
        self._has_snapshot = has_snapshot
        self._is_closed = False
        self._may_lack = image.may_lack
        self.on_rot: Callable[[], None] = lambda: None
        """Called when `rot` is found, by whoever reads, or goes with what is dropped. The group sets it."""
        self._limits = context.limits
        self._begin(image)
        is_plain = image.start == LOG_BEGIN and image.membership is None
        self._is_changed = not (is_plain or has_snapshot)

    def _begin(self, image: LogImage) -> None:
        """Stand where `image` says, with nothing uncommitted."""
        context = self._context
        self.damage = image.damage
        self.rot: Rot | None = None
        self.refused: str | None = None
        folder = f"{context.root}/{self.dirname}"
        self._epochs = Epochs(image.epochs)
        self._committed = CommittedLog(
            context.disk,
            context.health,
            context.pool,
            folder,
            self._limits,
            image,
            self.term_at,
            self._epochs.term_of,
        )
        self.cleaning = Cleaning(self._committed, self._epochs, image.passes, self._cleaned)
        self.commit_index = self.last_index = image.commit.index
        self.last_term = image.commit.term
        self.high_watermark = self.log_end_offset = image.commit.offset
        self._memory: list[Entry] = []
        self._memory_first = self.commit_index + 1
        self.synced_index = self._written_index = self.commit_index
        self.snapshot_state, self.snapshot_index = image.state, image.snapshot_index
        self._memberships = [] if image.membership is None else [image.membership]
        self._memberships += [entry for entry in image.internal if entry.kind is EntryKind.MEMBERSHIP]

    def __repr__(self) -> str:
        return (
            f"<GroupLog {self.dirname} entries={self.first_index}..{self.last_index} term={self.last_term} "
            f"committed={self.commit_index} synced={self.synced_index} end={self.log_end_offset}"
            f"{' DAMAGED' if self.problem else ''}>"
        )

    @property
    def first_index(self) -> RaftIndex:
        """The first entry that can still be read."""
        return RaftIndex(self._committed.start.index + 1)

    def has_entries_from(self, index: RaftIndex) -> bool:
        """Whether the entries from `index` on can still be read, one by one."""
        return index >= self.first_index and (
            index > self.cleaning.clean_index or index >= self._memory_first
        )

    @property
    def log_start_offset(self) -> Offset:
        return self._committed.log_start_offset

    @property
    def first_offset(self) -> Offset:
        """The first offset that can still be read, be it deleted or not."""
        return self._committed.start.offset

    @property
    def internal_count(self) -> int:
        """Committed entries that take no offset; they stay until the segments around them go."""
        return len(self._committed.internal)

    @property
    def problem(self) -> str | None:
        """What is wrong with the log, if anything is known to be."""
        return self.damage or (self.rot.problem if self.rot is not None else None)

    @property
    def max_timestamp(self) -> int:
        """The greatest timestamp (ms) of a committed record, -1 when there is none."""
        return self._committed.max_timestamp

    @property
    def memberships(self) -> list[Entry]:
        """The MEMBERSHIP entries that the log holds or has held last: the newest one that was compacted
        away, or the one that it was made with (if any), then all that are in the log, in index order."""
        return list(self._memberships)

    @property
    def hard_state(self) -> HardState:
        """Term and vote as last set. Setting it makes it pending: it is durable once the next ticket is
        synced. A term that falls, or a second vote in one term, is a SafetyError."""
        return self._hard_state

    @hard_state.setter
    def hard_state(self, value: HardState) -> None:
        old = self._hard_state
        if value == old:
            return
        if value.term < old.term or (value.term == old.term and old.voted_for is not None):
            raise SafetyError(f"{self!r}: {old} must not become {value}")
        self._hard_state = value
        vote = -1 if value.voted_for is None else value.voted_for
        self._add(RecordKind.HARD_STATE, index=vote, term=value.term)

    @property
    def may_lack(self) -> bool:
        """Whether the log may lack what its replica has acknowledged, under this key, in an earlier log; it
        outlives restarts and resets. Setting it is pending like an entry."""
        return self._may_lack

    @may_lack.setter
    def may_lack(self, value: bool) -> None:
        if value != self._may_lack:
            self._may_lack, self._is_changed = value, True
            self._add(RecordKind.MAY_LACK, index=int(value))

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

    # Raft's side: the tail.

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
            self._memberships.append(entry)
        if term != self.last_term or not self._epochs:
            self._epochs.add(term, index, base_offset)
            self.last_term = term
        self._memory.append(entry)
        self.last_index = index
        self.log_end_offset = next_offset
        context.wal.add_entry(self.key, entry, self.commit_index)
        context.touched[self] = None

    def check_received(self, entries: Sequence[Entry]) -> None:
        """Hold batches that a peer sent to their CRCs, before they are appended. Raises CorruptBatch."""
        for entry in entries:
            if entry.kind is EntryKind.BATCH:
                header = check_batch(entry.payload)
                if header.size != len(entry.payload):
                    raise CorruptBatch(f"a batch of {header.size} bytes in {len(entry.payload)}")

    def truncate_from(self, index: RaftIndex) -> None:
        """Drop the uncommitted entries from `index` on. At or below commit_index: SafetyError."""
        if index <= self.commit_index:
            raise SafetyError(f"{self!r}: must not truncate from {index}, which is committed")
        if index > self.last_index:
            return
        self._add(RecordKind.TRUNCATE, index=index)
        del self._memory[index - self._memory_first :]
        self._epochs.truncate_from(index)
        self.last_index = RaftIndex(index - 1)
        if self.last_index > self.commit_index:
            last = self._memory[-1]
            self.last_term, self.log_end_offset = last.term, last.next_offset
        else:
            end = self._committed.end
            self.last_term, self.log_end_offset = end.term, end.offset
        self.synced_index = min(self.synced_index, self.last_index)
        self._written_index = min(self._written_index, self.last_index)
        while self._memberships and self._memberships[-1].index >= index:
            del self._memberships[-1]

    def commit_begins_file(self, index: RaftIndex) -> bool:
        """Whether `commit_to` of the same begins a file, or goes on with one that an earlier process wrote,
        and whose index must be read. Either takes long for a turn in which many logs do it."""
        if not self._committed.lacks_file or index <= self.commit_index:
            return False
        first = self._memory_first
        entries = self._memory[self.commit_index + 1 - first : index + 1 - first]
        return any(entry.kind is EntryKind.BATCH for entry in entries)

    def commit_to(self, index: RaftIndex) -> list[Entry]:
        """Move what is committed up to `index` into the segments (written, not synced) and return the
        entries that became committed. Only what is synced here can be committed here (index at most
        synced_index), else SafetyError. Does nothing when `index` is not ahead of commit_index.

        Where the system does not open a segment's file, it commits up to there, and `refused` says why: they
        stay in memory and in the WAL, and are committed when it is called again.
        """
        if index <= self.commit_index:
            return []
        if index > self.synced_index:
            raise SafetyError(f"{self!r}: must not commit {index}, which is not durable here")
        first = self._memory_first
        entries = self._memory[self.commit_index + 1 - first : index + 1 - first]
        count, self.refused = self._committed.append(entries)
        if self.refused is not None:
            del entries[count:]
            if not entries:
                return []
        self.commit_index = entries[-1].index
        self.high_watermark = entries[-1].next_offset
        self._context.recent.add(self, entries)
        return entries

    def forget_to(self, index: RaftIndex) -> None:
        """Let go of committed entries in memory; they are read from the segments from now on."""
        count = min(index, self.commit_index) + 1 - self._memory_first
        if count > 0:
            del self._memory[:count]
            self._memory_first += count

    def note_written(self) -> None:
        """Everything pending has been written, and waits for its sync."""
        self._written_index = self.last_index

    def note_synced(self) -> None:
        """What had been written then is durable now, but for what was truncated meanwhile."""
        self.synced_index = max(self.synced_index, self._written_index)

    def reset(
        self, index: RaftIndex, term: Term, offset: Offset, state: bytes, membership: Entry | None = None
    ) -> None:
        """Install a snapshot: the whole log goes, the next entry will be index + 1 at `offset`. Pending
        until the next ticket is synced (synced_index is 0 until then). Clears `damage`.

        `membership` is the newest MEMBERSHIP entry at or below `index`, where it is known.
        """
        dirname = self._context.new_dirname(self.dirname)
        payload = cbor2.dumps([dirname, state, entry_to_cbor(membership)])
        self._add(RecordKind.RESET, index=index, term=term, offset=offset, payload=payload)
        self._context.abandoned.append(self.dirname)
        self.begin_anew(dirname, LogPoint(index, term, offset), state, membership)

    def begin_anew(self, dirname: str, point: LogPoint, state: bytes, membership: Entry | None) -> None:
        """What `reset` does, now or in a replay, but for the record of it."""
        self._committed.close()
        self.dirname = dirname
        self._has_snapshot = False
        self._begin(
            LogImage(
                key=self.key,
                start=point,
                log_start_offset=point.offset,
                commit=point,
                snapshot_index=point.index,
                state=state,
                membership=membership,
            )
        )
        self._is_changed = True
        self.synced_index = self._written_index = RaftIndex(0)

    # Readers' side.

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What cannot be read is damage: it is remembered, reported and refused. What cannot be opened for
        now is FileRefused."""
        self._context.health.check()
        try:
            yield
        except DamagedBatch as error:
            place = Place(Offset(error.offset), RaftIndex(error.index), FilePosition(error.position))
            if self.rot is None:
                self.rot = Rot(place, str(error))
                self.on_rot()
            raise
        except DamagedLog as error:
            self.damage = self.damage or str(error)
            raise
        except OSError as error:
            if error.errno in NOT_THE_DISKS:
                raise FileRefused(f"{self.dirname}: {error}") from error
            self.damage = self.damage or f"{self.dirname}: {error}"
            raise DamagedLog(f"{self.dirname}: {error}") from error

    def entries(self, from_index: RaftIndex, max_bytes: int, max_count: int) -> list[Entry]:
        """Entries from `from_index` on, from memory or from the segments: at least one if there is one,
        then while payloads fit `max_bytes` and entries `max_count`. Empty past last_index. It may stop
        early where memory begins; ask again from there.

        Raises LookupError where `has_entries_from` says no, DamagedLog when the bytes are not what was
        written.
        """
        if from_index > self.last_index:
            return []
        if not self.has_entries_from(from_index):
            raise LookupError(f"{self!r}: entry {from_index} is gone")
        start = from_index - self._memory_first
        if start < 0:
            with self._reading():
                return self._committed.entries(from_index, max_bytes, max_count)
        stop, last = start, min(start + max(max_count, 1), len(self._memory))
        while stop < last:
            max_bytes -= len(self._memory[stop].payload)
            if max_bytes < 0 and stop > start:
                break
            stop += 1
        return self._memory[start:stop]

    def cold(self, offset: Offset, max_bytes: int) -> Warming | None:
        """What to run in a thread so that `read` of the same will not wait for the disk; None for what is in
        memory. Raises DamagedLog."""
        with self._reading():
            return self._committed.cold(offset, max_bytes)

    def read(self, offset: Offset, max_bytes: int, before: Offset | None = None) -> Slice | None:
        """Committed batches from the one that contains `offset` on: at least one, whole ones, at most
        `max_bytes` after the first, from one segment, and none at `before` or behind, where a batch begins.
        None at the high watermark and outside [log_start_offset, high_watermark). Raises DamagedLog."""
        assert before is None or offset < before, (offset, before)
        with self._reading():
            return self._committed.read(offset, max_bytes, before)

    def piece(self, base_index: RaftIndex, place: Place | None) -> SegmentPiece | None:
        """What a scrub reads next; see `CommittedLog.piece`. Raises FileRefused, DamagedLog."""
        with self._reading():
            return self._committed.piece(base_index, place)

    def check_piece(self, piece: SegmentPiece, data: memoryview | StorageError) -> Place | None:
        """Check what a scrub has read; where to go on in the segment. Raises DamagedLog."""
        with self._reading():
            if isinstance(data, StorageError):
                raise data
            return self._committed.check_piece(piece, data)

    def repair(self, entries: Sequence[Entry]) -> None:
        """Write the entry that `rot` names, and what follows on it in `entries`, as another replica has them.
        Raises InvalidInput when they are not sound or not what belongs there, DamagedBatch when what lies
        behind them is damaged as well: that is the `rot` then."""
        rot = self.rot
        assert rot is not None
        self.check_received(entries)
        with self._reading():
            try:
                self._committed.repair(rot.place, entries)
            except InvalidInput:
                raise
            except DamagedLog:
                self.rot = None
                raise
        self.rot = None

    def give_up(self, problem: str) -> None:
        """The bytes that `rot` names cannot be had back: the log is as good as lost, until it is reset."""
        self.rot, self.damage, self._is_changed = None, problem, True

    def offset_for_timestamp(self, timestamp_ms: int) -> FoundTime | None:
        """The first committed record at or after `timestamp_ms`, or None. Raises DamagedLog."""
        return run(self.offset_for_timestamp_steps(timestamp_ms))

    def offset_for_timestamp_steps(self, timestamp_ms: int) -> Steps[FoundTime | None]:
        """The same in steps that hold nobody up. What is written meanwhile may be found or not."""
        offset = self.log_start_offset
        while not self._is_closed:
            with self._reading():
                warming = self._committed.cold_timestamp(timestamp_ms, offset)
            if warming is not None:
                yield warming.run
            if self._is_closed:
                break
            with self._reading():
                candidate = self._committed.search_timestamp(timestamp_ms, offset)
            if candidate is None:
                break
            batch, offset = candidate
            if batch is None:
                yield lambda: None
                continue
            found = yield partial(first_record, batch, timestamp_ms, self.log_start_offset)
            if isinstance(found, FoundTime):
                return found
        return None

    def offset_for_term(self, term: Term) -> tuple[Term, Offset]:
        """OffsetForLeaderEpoch: the newest term at or before `term`, and where its offsets end (KIP-101,
        KIP-279). (-1, -1) for a term newer than every one known. Never beyond the high watermark."""
        return self._epochs.end_offset(term, self.high_watermark)

    # Limits, retention, snapshots.

    def configure(
        self,
        *,
        segment_bytes: int | None = None,
        roll_ms: int | None = None,
        index_interval_bytes: int | None = None,
    ) -> None:
        """Change the log's limits; what is None stays."""
        changes = {
            "segment_bytes": segment_bytes,
            "roll_ms": roll_ms,
            "index_interval_bytes": index_interval_bytes,
        }
        self._limits = replace(self._limits, **{key: value for key, value in changes.items() if value})
        self._committed.limits = self._limits

    def roll_if_due(self, now_ms: int) -> bool:
        """To be called now and then: closes an active segment without timestamps that is older than roll_ms;
        True when it was. What has timestamps is rolled by them, when it is written."""
        return self._committed.roll_if_due(now_ms)

    def expired_to(self, now_ms: int, retention_ms: int, retention_bytes: int) -> Offset:
        """Where the log would begin without the whole segments that are older than `retention_ms` or that
        lie before the last `retention_bytes` (-1: no limit)."""
        return self._committed.expired_to(now_ms, retention_ms, retention_bytes)

    def delete_before(self, offset: Offset) -> None:
        """Move log_start_offset forward to `offset`, at most to the high watermark. Pending like an entry;
        the files go with the next `drop_deleted`."""
        if self._committed.delete_before(offset):
            self._add(RecordKind.LOG_START, offset=self.log_start_offset)

    def drop_deleted(self, applied: RaftIndex) -> bool:
        """Drop the whole segments before log_start_offset; True when something went. Only up to entry
        `applied`, at which the state is saved: entries that are gone are not applied after a restart."""
        count = self._committed.drop_deleted(applied)
        if count:
            self._start_moved()
        return count > 0

    def save_snapshot(self, state: bytes, index: RaftIndex, *, drop_before: bool = False) -> None:
        """Keep the state machine's state as of entry `index` (committed); durable with the next
        checkpoint. With `drop_before` the entries up to `index` are dropped (metadata group)."""
        if index > self.commit_index or index < self.snapshot_index:
            raise SafetyError(f"{self!r}: a snapshot at {index} after one at {self.snapshot_index}")
        self.snapshot_state, self.snapshot_index = state, index
        self._is_changed = True
        if drop_before:
            term = self.term_at(index)
            assert term is not None, index
            self._committed.drop_to(index, term)
            self._start_moved()

    def _start_moved(self) -> None:
        """The log begins later: let go of what memory holds of the part that is gone."""
        start = self._committed.start.index
        self._context.has_garbage = True
        if self.rot is not None and self.rot.index <= start:
            self.rot = None
            self.on_rot()
        self._add(RecordKind.LOG_START, offset=self.log_start_offset)
        self.forget_to(start)
        self._epochs.drop_before(RaftIndex(start + 1))
        self._forget_memberships()

    def _forget_memberships(self) -> None:
        """Of those whose entries are gone the newest stays."""
        gone = [entry for entry in self._memberships if entry.index <= self._gone_to]
        self._memberships = gone[-1:] + self._memberships[len(gone) :]

    @property
    def _gone_to(self) -> int:
        """Up to here there are no entries of Raft itself."""
        return max(self._committed.start.index, self.cleaning.clean_index)

    def _cleaned(self) -> None:
        """Compaction has been over a part of the log. The record says nothing that is not known; it has the
        store write, and so the checkpoint come that removes the old files."""
        self._context.has_garbage = True
        self._add(RecordKind.LOG_START, offset=self.log_start_offset)
        self._forget_memberships()
        if self.rot is not None and self.rot.index <= self.cleaning.clean_index:
            self.rot = None  # the pass has read what it names, and found it sound
            self.on_rot()

    # The store's side.

    def capture(self, job: CheckpointJob) -> list[object]:
        """Give `job` what makes the committed part durable, and return the log's line in the checkpoint:
        its name, term and vote, and how far it was committed."""
        committed = self._committed
        for segment in committed.take_dirty():
            job.add_segment(segment)
        if self._is_changed or committed.is_changed:
            image = LogImage(
                key=self.key,
                epochs=self._epochs.lines_to(self.commit_index),
                membership=next((entry for entry in self._memberships if entry.index <= self._gone_to), None),
                snapshot_index=self.snapshot_index,
                state=self.snapshot_state,
                wal_sequence=job.start_sequence,
                damage=self.damage,
                may_lack=self._may_lack,
                passes=self.cleaning.passes.saved(),
            )
            job.snapshots.append((committed.folder, committed.image(image)))
            self._has_snapshot = True
            self._is_changed = committed.is_changed = False
        job.doomed += committed.doomed
        committed.doomed = []
        active = committed.segments[-1].extent.to_list() if committed.segments else None
        return [self.key, self.dirname, self._has_snapshot, self._hard_state, committed.end, active]

    def note_changed(self) -> None:
        """See that the next checkpoint writes the snapshot file."""
        self._is_changed = True

    def carry_over(self) -> None:
        """Write the uncommitted tail once more, since the WAL's files before it are to be reused."""
        for entry in self._memory[self.commit_index + 1 - self._memory_first :]:
            self._context.wal.add_entry(self.key, entry, self.commit_index)

    def close(self) -> None:
        """No use of the log is allowed any more. Slices stay valid."""
        self._is_closed = True
        self.cleaning.close()
        self._committed.close()

    def statistics(self) -> dict[str, int]:
        """Sizes in bytes; entries in memory."""
        return {
            "segments": len(self._committed.segments),
            "segment_bytes": self._committed.size,
            "memory_entries": len(self._memory),
            "uncommitted_entries": self.last_index - self.commit_index,
            "internal_entries": len(self._committed.internal),
        }


def _describe(entry: Entry) -> str:
    return (
        f"entry {entry.index} of term {entry.term}, {EntryKind(entry.kind).name}, "
        f"{len(entry.payload)} bytes, offsets {entry.base_offset}..{entry.next_offset}"
    )
