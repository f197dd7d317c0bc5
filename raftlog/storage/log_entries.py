"""The entries of a log one by one, as a leader sends and a replica applies them.

Those that are not committed are in memory, and so are those that were committed lately; all others are read
from the segments. How far the entries are durable is known here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from raftlog.errors import CorruptBatch
from raftlog.records.batch import check_batch
from raftlog.storage.committed import CommittedLog
from raftlog.storage.entry import Entry, EntryKind, Payload
from raftlog.types import RaftIndex

COMMIT_ENTRY_COST: Final = 4 << 10
"""Bytes that are written to a segment in the time that an entry takes to be committed and applied, however
small it is: ten microseconds."""
COMMIT_FILE_COST: Final = 256 << 10
"""The same of a log's first record here: a folder and a file are made, or the index of a file is read that an
earlier process wrote. Either takes 0.3 ms, and longer while the file system's journal is written."""


class LogEntries:
    """Of one log, through all its lives. Plain attributes, to be read by everyone:

    memory         the entries in memory, in order; the last one is the log's last
    memory_first   the index of the first of them, or the next one's where there is none
    synced_index   the last entry that is durable: what an ack may rest on
    """

    def __init__(self, reading: Callable[[], AbstractContextManager[None]]) -> None:
        self._reading = reading

    def begin(self, committed: CommittedLog, synced_index: RaftIndex) -> None:
        """The log holds what is committed, and nothing else."""
        self._committed = committed
        self.memory: list[Entry] = []
        self.memory_first = committed.end.index + 1
        self._looked_at = 0
        self.synced_index = self._written_index = synced_index

    def has_from(self, index: RaftIndex) -> bool:
        """Whether the entries from `index` on can still be read, one by one."""
        committed = self._committed
        return index > committed.start.index and (index > committed.clean_index or index >= self.memory_first)

    def read(self, from_index: RaftIndex, max_bytes: int, max_count: int) -> list[Entry]:
        """Entries from `from_index` on, from memory or from the segments: at least one if there is one,
        then while payloads fit `max_bytes` and entries `max_count`. Empty past the last one. It may stop
        early where memory begins; ask again from there.

        Raises LookupError where `has_from` says no, DamagedLog when the bytes are not what was written.
        """
        start = from_index - self.memory_first
        if start >= len(self.memory):
            return []
        if not self.has_from(from_index):
            raise LookupError(f"{self._committed.folder}: entry {from_index} is gone")
        if start < 0:
            with self._reading():
                return self._committed.entries(from_index, max_bytes, max_count)
        stop, last = start, min(start + max(max_count, 1), len(self.memory))
        while stop < last:
            max_bytes -= len(self.memory[stop].payload)
            if max_bytes < 0 and stop > start:
                break
            stop += 1
        return self.memory[start:stop]

    def uncommitted(self) -> list[Entry]:
        return self.memory[self._uncommitted_at :]

    @property
    def _uncommitted_at(self) -> int:
        return self._committed.end.index + 1 - self.memory_first

    def commit_within(self, index: RaftIndex, cost_max: float) -> tuple[RaftIndex, int]:
        """How far towards `index` a `commit_to` takes about as long as writing `cost_max` bytes, by one entry
        at least; and what that costs. The caller has more to do than this log."""
        cost, lacks_file = 0, self._committed.lacks_file
        for position in range(self._uncommitted_at, index + 1 - self.memory_first):
            entry = self.memory[position]
            cost += len(entry.payload) + COMMIT_ENTRY_COST
            if lacks_file and entry.kind is EntryKind.BATCH:
                cost, lacks_file = cost + COMMIT_FILE_COST, False
            if cost >= cost_max:
                return entry.index, cost
        return index, cost

    @staticmethod
    def check_received(entries: Sequence[Entry]) -> None:
        """Hold batches that a peer sent to their CRCs, before they are appended. Raises CorruptBatch."""
        for entry in entries:
            if entry.kind is EntryKind.BATCH:
                header = check_batch(entry.payload)
                if header.size != len(entry.payload):
                    raise CorruptBatch(f"a batch of {header.size} bytes in {len(entry.payload)}")

    def hold_apart(self, apart: Callable[[Payload], Payload | None], count_max: int) -> None:
        """Hold uncommitted entries by other bytes that say the same, where `apart` gives some: so that what
        they were a part of can go. Looks at so many; the next call goes on behind them."""
        first = self._uncommitted_at
        start = self._looked_at if first <= self._looked_at < len(self.memory) else first
        self._looked_at = min(start + count_max, len(self.memory))
        for position in range(start, self._looked_at):
            entry = self.memory[position]
            payload = apart(entry.payload)
            if payload is not None:
                self.memory[position] = entry._replace(payload=payload)

    def truncate_from(self, index: RaftIndex) -> None:
        """Drop the entries from `index` on, which are not committed."""
        del self.memory[index - self.memory_first :]
        last_index = RaftIndex(index - 1)
        self.synced_index = min(self.synced_index, last_index)
        self._written_index = min(self._written_index, last_index)

    def forget_to(self, index: RaftIndex) -> None:
        """Let go of committed entries in memory; they are read from the segments from now on."""
        count = min(index, self._committed.end.index) + 1 - self.memory_first
        if count > 0:
            del self.memory[:count]
            self.memory_first += count

    def note_written(self) -> None:
        """Everything pending has been written, and waits for its sync."""
        self._written_index = RaftIndex(self.memory_first + len(self.memory) - 1)

    def note_synced(self) -> None:
        """What had been written then is durable now, but for what was truncated meanwhile."""
        self.synced_index = max(self.synced_index, self._written_index)
