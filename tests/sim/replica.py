"""What the invariants remember of one replica of one group: its log's terms, now and on its disk.

A view of a log is where it begins and the term of every entry; by log matching that says everything. The
durable view changes only when the virtual disk says that a write of the log was synced.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raftlog.storage.entry import HardState
from raftlog.storage.group_log import GroupLog
from raftlog.types import RaftIndex, Term

NO_STATE = HardState(Term(0), None)


@dataclass(slots=True)
class LogView:
    """Entries base+1 … base+len(terms), and the term and vote beside them."""

    base: int = 0
    terms: list[int] = field(default_factory=list)
    hard: HardState = NO_STATE

    @property
    def last(self) -> int:
        return self.base + len(self.terms)

    def term_at(self, index: int) -> int | None:
        """None outside of the view."""
        return self.terms[index - self.base - 1] if self.base < index <= self.last else None

    def holds(self, index: int, term: int) -> bool:
        """What is before the base was committed, so it is the same everywhere."""
        return index <= self.base or self.term_at(index) == term

    def copy(self) -> LogView:
        return LogView(self.base, self.terms.copy(), self.hard)

    def agrees_with(self, log: GroupLog) -> bool:
        """Whether a log that was recovered is this view. The log may begin later (retention is not synced
        by itself) or earlier (its files are only removed by a checkpoint)."""
        if log.last_index != self.last or log.promises.hard_state != self.hard:
            return False
        low = max(self.base + 1, log.first_index)
        return all(
            log.term_at(RaftIndex(index)) == self.term_at(index) for index in range(low, self.last + 1)
        )


@dataclass(slots=True)
class Replica:
    """One broker's replica, over all lives of the broker."""

    now: LogView = field(default_factory=LogView)
    durable: LogView = field(default_factory=LogView)
    written: LogView | None = None
    """What the write under way makes durable."""
    torn: LogView | None = None
    """What a write that the end of the process interrupted would have made durable."""
    mark: tuple[str, int] = ("", 0)
    """The write of the WAL that `written` is in."""
    commit: int = 0
    unchecked: int = 1
    """The first entry of `now` that has not been compared with the others."""
    trimmed: list[tuple[int, int]] = field(default_factory=list)
    """(index, term) of committed entries that were dropped (retention, a snapshot) before anyone looked."""
    acknowledged: tuple[int, int] = (0, 0)
    """(term, index): the most that this replica has told a leader of that term."""
    is_lost: bool = False
    """Its disk was wiped or damaged, and it is not trusted yet: it counts for nobody."""
    rots: bool = False
    """Bits of its disk have been flipped; whether that was found out is not known."""
    is_trusted: bool = True
    role: object = None
    seen: tuple[object, ...] = ()

    def follow(self, log: GroupLog) -> None:
        """Bring `now` up to date."""
        view = self.now
        view.hard = log.promises.hard_state
        base = log.first_index - 1
        if base != view.base:
            if view.base < base <= view.last and view.term_at(base) == log.term_at(RaftIndex(base)):
                for index in range(max(view.base, self.commit) + 1, base + 1):
                    self.trimmed.append((index, view.terms[index - view.base - 1]))
                del view.terms[: base - view.base]
            elif base < view.base:
                low = [log.term_at(RaftIndex(i)) for i in range(base + 1, view.base + 1)]
                if None in low or view.base > log.last_index:
                    view.terms.clear()
                else:
                    view.terms[:0] = [int(term) for term in low if term is not None]
            else:
                view.terms.clear()
            view.base = base
        terms, last = view.terms, log.last_index
        if view.last > last:
            del terms[last - base :]
        while terms and terms[-1] != log.term_at(RaftIndex(base + len(terms))):
            terms.pop()
        first_new = base + len(terms) + 1
        for index in range(first_new, last + 1):
            term = log.term_at(RaftIndex(index))
            assert term is not None, (index, log)
            terms.append(term)
        self.unchecked = max(base + 1, min(self.unchecked, first_new))
