"""How long nothing was acknowledged. Pure: moments in, seconds out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from chaos.history import History, Outcome, Send


class Gap(NamedTuple):
    """Seconds without an acknowledgement, and how long after the beginning they began."""

    length: float
    after: float


def longest_gap(moments: Iterable[float], begin: float, end: float) -> Gap:
    """The longest time within [begin, end] without one of these moments, to which both ends count."""
    inside = sorted(moment for moment in moments if begin < moment < end)
    return max(Gap(later - earlier, earlier - begin) for earlier, later in pairwise([begin, *inside, end]))


def worst_gap(history: History, begin: float, end: float) -> Gap:
    """That of the partition that had to wait longest, whoever wrote to it: nobody at all got anything into it
    meanwhile. Only of logs that are written to all along."""
    moments: dict[tuple[str, int], list[float]] = defaultdict(list)
    for send in history.of(Send):
        if send.outcome is Outcome.OK and "@" not in send.log:
            moments[send.log, send.partition].append(send.ended)
    return max((longest_gap(each, begin, end) for each in moments.values()), default=Gap(end - begin, 0.0))
