"""Reading everything again, so that damage is found while other replicas can still repair it.

Bits turn over in files that nobody reads, and are found when the replica that would have had them is gone.
A scrub goes through the segments of all logs, a bounded piece at a time, and holds each batch to its
checksum, offset and term, as every reader does. What it finds is the log's `rot`, for the group to repair.

`Piece.read` may run in a worker thread; everything else decides, and belongs on the loop's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raftlog.errors import StorageError
from raftlog.storage.group_log import GroupLog
from raftlog.storage.index import Place
from raftlog.storage.segment_reader import SegmentPiece
from raftlog.types import GroupKey, RaftIndex

_BEFORE_ALL = RaftIndex(-1)


@dataclass(frozen=True, slots=True)
class Piece:
    """What is read and checked next: up to a megabyte, or one batch that is larger."""

    key: GroupKey
    log: GroupLog
    piece: SegmentPiece

    def read(self) -> memoryview | StorageError:
        """The bytes, or why there are none. Blocking."""
        return self.piece.read()


class Scrub:
    """One pass over all logs, one after the other. What comes during a pass may be left to the next."""

    def __init__(self, logs: Mapping[GroupKey, GroupLog]) -> None:
        self._logs = logs
        self._left: list[GroupKey] = []
        self._segment, self._path = _BEFORE_ALL, ""
        """The first index of the segment that is being read, or was read last, and its file."""
        self._place: Place | None = None
        """Where to go on in it; None: behind it."""

    def begin(self) -> None:
        self._left = list(self._logs)
        self._segment, self._path, self._place = _BEFORE_ALL, "", None

    def next(self) -> Piece | None:
        """None: the pass is over. Raises FileRefused when the system opens no more files for now."""
        while self._left:
            key = self._left[-1]
            log = self._logs.get(key)
            piece = None if log is None else log.reader.piece(self._segment, self._path, self._place)
            if log is not None and piece is not None:
                return Piece(key, log, piece)
            self.skip_log()
        return None

    def check(self, piece: Piece, data: memoryview | StorageError) -> None:
        """Check what was read. Raises DamagedLog: then `next` gives the same piece again, until it is
        repaired, or `skip` is called."""
        read = piece.piece
        self._segment, self._path, self._place = read.base_index, read.path, read.start
        self._place = piece.log.reader.check_piece(piece.piece, data)

    def skip_log(self) -> None:
        """Leave out the rest of the log that `next` could not go on in."""
        self._left.pop()
        self._segment, self._path, self._place = _BEFORE_ALL, "", None

    def skip(self) -> None:
        """Leave out the rest of the segment."""
        self._place = None
