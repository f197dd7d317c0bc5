"""The Raft log of one group: committed batches in segments, the uncommitted tail in memory and the WAL.

(Signatures; the bodies follow.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raftlog.storage.disk import File
from raftlog.storage.entry import Entry, EntryKind, HardState, Payload
from raftlog.types import FilePosition, GroupKey, Offset, RaftIndex, Term


@dataclass(frozen=True, slots=True)
class Slice:
    """Whole committed batches as a range of a file. Valid as long as it is referred to, also when
    retention removes the file meanwhile."""

    file: File
    position: FilePosition
    length: int
    next_offset: Offset

    @property
    def fileno(self) -> int:
        return self.file.fileno()

    def read(self) -> bytes:
        """The bytes themselves, where sendfile will not do."""
        return self.file.pread(self.length, self.position)


class GroupLog:
    """One group's log. Made by `Store.create_log` and by recovery, never directly.

    Plain attributes, to be read by everyone and set by nobody else:
      key, dirname
      first_index      the first entry that can still be read
      last_index       the last entry, committed or not; first_index - 1 when there is none
      last_term        its term
      commit_index     the last entry known to be committed; everything up to it is in the segments
      synced_index     the last entry that is durable: what an ack may rest on
      log_start_offset, high_watermark (end of what is committed), log_end_offset (end of everything)
      snapshot_state, snapshot_index   the state machine's last saved state and the entry it stands at
      damage           None, or what is wrong with bytes that had been acknowledged
    """

    key: GroupKey
    dirname: str
    first_index: RaftIndex
    last_index: RaftIndex
    last_term: Term
    commit_index: RaftIndex
    synced_index: RaftIndex
    log_start_offset: Offset
    high_watermark: Offset
    log_end_offset: Offset
    snapshot_state: bytes
    snapshot_index: RaftIndex
    damage: str | None

    @property
    def hard_state(self) -> HardState:
        """Term and vote as last set. Setting it makes it pending: it is durable once the next ticket is
        synced. A term that falls, or a second vote in one term, is a SafetyError."""
        raise NotImplementedError

    @hard_state.setter
    def hard_state(self, value: HardState) -> None:
        raise NotImplementedError

    @property
    def memberships(self) -> list[Entry]:
        """The MEMBERSHIP entries that the log holds or has held last: the newest one that was compacted
        away (if any), then all that are in the log, in index order."""
        raise NotImplementedError

    def term_at(self, index: RaftIndex) -> Term | None:
        """The term of the entry at `index`; also of first_index - 1; None outside of that."""
        raise NotImplementedError

    def append(self, term: Term, kind: EntryKind, payload: Payload, record_count: int) -> Entry:
        """The leader's append: gives the entry the next index and offset, and makes it pending.

        A BATCH must have been stamped with `log_end_offset` and `term` by the caller. Its record count is
        the number of offsets it takes (last offset delta + 1); 0 for the other kinds.
        """
        raise NotImplementedError

    def append_entries(self, entries: Sequence[Entry]) -> None:
        """The follower's append: entries as the leader numbered them, the first being last_index + 1.
        The caller truncates first where terms conflict. Raises SafetyError when they do not fit."""
        raise NotImplementedError

    def truncate_from(self, index: RaftIndex) -> None:
        """Drop the uncommitted entries from `index` on. At or below commit_index: SafetyError."""
        raise NotImplementedError

    def commit_to(self, index: RaftIndex) -> list[Entry]:
        """Move what is committed up to `index` into the segments (written, not synced) and return the
        entries that became committed. Only what is synced here can be committed here (index at most
        synced_index), else SafetyError. Does nothing when `index` is not ahead of commit_index.
        """
        raise NotImplementedError

    def entries(self, from_index: RaftIndex, max_bytes: int, max_count: int) -> list[Entry]:
        """Entries from `from_index` on, from memory or from the segments: at least one if there is one,
        then while payloads fit `max_bytes` and entries `max_count`. Empty past last_index.

        Raises LookupError below first_index, DamagedLog when the bytes are not what was written.
        """
        raise NotImplementedError

    def read(self, offset: Offset, max_bytes: int) -> Slice | None:
        """Committed batches from the one that contains `offset` on: at least one, whole ones, at most
        `max_bytes` after the first, from one segment. None at the high watermark and outside
        [log_start_offset, high_watermark). Raises DamagedLog."""
        raise NotImplementedError

    def offset_for_timestamp(self, timestamp_ms: int) -> tuple[Offset, int] | None:
        """(offset, timestamp) of the first committed record at or after `timestamp_ms`, or None."""
        raise NotImplementedError

    def offset_for_term(self, term: Term) -> tuple[Term, Offset]:
        """OffsetForLeaderEpoch: the newest term at or before `term`, and where its offsets end (KIP-101,
        KIP-279). (-1, -1) for a term newer than every one known. Never beyond the high watermark."""
        raise NotImplementedError

    @property
    def max_timestamp(self) -> int:
        """The greatest timestamp (ms) of a committed record, -1 when there is none."""
        raise NotImplementedError

    def configure(
        self,
        *,
        segment_bytes: int | None = None,
        roll_ms: int | None = None,
        index_interval_bytes: int | None = None,
    ) -> None:
        """Change the log's limits; what is None stays."""
        raise NotImplementedError

    def expire(self, now_ms: int, retention_ms: int, retention_bytes: int) -> bool:
        """Drop whole segments that are older than `retention_ms` or that lie before the last
        `retention_bytes` (-1: no limit), and those before log_start_offset. True when something went.
        Call `save_snapshot` first: entries that are gone are not applied after a restart."""
        raise NotImplementedError

    def delete_before(self, offset: Offset) -> None:
        """Move log_start_offset forward to `offset`, at most to the high watermark (DeleteRecords)."""
        raise NotImplementedError

    def roll_if_due(self, now_ms: int) -> bool:
        """Close the active segment when its first record is older than roll_ms."""
        raise NotImplementedError

    def save_snapshot(self, state: bytes, index: RaftIndex, *, drop_before: bool = False) -> None:
        """Keep the state machine's state as of entry `index` (committed); durable with the next
        checkpoint. With `drop_before` the entries up to `index` are dropped (metadata group)."""
        raise NotImplementedError

    def reset(
        self, index: RaftIndex, term: Term, offset: Offset, state: bytes, membership: Entry | None = None
    ) -> None:
        """Install a snapshot: the whole log goes, the next entry will be index + 1 at `offset`. Pending
        until the next ticket is synced (synced_index is `index` only then). Clears `damage`."""
        raise NotImplementedError

    def statistics(self) -> dict[str, int]:
        raise NotImplementedError
