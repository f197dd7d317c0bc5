"""What a report shows, worked out of a history: rates, latencies, gaps, who led when. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from chaos.gaps import Gap, Taken, stood_still
from chaos.history import NEVER, Fault, FinalRead, History, Led, Outcome, Read, Send

BUCKETS_MAX: Final = 1_200
"""Points of a line: a page stays small however long the run was."""
BUCKET_MIN_S: Final = 0.25
LED_TIMEOUT_S: Final = 30.0


def length_of(history: History) -> float:
    """Seconds that the page shows: until the last thing that ended."""
    return max((o.ended for o in history.operations if o.ended != NEVER), default=1.0)


@dataclass(frozen=True, slots=True)
class Rates:
    """Operations a second, a number for each bucket."""

    bucket_s: float
    acknowledged: list[float]
    refused: list[float]
    unknown: list[float]


def rates(history: History, length: float) -> Rates:
    """By when they ended; what never ended counts when it began."""
    bucket = max(BUCKET_MIN_S, length / BUCKETS_MAX)
    lines = {outcome: [0.0] * (int(length / bucket) + 1) for outcome in Outcome}
    for send in history.of(Send):
        at = send.began if send.ended == NEVER else send.ended
        if at < length:
            lines[send.outcome][int(at / bucket)] += 1 / bucket
    return Rates(bucket, lines[Outcome.OK], lines[Outcome.FAILED], lines[Outcome.UNKNOWN])


@dataclass(frozen=True, slots=True)
class Latencies:
    """Milliseconds of acknowledged sends, for each bucket; None where there was none."""

    bucket_s: float
    p50: list[float | None]
    p99: list[float | None]
    most: list[float | None]


def latencies(history: History, length: float) -> Latencies:
    bucket = max(BUCKET_MIN_S, length / BUCKETS_MAX)
    took: list[list[float]] = [[] for _ in range(int(length / bucket) + 1)]
    for send in history.of(Send):
        if send.outcome is Outcome.OK and send.ended < length:
            took[int(send.ended / bucket)].append(1000 * (send.ended - send.began))
    for each in took:
        each.sort()

    def at(share: float) -> list[float | None]:
        return [each[min(len(each) - 1, int(share * len(each)))] if each else None for each in took]

    return Latencies(bucket, at(0.5), at(0.99), at(1.0))


@dataclass(frozen=True, slots=True)
class Reign:
    """`broker` led from `began` to `ended`, in `epoch`."""

    broker: int
    epoch: int
    began: float
    ended: float


def reigns(history: History, log: str, partition: int, length: float) -> list[Reign]:
    told = [one for one in history.of(Led) if (one.log, one.partition) == (log, partition)]
    ends = [*(one.began for one in told[1:]), length][: len(told)]
    return [
        Reign(one.broker, one.epoch, one.began, end)
        for one, end in zip(told, ends, strict=True)
        if one.broker > 0
    ]


@dataclass(frozen=True, slots=True)
class FaultRow:
    """A fault and what it did to clients. `new_leader_s`: from its beginning until a partition had another
    leader, None when none had. `gap`: the longest time in which a partition took nothing, from the beginning
    of the fault until three seconds after its end."""

    fault: Fault
    ended: float
    gap: Gap
    new_leader_s: float | None
    refused: int
    unknown: int


AFTER_S: Final = 3.0
_ended = attrgetter("ended")


def fault_rows(history: History, length: float) -> list[FaultRow]:
    sends = sorted(history.of(Send), key=_ended)
    taken = Taken(history)
    led = list(history.of(Led))
    rows = []
    for fault in history.of(Fault):
        ended = min(fault.ended, length)
        until = min(ended + AFTER_S, length)
        first, last = bisect_left(sends, fault.began, key=_ended), bisect_left(sends, until, key=_ended)
        ended_meanwhile = sends[first:last]
        successors = [
            one.began - fault.began
            for one in led
            if fault.began < one.began < fault.began + LED_TIMEOUT_S and one.broker > 0
        ]
        rows.append(
            FaultRow(
                fault,
                ended,
                taken.worst_gap(fault.began, until),
                min(successors, default=None),
                sum(send.outcome is Outcome.FAILED for send in ended_meanwhile),
                sum(send.outcome is Outcome.UNKNOWN for send in ended_meanwhile),
            )
        )
    return rows


@dataclass(frozen=True, slots=True)
class Totals:
    """What one run came to, in numbers."""

    operations: int
    acknowledged: int
    refused: int
    unknown: int
    read: int
    faults: dict[str, int]
    still_s: float
    """For how long the machine stood still."""
    causes: dict[str, int]
    """Of sends whose end is unknown, or that failed: how often each reason was given."""


def totals(history: History) -> Totals:
    outcomes: dict[Outcome, int] = defaultdict(int)
    causes: dict[str, int] = defaultdict(int)
    for send in history.of(Send):
        outcomes[send.outcome] += 1
        if send.outcome is not Outcome.OK:
            causes[send.why[:120] or "the run was over"] += 1
    faults: dict[str, int] = defaultdict(int)
    for fault in history.of(Fault):
        faults[fault.kind] += 1
    return Totals(
        operations=len(history.operations),
        acknowledged=outcomes[Outcome.OK],
        refused=outcomes[Outcome.FAILED],
        unknown=outcomes[Outcome.UNKNOWN],
        read=sum(len(one.records) for one in history.operations if isinstance(one, Read | FinalRead)),
        faults=dict(faults),
        still_s=stood_still(history, 0.0, length_of(history)),
        causes=dict(causes),
    )
