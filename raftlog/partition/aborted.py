"""The transactions that were aborted on a partition: what a read_committed consumer must be told.

A fetch tells a consumer which producers' records it has to skip, up to which marker. An entry is there for as
long as its marker is: a consumer that hears of an abort and never meets its marker would skip that producer's
records for ever.

Entries are in the order of their markers, packed: 32 bytes each.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, NamedTuple

from raftlog.types import Offset

_FIELDS: Final = 4


class AbortedTransaction(NamedTuple):
    """A producer's records from `first_offset` to `marker_offset` do not count."""

    producer_id: int
    first_offset: int
    marker_offset: int
    stable_offset: int
    """The last stable offset when the marker was applied: what was aborted later begins there or behind."""


class Aborted:
    """The aborted transactions of one partition."""

    def __init__(self) -> None:
        self._packed = array("q")

    def __len__(self) -> int:
        return len(self._packed) // _FIELDS

    def __getitem__(self, number: int) -> AbortedTransaction:
        return AbortedTransaction(*self._packed[number * _FIELDS : (number + 1) * _FIELDS])

    def add(self, entry: AbortedTransaction) -> None:
        """Its marker lies behind those of all others."""
        self._packed.extend(entry)

    def between(self, start: int, end: int) -> list[AbortedTransaction]:
        """Those that a reader of the offsets from `start` to before `end` meets, were it only the marker."""
        first = self._first_with_marker_at(start)
        # What is stable never goes back, so that these ascend. While a transaction is long open they stand
        # still: then there are many to look at, and few that a reader meets.
        last = bisect_left(range(len(self)), end, lo=first, key=lambda n: self._packed[n * _FIELDS + 3])
        begins = self._packed[first * _FIELDS + 1 : (last + 1) * _FIELDS : _FIELDS]
        return [self[first + number] for number, begin in enumerate(begins) if begin < end]

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """(producer id, first offset, offset of the marker) of each."""
        packed = self._packed
        return zip(packed[::_FIELDS], packed[1::_FIELDS], packed[2::_FIELDS], strict=True)

    def drop_before(self, offset: Offset) -> bool:
        """Forget those whose marker lies before `offset`, where the log begins; whether there were any."""
        if not self._packed or self._packed[2] >= offset:
            return False
        del self._packed[: self._first_with_marker_at(offset) * _FIELDS]
        return True

    def _first_with_marker_at(self, offset: int) -> int:
        """The number of the first entry whose marker lies at `offset` or behind."""
        return bisect_left(range(len(self)), offset, key=lambda number: self._packed[number * _FIELDS + 2])

    def to_bytes(self) -> bytes:
        """Big-endian, for a snapshot."""
        return _big_endian(array("q", self._packed)).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Aborted:
        """What `to_bytes` gave."""
        aborted = cls()
        packed = array("q")
        packed.frombytes(data)
        aborted._packed = _big_endian(packed)
        return aborted


def _big_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
