"""How a log has itself cleaned: which segments a pass may read, and how what it wrote takes their place.

The new files are renamed into the log's folder and count once the snapshot file names them; the old ones are
removed after that. A crash before leaves the old log, one behind it the new, and recovery removes the files
that the snapshot file does not name.

Invariants: the last segment is never cleaned, so that the log's end stays where it is; nothing is cleaned
that a restart would apply again. What a pass reads need not be synced: until a checkpoint has written the
snapshot file, recovery begins before it, and writes the old segments again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raftlog.storage.committed import CommittedLog
from raftlog.storage.compaction.job import CleaningJob, CleaningResult, Source
from raftlog.storage.epochs import Epochs
from raftlog.storage.filling import Copy
from raftlog.storage.passes import Passes
from raftlog.storage.segment import Segment
from raftlog.storage.snapshot import LogImage
from raftlog.types import Offset, RaftIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningLimits:
    """How far a pass may go."""

    offset: Offset
    """Below it everything is decided."""
    index: RaftIndex
    """Up to it every replica has every entry, and the state machine is saved."""
    newest_ms: int
    """A segment with a later record is too young."""


@dataclass(frozen=True, slots=True)
class Cleanable:
    """The segments that a pass would read, from the log's first on, and how much of them is dirty."""

    segments: Sequence[Segment]
    dirty_bytes: int
    clean_bytes: int
    oldest_dirty_ms: int
    """The time of the first record that no pass has seen, -1 when it has none."""

    @property
    def dirty_ratio(self) -> float:
        total = self.dirty_bytes + self.clean_bytes
        return self.dirty_bytes / total if total else 0.0


class Cleaning:
    """What compaction asks of one log."""

    def __init__(
        self,
        log: CommittedLog,
        epochs: Epochs,
        passes: Passes,
        on_cleaned: Callable[[], None],
        *,
        copy: Callable[[], Copy],
        go_on_with: Callable[[str, LogImage], None],
    ) -> None:
        """`copy` makes one of the part that compaction has been over; `go_on_with` replaces the log."""
        self._log = log
        self._epochs = epochs
        self._on_cleaned = on_cleaned
        self._copy = copy
        self._go_on_with = go_on_with
        self._is_closed = False
        self.passes = passes

    @property
    def clean_index(self) -> RaftIndex:
        """The last entry that compaction has been over; 0 where there is none. Entries up to it are not in
        the log one by one any more."""
        return self._log.clean_index

    def last_index_below(self, index: RaftIndex) -> RaftIndex:
        """The last entry, up to `index`, of the segments that may ever be cleaned as things stand."""
        ends = [each.last_index for each in self._log.segments[:-1] if each.last_index <= index]
        return max(ends, default=RaftIndex(0))

    def find(self, limits: CleaningLimits) -> Cleanable:
        """What a pass may read now."""
        segments: list[Segment] = []
        for segment in self._log.segments[:-1]:
            is_decided = segment.next_offset <= limits.offset and segment.last_index <= limits.index
            if not is_decided or segment.newest_ms > limits.newest_ms:
                break
            segments.append(segment)
        dirty = [each for each in segments if each.next_offset > self.passes.clean_to]
        dirty_bytes = sum(each.size for each in dirty)
        oldest = min((each.first_timestamp for each in dirty if each.first_timestamp >= 0), default=-1)
        return Cleanable(segments, dirty_bytes, sum(each.size for each in segments) - dirty_bytes, oldest)

    def job(self, found: Cleanable, **rest: Any) -> CleaningJob:
        """A pass over `found`; `rest` are those of the job's fields that the log does not know."""
        limits = self._log.limits
        return CleaningJob(
            sources=[_source(segment) for segment in found.segments],
            dirty_from=self.passes.clean_to,
            epochs=list(self._epochs.lines()),
            segment_bytes=limits.segment_bytes,
            index_interval_bytes=limits.index_interval_bytes,
            **rest,
        )

    def has_still(self, found: Cleanable) -> bool:
        """Whether the log begins with the segments that a pass was to read."""
        return not self._is_closed and self._log.segments[: len(found.segments)] == list(found.segments)

    def take(self, found: Cleanable, result: CleaningResult) -> bool:
        """Go on with what a pass has written in the place of what it read; durable with the next checkpoint,
        together with the snapshot that was saved last. False when the log has lost some of that meanwhile:
        then nothing has changed. Raises DiskFailed, FileRefused."""
        count = len(found.segments)
        if not self.has_still(found) or len(self._log.segments) == count:
            return False
        assert sum(file.source_count for file in result.files) == count, (result, count)
        self._log.replace(result.files)
        self.passes.add(Offset(result.clean_to))
        self._on_cleaned()
        return True

    def copy(self) -> Copy:
        """What a replica is given that lacks the part that compaction has been over, which must be there. Its
        files stay until `end_copy`."""
        copy = self._copy()
        self._log.doomed.keep_for(copy)
        return copy

    def end_copy(self, copy: Copy) -> None:
        """Nobody reads it any more."""
        self._log.doomed.copy_ended(copy)

    def go_on_with(self, dirname: str, image: LogImage) -> None:
        """Replace the whole log by what a `Filling` has finished in the folder `dirname`: it ends at
        `image.commit`, all of which must be committed. Pending until the next ticket is synced (synced_index
        is 0 until then). Clears `damage`. This object is of no use any more."""
        self._go_on_with(dirname, image)

    def close(self) -> None:
        """The log ends: it takes nothing over any more."""
        self._is_closed = True

    def advance(self, elapsed_ms: int) -> None:
        """Time has passed."""
        if self.passes.advance(elapsed_ms):
            self._log.is_changed = True


def _source(segment: Segment) -> Source:
    extent = segment.extent
    return Source(
        segment.path,
        extent.base_offset,
        extent.base_index,
        extent.last_index,
        extent.next_offset,
        extent.size,
    )
