"""Where the restoring of a store begins: whether the rows on disk can be gone on from.

A changelog that was made anew, or that has lost its end, does not fit the rows on disk: that is an error,
unless the app says to begin again. One whose begin is gone does, too: rows may have been deleted meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raftlog.streams.errors import StateError
from raftlog.streams.outputs import Restore

OnLost = Literal["fail", "rebuild"]


@dataclass(frozen=True, slots=True)
class Changelog:
    """A changelog's partition as it is: the id of its topic, its first offset, and the offset behind its
    last."""

    topic_id: str
    start: int
    end: int


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
    if 0 < restore.position < found.start:
        return Begin(found.start, end, True)
    return Begin(max(restore.position, found.start), end, False)
