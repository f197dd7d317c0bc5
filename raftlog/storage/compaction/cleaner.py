"""One pass of the cleaner: what stays of each key, and the segments that hold it.

The first round notes the last offset of every key in what no pass has seen yet. The second one writes the log
from its beginning again and leaves out what was superseded. Records keep their offsets and their order.

Invariants: the last committed value of every key stays; a tombstone stays until `purge_to` has passed it;
what was aborted neither stays nor supersedes anything; a marker stays until `purge_to` has passed it, when
the data of its transaction is gone; what lies at or behind `clean_to` is copied byte for byte.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from raftlog.errors import InvalidInput
from raftlog.records.batch import BatchHeader
from raftlog.records.record import Columns, decode_columns
from raftlog.storage.compaction.batches import keep_records, read_batches
from raftlog.storage.compaction.job import AbortedRange, Cleaned, CleaningJob, CleaningResult, Source
from raftlog.storage.compaction.key_map import KeyMap
from raftlog.storage.compaction.output import Output
from raftlog.storage.disk import Bytes, Disk

Pace = Callable[[int], None]
"""Called with the bytes that were read or written since; it may wait."""


def clean(disk: Disk, job: CleaningJob, pace: Pace = lambda size: None) -> CleaningResult:
    """Run a pass. Blocking, for long. Raises DamagedLog where a source is not what was written, OSError."""
    return _Pass(disk, job, pace).run()


class Aborted:
    """Which batches belong to transactions that were aborted."""

    def __init__(self, ranges: list[AbortedRange]) -> None:
        self._firsts: dict[int, list[int]] = {}
        self._markers: dict[int, list[int]] = {}
        for producer_id, first, marker in sorted(ranges):
            self._firsts.setdefault(producer_id, []).append(first)
            self._markers.setdefault(producer_id, []).append(marker)

    def __contains__(self, header: BatchHeader) -> bool:
        """Of one producer one transaction is open at a time: the last that began before decides."""
        firsts = self._firsts.get(header.producer_id)
        if firsts is None or not header.is_transactional or header.is_control:
            return False
        number = bisect_right(firsts, header.base_offset) - 1
        return number >= 0 and header.base_offset < self._markers[header.producer_id][number]


class _Pass:
    def __init__(self, disk: Disk, job: CleaningJob, pace: Pace) -> None:
        self._disk, self._job, self._pace = disk, job, pace
        self._aborted = Aborted(job.aborted)
        self._keys = KeyMap(job.key_map_bytes)
        self._clean_to = job.sources[-1].next_offset
        self._purge_to = job.purge_to
        self._bytes_read = self._records_read = self._records_kept = 0

    def run(self) -> CleaningResult:
        self._note_keys()
        files = self._rewrite()
        return CleaningResult(
            files=files,
            clean_to=self._clean_to,
            bytes_read=self._bytes_read,
            records_read=self._records_read,
            records_kept=self._records_kept,
        )

    def _note_keys(self) -> None:
        job = self._job
        for source in job.sources:
            if source.next_offset <= job.dirty_from:
                continue
            for header, batch in read_batches(self._disk, source, job.epochs):
                self._read(batch)
                if header.next_offset <= job.dirty_from:
                    continue
                if self._keys.is_full and header.base_offset > job.dirty_from:
                    self._clean_to = header.base_offset
                    return
                if not header.is_control and header not in self._aborted:
                    self._note_keys_of(header, batch)

    def _note_keys_of(self, header: BatchHeader, batch: memoryview) -> None:
        columns = _records(batch)
        if columns is None:
            return
        for key, offset in zip(columns.keys, columns.offsets, strict=True):
            if key is not None:
                self._keys.note(key, offset)

    def _rewrite(self) -> list[Cleaned]:
        job, files = self._job, list[Cleaned]()
        output: Output | None = None
        for source in job.sources:
            if output is not None and output.size and output.size + source.size > job.segment_bytes:
                files.append(output.finish())
                output = None
            if output is None:
                output = Output(self._disk, job, len(files), source)
            self._rewrite_source(source, output)
            output.source_count += 1
        assert output is not None, job
        files.append(output.finish())
        return files

    def _rewrite_source(self, source: Source, output: Output) -> None:
        for header, batch in read_batches(self._disk, source, self._job.epochs):
            self._read(batch)
            self._records_read += header.record_count
            if header.base_offset >= self._clean_to:
                self._keep(header, batch, output)
            elif header.is_control:
                if header.base_offset >= self._purge_to:
                    self._keep(header, batch, output)
            elif header not in self._aborted:
                self._rewrite_batch(header, batch, output)

    def _rewrite_batch(self, header: BatchHeader, batch: memoryview, output: Output) -> None:
        columns = _records(batch)
        if columns is None:
            # It stays as it is, with whatever keys it has: tombstones that lie behind must stay as well.
            self._purge_to = min(self._purge_to, header.base_offset)
            self._keep(header, batch, output)
            return
        superseded, purge_to = self._keys.is_superseded, self._purge_to
        kept = [
            key is not None and not superseded(key, offset) and (value is not None or offset >= purge_to)
            for key, value, offset in zip(columns.keys, columns.values, columns.offsets, strict=True)
        ]
        count = sum(kept)
        if count == header.record_count:
            self._keep(header, batch, output)
        elif count:
            made = keep_records(header, batch, kept, columns.timestamps)
            newest = header.max_timestamp
            if not header.uses_log_append_time:
                newest = max(t for t, stays in zip(columns.timestamps, kept, strict=True) if stays)
            self._write(header, made, newest, output)
            self._records_kept += count

    def _keep(self, header: BatchHeader, batch: memoryview, output: Output) -> None:
        self._records_kept += header.record_count
        self._write(header, batch, header.max_timestamp, output)

    def _write(self, header: BatchHeader, batch: Bytes, max_timestamp: int, output: Output) -> None:
        output.append(header, batch, max_timestamp)
        self._pace(len(batch))

    def _read(self, batch: memoryview) -> None:
        self._bytes_read += len(batch)
        self._pace(len(batch))


def _records(batch: memoryview) -> Columns | None:
    """The records of a batch whose CRC is right. None where its producer made it so that it cannot be read:
    it is kept as it is, for whoever can."""
    try:
        return decode_columns(batch)
    except InvalidInput:
        return None
