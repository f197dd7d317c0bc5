"""Where the restoring of a store begins: whether the rows on disk can be gone on from.

A changelog that was made anew, or that has lost its end, does not fit the rows on disk: that is an error,
unless the app says to begin again. One whose begin is gone does, too: rows may have been deleted meanwhile.
So may they when the rows are older than a changelog is sure to tell of deletions: those are compacted away.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from raftlog.client.record import Record
from raftlog.streams.errors import StateError
from raftlog.streams.outputs import Restore

log: Final = logging.getLogger("raftlog.streams")

OnLost = Literal["fail", "rebuild"]

FLUSH_RECORDS: Final = 100_000
"""After so many the rows go to the disk: a restore that is interrupted goes on from there."""
DELETIONS_MS: Final = 12 * 3600 * 1000
"""How old rows may be to be gone on from: topics keep deletions for `delete.retention.ms`, a day, of which a
restore may take the other half."""


@dataclass(frozen=True, slots=True)
class Changelog:
    """A changelog's partition as it is: the id of its topic, its first offset, and the offset behind its
    last."""

    topic_id: str
    start: int
    end: int
    at_ms: int = 0
    """When that was so, by the clock."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Read from `position` up to `end`; with `anew`, remove the rows on disk first; with `is_other`, whatever
    else the disk says is of a changelog that is gone."""

    position: int
    end: int
    anew: bool
    is_other: bool = False


def begin(restore: Restore, found: Changelog, on_lost: OnLost = "fail") -> Begin:
    """Where to begin. Raises StateError when the changelog does not fit what the disk has."""
    end = found.end if restore.end is None else min(restore.end, found.end)
    is_other = restore.topic_id not in ("", found.topic_id)
    if is_other or restore.position > found.end:
        if on_lost == "fail":
            why = "was made anew" if is_other else "has lost its end"
            raise StateError(
                f"changelog {restore.topic} {why}: the store {restore.store!r} on disk is at offset "
                f"{restore.position}, the changelog ends at {found.end}. "
                'on_changelog_lost="rebuild" (--rebuild-lost) begins with what the changelog has'
            )
        return Begin(found.start, end, True, is_other=True)
    missed = found.end - restore.position - restore.exactly_once  # the marker of its last commit is no change
    is_old = missed > 0 and found.at_ms - restore.seen_ms > DELETIONS_MS
    if restore.position > 0 and (restore.position < found.start or is_old):
        return Begin(found.start, end, True)
    return Begin(max(restore.position, found.start), end, False)


class Restored(Protocol):
    """A task, as far as its restoring goes."""

    def begin(self, store: str, begin: Begin) -> None: ...
    def restore(self, store: str, key: bytes, value: bytes | None, timestamp: int) -> None: ...
    def restored(self, store: str, topic_id: str, position: int, seen_ms: int) -> None: ...


class Restoring:
    """One store of a task, from its changelog: what is read goes in by `take`, until `is_done`. A reader gets
    records beyond the end, too: they are left to others, and what is said to be in the store ends there."""

    def __init__(self, task: Restored, restore: Restore, found: Changelog, on_lost: OnLost = "fail") -> None:
        """Raises StateError when the changelog does not fit what the disk has."""
        self.begin = begin(restore, found, on_lost)
        self.position = self.begin.position
        self._task = task
        self._store = restore.store
        self._restore = restore
        self._found = found
        self._unflushed = 0
        self._is_unexpected = bool(restore.uncommitted)
        task.begin(restore.store, self.begin)

    @property
    def is_done(self) -> bool:
        """Whether all has been read."""
        return self.position >= self.begin.end

    def take(self, records: Iterable[Record], position: int) -> None:
        """Records that were read, and where the reader is now. Raises StateError for those of a commit whose
        offsets are gone."""
        for record in records:
            self._unflushed += 1
            if record.offset < self.begin.end and record.key is not None:
                if self._is_unexpected:
                    self._tell_unexpected(record)
                self._task.restore(self._store, record.key, record.value, record.timestamp)
        self.position = position
        if self._unflushed >= FLUSH_RECORDS:
            self.keep()

    def keep(self) -> None:
        """Write what there is to the disk: every so often, and at the end."""
        self._unflushed = 0
        upto = max(self.begin.position, min(self.position, self.begin.end))
        is_whole = self.is_done and self.begin.end == self._found.end
        is_new = self.begin.anew or self._restore.position == 0
        seen_ms = self._found.at_ms if is_whole or is_new else self._restore.seen_ms
        self._task.restored(self._store, self._found.topic_id, upto, seen_ms)

    def _tell_unexpected(self, record: Record) -> None:
        """Exactly once a record and the offsets behind its commit are one transaction: without these it is an
        error to go on. At least once it may be the app's first commit, which was cut off."""
        self._is_unexpected = False
        inputs, place = ", ".join(self._restore.uncommitted), f"{record.topic}-{record.partition}"
        told = f"{place} has changes behind offset {record.offset}, and the group has no offsets of {inputs}"
        if self._restore.exactly_once:
            raise StateError(
                f"{told}: they have expired, or were deleted, and with exactly once nothing may be counted "
                "again. Say where the app is to go on (raftlog group seek), or begin anew: delete the app's "
                "own topics and the worker's folder, or give the app a new name"
            )
        log.warning("%s: what is read again from the disk's place on is counted again", told)

    def __repr__(self) -> str:
        return f"<Restoring {self._store} at={self.position} of {self.begin.end}>"
