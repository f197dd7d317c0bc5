"""Who leads what, as brokers tell each other: hints, not consensus (DESIGN.md §6).

A hint is (term, leader). A newer term replaces an older one, an older one is ignored, so the leader epoch
that clients are shown never goes back. A hint may be wrong for a moment; the partition itself refuses who
comes to the wrong broker.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from raftlog.types import BrokerId, GroupKey, Term


class Hint(NamedTuple):
    group: GroupKey
    term: Term
    leader: BrokerId


class Hints:
    """The newest hint of every group."""

    def __init__(self) -> None:
        self._hints: dict[GroupKey, tuple[Term, BrokerId | None]] = {}

    def __repr__(self) -> str:
        return f"<Hints {len(self._hints)} groups>"

    def leader(self, group: GroupKey) -> tuple[BrokerId | None, Term]:
        """The last leader that was heard of, and its term; no leader when it has ended since, and
        (None, -1) when there was none."""
        term, leader = self._hints.get(group, (Term(-1), None))
        return leader, term

    def leads(self, broker: BrokerId) -> bool:
        """Whether a broker leads anything, as last heard here."""
        return any(leader == broker for _, leader in self._hints.values())

    def update(self, hints: Iterable[Hint]) -> bool:
        """Take what is newer; True when anything was."""
        changed = False
        for group, term, leader in hints:
            known = self._hints.get(group)
            if known is None or term > known[0] or (term == known[0] and known[1] is None):
                self._hints[group] = (term, leader)
                changed = True
        return changed

    def stepped_down(self, group: GroupKey, leader: BrokerId) -> None:
        """`leader` does not lead the group any more, if it ever did; who follows will say so."""
        term, known = self._hints.get(group, (Term(-1), None))
        if known == leader:
            self._hints[group] = (term, None)

    def leader_is_gone(self, leader: BrokerId) -> None:
        """Nobody should be sent to `leader` any more; its successors will say who they are."""
        for group, (term, known) in self._hints.items():
            if known == leader:
                self._hints[group] = (term, None)

    def forget(self, topic_ids: Collection[bytes]) -> None:
        """Forget the groups of topics that are gone. What is not known yet stays: a hint may come before
        the metadata."""
        if topic_ids:
            for group in [group for group in self._hints if group[:-4] in topic_ids]:
                del self._hints[group]
