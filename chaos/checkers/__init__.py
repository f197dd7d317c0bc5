"""Checkers: each reads a history and says what became of one property. Pure: no clients, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.checkers import cluster, compaction, counts, groups, records, transactions
from chaos.checkers.finding import Finding, Judgement, View, Violation
from chaos.history import History

__all__ = ["CHECKERS", "Finding", "Judgement", "Verdict", "View", "Violation", "judge"]

Checker = Callable[[View], Finding]

CHECKERS: Final[tuple[Checker, ...]] = (
    *records.CHECKERS,
    *groups.CHECKERS,
    *transactions.CHECKERS,
    *compaction.CHECKERS,
    *counts.CHECKERS,
    *cluster.CHECKERS,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all checkers found."""

    findings: Sequence[Finding]
    is_whole: bool

    @property
    def judgement(self) -> Judgement:
        """Wrong as soon as one thing is wrong; good only when everything could be looked at."""
        judgements = {finding.judgement for finding in self.findings}
        if Judgement.WRONG in judgements:
            return Judgement.WRONG
        return Judgement.UNKNOWN if Judgement.UNKNOWN in judgements or not self.is_whole else Judgement.GOOD


def judge(history: History, own: Sequence[Checker] = ()) -> Verdict:
    """Hold a history against every property, and those that are a workload's own."""
    view = View(history)
    return Verdict([checker(view) for checker in (*CHECKERS, *own)], history.head.is_whole)
