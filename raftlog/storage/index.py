"""The sparse map of a segment: offset, Raft index and timestamp to file position.

One entry about every `index_interval_bytes`, always at the beginning of a batch, the first batch's among
them. In the `.index` file the entries lie in chunks, each with its own CRC, appended at checkpoints and
never synced: what is missing or unsound is found again in the log. Entries stay true for as long as the
folder lives, since a segment's content at a position never changes.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

from crc32c import crc32c

from raftlog.types import FilePosition, Offset, RaftIndex

_CHUNK: Final = struct.Struct("<4sIqI")  # magic, entries, base offset of the segment, crc of the columns
_MAGIC: Final = b"rlix"
_COLUMNS: Final = 4


class Place(NamedTuple):
    """The beginning of a batch: its offset, its Raft index, where it lies."""

    offset: Offset
    index: RaftIndex  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    position: FilePosition


class SparseIndex:
    """Four columns in step, ascending; about 32 bytes an entry."""

    __slots__ = ("_indexes", "_offsets", "_positions", "_timestamps")

    def __init__(self) -> None:
        self._offsets = array("q")
        self._indexes = array("q")
        self._positions = array("q")
        self._timestamps = array("q")  # the greatest of all batches before the entry's

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, offset: int, index: int, position: int, max_timestamp_before: int) -> None:
        self._offsets.append(offset)
        self._indexes.append(index)
        self._positions.append(position)
        self._timestamps.append(max_timestamp_before)

    def place(self, number: int) -> Place:
        return Place(
            Offset(self._offsets[number]),
            RaftIndex(self._indexes[number]),
            FilePosition(self._positions[number]),
        )

    def timestamp_before(self, number: int) -> int:
        """The greatest timestamp of the batches before entry `number`."""
        return self._timestamps[number]

    def floor_offset(self, offset: int) -> Place:
        """The last entry at or before `offset`; the first where the segment has lost all that came before."""
        return self.place(max(0, bisect_right(self._offsets, offset) - 1))

    def floor_index(self, index: int) -> Place:
        return self.place(bisect_right(self._indexes, index) - 1)

    def floor_position(self, position: int) -> Place:
        return self.place(bisect_right(self._positions, position) - 1)

    def before_timestamp(self, timestamp_ms: int) -> Place:
        """The last entry before which every batch is older than `timestamp_ms`."""
        return self.place(max(0, bisect_left(self._timestamps, timestamp_ms) - 1))

    def encode(self, start: int, stop: int, base_offset: int) -> bytes:
        """The entries from number `start` to before `stop` as one chunk of the file. Safe in a worker thread:
        what is there does not change."""
        body = b"".join(
            [
                _little_endian(column[start:stop]).tobytes()
                for column in (self._offsets, self._indexes, self._positions, self._timestamps)
            ]
        )
        return _CHUNK.pack(_MAGIC, stop - start, base_offset, crc32c(body)) + body

    def load(self, data: bytes, base_offset: int, size: int) -> int:
        """Take over the sound chunks at the beginning of `data`, as far as they lie below `size` bytes of
        the log; the number of bytes that these chunks take."""
        at = 0
        while len(data) - at >= _CHUNK.size:
            magic, count, base, crc = _CHUNK.unpack_from(data, at)
            end = at + _CHUNK.size + count * 8 * _COLUMNS
            body = data[at + _CHUNK.size : end]
            if magic != _MAGIC or base != base_offset or end > len(data) or crc32c(body) != crc:
                break
            columns = []
            for number in range(_COLUMNS):
                column = array("q")
                column.frombytes(body[number * count * 8 : (number + 1) * count * 8])
                columns.append(_little_endian(column))
            positions = columns[2]
            last = self._positions[-1] if self._positions else -1
            start = bisect_right(positions, last)  # a chunk may be there twice, after a crash
            stop = bisect_left(positions, size)
            self._offsets.extend(columns[0][start:stop])
            self._indexes.extend(columns[1][start:stop])
            self._positions.extend(positions[start:stop])
            self._timestamps.extend(columns[3][start:stop])
            at = end
        return at


def encoded_size(count: int) -> int:
    """Bytes of a chunk of `count` entries."""
    return _CHUNK.size + count * 8 * _COLUMNS


def _little_endian(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column.byteswap()
    return column
