"""Where a log begins, and how its beginning goes: what is deleted by offset, and which segments are too old
or too much.

Who decides is the state machine: every replica deletes the same. It knows no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from raftlog.storage.committed import CommittedLog
from raftlog.types import Offset, RaftIndex


class Retention:
    """Of one log, until that begins anew."""

    def __init__(
        self, committed: CommittedLog, note_start: Callable[[], None], start_moved: Callable[[], None]
    ) -> None:
        """`note_start` makes pending that the log's start offset moved, `start_moved` that entries are
        gone, too."""
        self._committed = committed
        self._note_start = note_start
        self._start_moved = start_moved

    @property
    def start_offset(self) -> Offset:
        """Before it everything is deleted."""
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
    def size(self) -> int:
        """Bytes of the segments."""
        return self._committed.size

    @property
    def segment_count(self) -> int:
        return len(self._committed.segments)

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
        limits = self._committed.limits
        self._committed.limits = replace(limits, **{key: value for key, value in changes.items() if value})

    def roll_if_due(self, now_ms: int) -> bool:
        """To be called now and then: closes an active segment without timestamps that is older than roll_ms;
        True when it was. What has timestamps is rolled by them, when it is written."""
        return self._committed.roll_if_due(now_ms)

    def expired_to(self, now_ms: int, retention_ms: int, retention_bytes: int) -> Offset:
        """Where the log would begin without the whole segments that are older than `retention_ms` or that
        lie before the last `retention_bytes` (-1: no limit)."""
        return self._committed.expired_to(now_ms, retention_ms, retention_bytes)

    def delete_before(self, offset: Offset) -> None:
        """Move the log's start offset forward to `offset`, at most to the high watermark. Pending like an
        entry; the files go with the next `drop_deleted`."""
        if self._committed.delete_before(offset):
            self._note_start()

    def drop_deleted(self, applied: RaftIndex) -> bool:
        """Drop the whole segments before the log's start offset; True when something went. Only up to entry
        `applied`, at which the state is saved: entries that are gone are not applied after a restart."""
        count = self._committed.drop_deleted(applied)
        if count:
            self._start_moved()
        return count > 0
