"""Which term an index belongs to, and where each term's offsets begin (KIP-101's leader epoch cache).

Terms never fall along a log, so one line a term is enough.
"""

from __future__ import annotations

from bisect import bisect_right

from raftlog.types import Offset, RaftIndex, Term

UNKNOWN: tuple[Term, Offset] = (Term(-1), Offset(-1))


class Epochs:
    """(term, first index, first offset) of every term in a log, ascending."""

    __slots__ = ("_indexes", "_offsets", "_terms")

    def __init__(self, lines: list[tuple[Term, RaftIndex, Offset]]) -> None:
        self._terms = [line[0] for line in lines]
        self._indexes = [line[1] for line in lines]
        self._offsets = [line[2] for line in lines]

    def __len__(self) -> int:
        return len(self._terms)

    def add(self, term: Term, index: RaftIndex, offset: Offset) -> None:
        """The entry at `index` is the first of `term`."""
        self._terms.append(term)
        self._indexes.append(index)
        self._offsets.append(offset)

    def truncate_from(self, index: RaftIndex) -> None:
        while self._indexes and self._indexes[-1] >= index:
            del self._terms[-1], self._indexes[-1], self._offsets[-1]

    def drop_before(self, index: RaftIndex) -> None:
        """Forget the terms that ended before `index`."""
        keep = bisect_right(self._indexes, index) - 1
        if keep > 0:
            del self._terms[:keep], self._indexes[:keep], self._offsets[:keep]

    def lines_to(self, index: RaftIndex) -> list[tuple[Term, RaftIndex, Offset]]:
        """The lines of terms that begin at or before `index`."""
        count = bisect_right(self._indexes, index)
        return list(zip(self._terms[:count], self._indexes[:count], self._offsets[:count], strict=True))

    def term_at(self, index: RaftIndex) -> Term | None:
        """The term of the entry at `index`, which must be in the log; None before the first line."""
        if self._indexes and index >= self._indexes[-1]:
            return self._terms[-1]
        number = bisect_right(self._indexes, index) - 1
        return self._terms[number] if number >= 0 else None

    def term_of(self, offset: int) -> Term | None:
        """The term of the batch that took `offset`, which must be in the log; None before the first line."""
        number = bisect_right(self._offsets, offset) - 1
        return self._terms[number] if number >= 0 else None

    def lines(self) -> list[tuple[Term, Offset]]:
        """(term, first offset) of every term."""
        return list(zip(self._terms, self._offsets, strict=True))

    def end_offset(self, term: Term, end: Offset) -> tuple[Term, Offset]:
        """(newest term at or before `term`, end of its offsets), the log ending at `end`. UNKNOWN for a
        term newer than all; (`term`, first offset) for one older than all (KIP-101, KIP-279)."""
        if not self._terms or term > self._terms[-1] or term < 0:
            return UNKNOWN
        number = bisect_right(self._terms, term) - 1
        found = self._terms[number] if number >= 0 else term
        if number + 1 < len(self._terms):
            end = min(end, self._offsets[number + 1])
        return found, end
