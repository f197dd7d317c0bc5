"""Who leads what, as brokers tell each other: hints, not consensus.

A hint says which broker leads a group, and in which term. A newer term replaces an older one, and an older
one is ignored. So the leader epoch that clients are told never goes back. A hint may be wrong for a moment:
the broker that is not the leader refuses the client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from raftlog.types import BrokerId, GroupKey, Term


class Hint(NamedTuple):
    group: GroupKey
    term: Term
    leader: BrokerId


class Hints:
    """The newest hint of every group."""

    def __init__(self, knows: Callable[[bytes], bool]) -> None:
        """`knows` tells whether there is a topic of this id, as far as this broker knows."""
        self._knows = knows
        self._hints: dict[GroupKey, tuple[Term, BrokerId | None]] = {}
        self._led: Counter[BrokerId] = Counter()
        self._strangers: dict[GroupKey, bool] = {}
        """Groups of topics that were not known when they were heard of; True after one sweep."""

    def __repr__(self) -> str:
        return f"<Hints {len(self._hints)} groups>"

    def __len__(self) -> int:
        return len(self._hints)

    def leader(self, group: GroupKey) -> tuple[BrokerId | None, Term]:
        """The leader that the newest hint names, and its term. The leader is None when it has stepped down or
        ended since; (None, -1) when no hint has come."""
        term, leader = self._hints.get(group, (Term(-1), None))
        return leader, term

    def leads(self, broker: BrokerId) -> bool:
        """Whether a broker leads anything, as last heard here."""
        return self._led[broker] > 0

    def update(self, hints: Iterable[Hint]) -> bool:
        """Take what is newer; True when anything was."""
        changed = False
        for group, term, leader in hints:
            known = self._hints.get(group)
            if known is None or term > known[0] or (term == known[0] and known[1] is None):
                if known is None and not self._knows(group[:-4]):
                    self._strangers[group] = False
                self._set(group, term, leader)
                changed = True
        return changed

    def stepped_down(self, group: GroupKey, leader: BrokerId) -> None:
        """`leader` does not lead the group any more, if it ever did; who follows will say so."""
        term, known = self._hints.get(group, (Term(-1), None))
        if known == leader:
            self._set(group, term, None)

    def leader_is_gone(self, leader: BrokerId) -> None:
        """Nobody should be sent to `leader` any more; its successors will say who they are."""
        for group, (term, known) in self._hints.items():
            if known == leader:
                self._set(group, term, None)

    def forget(self, topic_ids: Collection[bytes]) -> None:
        """Forget the groups of topics that are gone. What is not known yet stays: a hint may come before
        the metadata."""
        if topic_ids:
            for group in [group for group in self._hints if group[:-4] in topic_ids]:
                self._forget(group)

    def sweep(self) -> None:
        """Forget the hints of topics that this broker does not know, two calls after they came. Either the
        topic had ended before the hint came, or this broker's metadata is late: then the leader says again
        that it leads."""
        for group, was_there in list(self._strangers.items()):
            if self._knows(group[:-4]):
                del self._strangers[group]
            elif was_there:
                self._forget(group)
            else:
                self._strangers[group] = True

    def _set(self, group: GroupKey, term: Term, leader: BrokerId | None) -> None:
        _, before = self._hints.get(group, (term, None))
        self._hints[group] = (term, leader)
        if before is not None:
            self._led[before] -= 1
        if leader is not None:
            self._led[leader] += 1

    def _forget(self, group: GroupKey) -> None:
        _, leader = self._hints.pop(group)
        self._strangers.pop(group, None)
        if leader is not None:
            self._led[leader] -= 1
