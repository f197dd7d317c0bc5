"""What may be read of a partition: which bytes a fetch sees, what a timestamp or a leader epoch maps to.

Invariant: nothing above the high watermark is served, and to a reader of committed transactions nothing above
the last stable offset.
"""

from __future__ import annotations

from collections.abc import Callable

from raftlog.errors import DamagedLog, FileRefused
from raftlog.partition.log_start import LogStart
from raftlog.partition.transactions import Transactions
from raftlog.partition.values import FetchResult, FoundOffset, PartitionError
from raftlog.raft.group import RaftGroup
from raftlog.storage.group_log import GroupLog
from raftlog.storage.timestamps import Steps
from raftlog.storage.warming import Warming
from raftlog.types import Offset, Term


class Reading:
    """The side of one replica that consumers ask."""

    def __init__(self, group: RaftGroup, log: GroupLog, start: LogStart, transactions: Transactions) -> None:
        self._group = group
        self._log = log
        self._start = start
        self._transactions = transactions

    @property
    def size(self) -> int:
        """Bytes of the committed batches."""
        return self._log.retention.size

    @property
    def last_stable_offset(self) -> Offset:
        """What a reader of committed transactions sees ends here."""
        return self._transactions.last_stable_offset

    def confirm_leadership(self, now: float, then: Callable[[bool], None]) -> None:
        """Call `then(True)` once a majority has confirmed that this replica still leads, at once in a group
        of one; `then(False)` when it does not. A leader that was paused does not know better by itself."""
        self._group.read_barrier(now, then)

    def fetch(
        self, offset: int, max_bytes: int, *, leader_epoch: int = -1, committed: bool = False
    ) -> FetchResult:
        """Whole batches from the one that holds `offset` on, of one segment: the first, and behind it what
        fits `max_bytes`. With `committed` what ends before the last stable offset, and whose records in it
        were aborted (KIP-98).

        Damage found while reading is STORAGE_FAILED, and the damaged bytes stay unserved. Raises StorageError
        when the disk failed or no file can be opened.
        """
        start, end, log_end = self._start.told, self._log.high_watermark, self._log.log_end_offset
        stable = self._transactions.last_stable_offset
        error = self._check_epoch(leader_epoch)
        if error is not None:
            return FetchResult(error, None, end, start, stable)
        nothing = FetchResult(None, None, end, start, stable)
        if not self._group.is_ready and (
            end < offset <= log_end or offset < max(self._log.retention.start_offset, self._start.uncommitted)
        ):
            # What an earlier leader committed, records or a later start, this one will know to be so as soon
            # as its first entry is committed.
            return nothing
        if offset == end:
            return nothing
        if not self._log.retention.start_offset <= offset < end:
            return FetchResult(PartitionError.OFFSET_OUT_OF_RANGE, None, end, start, stable)
        if committed and offset >= stable:
            return nothing
        try:
            found = self._log.reader.read(Offset(offset), max_bytes, stable if committed else None)
        except (DamagedLog, FileRefused):
            return FetchResult(PartitionError.STORAGE_FAILED, None, end, start, stable)
        if not committed or found is None:
            return FetchResult(None, found, end, start, stable)
        aborted = self._transactions.aborted.between(offset, found.next_offset)
        return FetchResult(None, found, end, start, stable, aborted)

    def cold(self, offset: int, max_bytes: int) -> Warming | None:
        """What to run in a thread so that `fetch` of the same will not wait for the disk; None when it would
        not anyway."""
        if self._log.damage.lost is not None:
            return None
        try:
            return self._log.reader.cold(Offset(offset), max_bytes)
        except (DamagedLog, FileRefused):
            return None  # `fetch` says so

    def find_offset_steps(
        self, timestamp: int, *, leader_epoch: int = -1, committed: bool = False
    ) -> Steps[FoundOffset]:
        """The first offset whose timestamp is at least `timestamp`, or one of the special ones above, in
        steps that hold nobody up. With `committed` the log ends at the last stable offset."""
        error = self._check_epoch(leader_epoch)
        if error is not None:
            return FoundOffset(error)
        epoch = self._group.term
        if not self._group.is_ready:
            return FoundOffset(PartitionError.OFFSET_NOT_AVAILABLE)
        match timestamp:
            case -2 | -4:
                return FoundOffset(None, self._log.retention.start_offset, -1, epoch)
            case -1:
                end = self._transactions.last_stable_offset if committed else self._log.high_watermark
                return FoundOffset(None, end, -1, epoch)
            case -3:
                timestamp = self._log.reader.max_timestamp
        if timestamp < 0:
            return FoundOffset(None)
        try:
            found = yield from self._log.reader.offset_for_timestamp_steps(timestamp)
        except (DamagedLog, FileRefused):
            return FoundOffset(PartitionError.STORAGE_FAILED)
        if found is None or (committed and found[0] >= self._transactions.last_stable_offset):
            return FoundOffset(None)
        return FoundOffset(None, *found, epoch)

    def end_of_epoch(self, epoch: int, *, leader_epoch: int = -1) -> tuple[PartitionError | None, int, int]:
        """(error, epoch, end offset) of the largest epoch at or below `epoch` (KIP-101, KIP-279). NOT_LEADER
        also of a new leader that may not know yet that what consumers have read is committed."""
        error = self._check_epoch(leader_epoch)
        if error is None and not self._group.is_ready:
            error = PartitionError.NOT_LEADER
        if error is not None:
            return error, -1, -1
        return (None, *self._log.reader.offset_for_term(Term(epoch)))

    def _check_epoch(self, leader_epoch: int) -> PartitionError | None:
        """Refuse who believes in another leader than this one (KIP-320)."""
        if not self._group.is_leader:
            return PartitionError.NOT_LEADER
        if leader_epoch >= 0 and leader_epoch != self._group.term:
            older = leader_epoch < self._group.term
            return PartitionError.FENCED_LEADER_EPOCH if older else PartitionError.UNKNOWN_LEADER_EPOCH
        return None
