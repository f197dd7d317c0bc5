"""How long nothing was acknowledged or committed, how long records took, how often there were elections, and
how long the machine stood still meanwhile. Pure: a history in, figures out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from chaos.history import Commit, History, Led, Outcome, Send, Stall

Place = tuple[str, int]
"""A log and a partition."""


class Gap(NamedTuple):
    """Seconds without an acknowledgement, and how long after the beginning they began."""

    length: float
    after: float


def longest_gap(moments: Iterable[float], begin: float, end: float) -> Gap:
    """The longest time within [begin, end] without one of these moments, to which both ends count."""
    return _longest(sorted(moments), begin, end)


def _longest(moments: list[float], begin: float, end: float) -> Gap:
    """Of moments in order."""
    inside = moments[bisect_right(moments, begin) : bisect_left(moments, end)]
    return max(Gap(later - earlier, earlier - begin) for earlier, later in pairwise([begin, *inside, end]))


class Taken:
    """When each partition took something, whoever wrote to it. Only of logs that are written to all along.

    Read once from a history, and asked for many stretches of it: half an hour has a million rows.
    """

    def __init__(self, history: History) -> None:
        moments: dict[Place, list[float]] = defaultdict(list)
        for send in history.of(Send):
            if send.outcome is Outcome.OK and "@" not in send.log:
                moments[send.log, send.partition].append(send.ended)
        self._moments = {place: sorted(each) for place, each in moments.items()}

    def worst_gap(self, begin: float, end: float) -> Gap:
        """That of the partition that had to wait longest: nobody at all got anything into it meanwhile."""
        return _worst(self._moments, begin, end)


def worst_gap(history: History, begin: float, end: float) -> Gap:
    """As `Taken` tells it, of one stretch."""
    return Taken(history).worst_gap(begin, end)


def worst_commit_gap(history: History, begin: float, end: float) -> Gap:
    """As `worst_gap`, for the offsets that groups commit."""
    moments: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for commit in history.of(Commit):
        if commit.outcome is Outcome.OK:
            moments[commit.group, commit.log, commit.partition].append(commit.ended)
    return _worst({key: sorted(each) for key, each in moments.items()}, begin, end)


def _worst(moments: Mapping[Any, list[float]], begin: float, end: float) -> Gap:
    return max((_longest(each, begin, end) for each in moments.values()), default=Gap(end - begin, 0.0))


def usual_latency(history: History, begin: float, end: float, places: Collection[Place]) -> float | None:
    """The median of what was sent to these partitions and acknowledged within [begin, end], in seconds."""
    took = [
        send.ended - send.began
        for send in history.of(Send)
        if send.outcome is Outcome.OK
        and (send.log, send.partition) in places
        and begin <= send.began
        and send.ended <= end
    ]
    return median(took) if took else None


def terms_since(history: History, began: float, homes: Mapping[Place, int] | None = None) -> int:
    """By how many the leader epoch of a partition has grown since a moment of the history, at most. `homes`:
    the preferred leaders, to whom leadership goes back without an election: that is not counted."""
    before: dict[Place, Led] = {}
    grown: dict[Place, int] = defaultdict(int)
    for led in history.of(Led):
        place = led.log, led.partition
        if led.began > began and place in before:
            grown[place] += led.epoch - before[place].epoch
            is_return = led.broker == (homes or {}).get(place) and before[place].broker not in (
                -1,
                led.broker,
            )
            grown[place] -= is_return and led.epoch > before[place].epoch
        before[place] = led
    return max(grown.values(), default=0)


def stood_still(history: History, begin: float, end: float) -> float:
    """For how long the machine did within [begin, end], whatever of it did."""
    total, until = 0.0, begin
    for began, ended in sorted((stall.began, min(stall.ended, end)) for stall in history.of(Stall)):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def in_time(measured: float, limit: float, still: float) -> Outcome:
    """Whether something is no more than it may be, when `still` of it is the machine's standstill."""
    if measured <= limit:
        return Outcome.OK
    return Outcome.UNKNOWN if measured - still <= limit else Outcome.FAILED
