"""Judges a log against the history of what was written to it. Pure: no clients, no clock.

What it looks for, after Jepsen's Kafka workload and Redpanda's reads_writes: lost, moved and duplicated
records, order within a partition, gaps, values that nobody sent, records that surely failed and are
there, offsets that contradict real time, and a log or a committed offset that goes back between two looks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tests.crash.history import Commits, Outcome, Send, Traits, who_wrote

SHOWN_MAX: Final = 5
"""Violations of a kind that are described; the others are counted."""


class Kind(Enum):
    LOST = "lost: acknowledged and not in the log"
    MOVED = "moved: not at the offset that was acknowledged"
    DUPLICATED = "duplicated: an idempotent producer's record is there twice"
    REORDERED = "reordered: a producer's records are not in its order"
    GAP = "gap: offsets are not dense"
    PHANTOM = "phantom: nobody sent this value"
    UNDEAD = "undead: it surely failed, and it is there"
    TIMELESS = "timeless: it lies before what had been acknowledged when it was sent"
    SHARED = "shared: one offset was acknowledged for two records"
    REWRITTEN = "rewritten: an offset that was read before holds something else"
    SHRUNK = "shrunk: the log ends before where it ended"
    COMMIT_FELL = "a committed offset fell"
    COMMIT_INVENTED = "a committed offset that nobody tried"
    NOTED = "noted"


@dataclass(frozen=True, slots=True)
class PartitionLog:
    """One partition as a fresh consumer read it: (offset, value) from `start` to `end`."""

    start: int
    end: int
    records: Sequence[tuple[int, bytes | None]]


Log = Mapping[int, PartitionLog]


@dataclass
class Verdict:
    """`found` by kind; `allowed_duplicates` are those of producers that are not idempotent."""

    found: dict[Kind, list[str]] = field(default_factory=lambda: defaultdict(list))
    records: int = 0
    acknowledged: int = 0
    unknown: int = 0
    allowed_duplicates: int = 0

    @property
    def is_good(self) -> bool:
        return not any(self.found.values())

    def add(self, kind: Kind, text: str) -> None:
        self.found[kind].append(text)

    def __str__(self) -> str:
        if self.is_good:
            return "good"
        lines = []
        for kind, texts in self.found.items():
            lines.append(f"{len(texts)} {kind.value}")
            lines += [f"    {text}" for text in texts[:SHOWN_MAX]]
        return "\n".join(lines)


def check(sends: Iterable[Send], log: Log, producers: Mapping[str, Traits]) -> Verdict:
    """Judge one look at the log; every send of `sends` that is OK was acknowledged before that look."""
    verdict = Verdict()
    by_name = {(send.producer, send.number): send for send in sends}
    places: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for partition, part in log.items():
        _check_density(partition, part, verdict)
        for offset, value in part.records:
            verdict.records += 1
            name = who_wrote(value)
            if name is None or name not in by_name or by_name[name].partition != partition:
                verdict.add(Kind.PHANTOM, f"{partition}@{offset} holds {(value or b'')[:60]!r}")
            else:
                places[name].append((partition, offset))
    _check_sends(by_name.values(), places, producers, verdict)
    _check_order(places, producers, verdict)
    return verdict


def _check_density(partition: int, part: PartitionLog, verdict: Verdict) -> None:
    expected = part.start
    for offset, _ in part.records:
        if offset != expected:
            verdict.add(Kind.GAP, f"{partition}@{offset} where {expected} should be")
        expected = offset + 1
    if expected != part.end:
        verdict.add(Kind.GAP, f"partition {partition} was read to {expected}, it ends at {part.end}")


def _check_sends(
    sends: Iterable[Send],
    places: Mapping[tuple[str, int], Sequence[tuple[int, int]]],
    producers: Mapping[str, Traits],
    verdict: Verdict,
) -> None:
    owners: dict[tuple[int, int], Send] = {}
    for send in sends:
        found = places.get((send.producer, send.number), ())
        name = f"{send.producer}:{send.number}"
        if len(found) > 1:
            if producers[send.producer].idempotent:
                verdict.add(Kind.DUPLICATED, f"{name} at {_show(found)}")
            else:
                verdict.allowed_duplicates += len(found) - 1
        if found and found[0][1] <= send.above:
            verdict.add(Kind.TIMELESS, f"{name} at {_show(found)}, {send.above} had been acknowledged")
        if send.outcome is Outcome.FAILED and found:
            verdict.add(Kind.UNDEAD, f"{name} at {_show(found)}")
        elif send.outcome is Outcome.UNKNOWN:
            verdict.unknown += 1
        elif send.outcome is Outcome.OK:
            verdict.acknowledged += 1
            place = send.partition, send.offset
            if not found:
                verdict.add(Kind.LOST, f"{name} acknowledged at {_show([place])}")
            elif place not in found:
                verdict.add(Kind.MOVED, f"{name} acknowledged at {_show([place])}, found at {_show(found)}")
            other = owners.setdefault(place, send)
            if other is not send:
                verdict.add(Kind.SHARED, f"{_show([place])} for {other.producer}:{other.number} and {name}")


def _check_order(
    places: Mapping[tuple[str, int], Sequence[tuple[int, int]]],
    producers: Mapping[str, Traits],
    verdict: Verdict,
) -> None:
    """By first occurrence, since a duplicate of an earlier record may well come later."""
    last: dict[tuple[str, int], tuple[int, int]] = {}
    for producer, number in sorted(places):
        if not producers[producer].ordered:
            continue
        partition, offset = places[producer, number][0]
        before, before_offset = last.get((producer, partition), (-1, -1))
        if offset < before_offset:
            verdict.add(Kind.REORDERED, f"{producer}:{number} at {offset}, {before} at {before_offset}")
        last[producer, partition] = number, offset


def _show(places: Iterable[tuple[int, int]]) -> str:
    return " and ".join(f"{partition}@{offset}" for partition, offset in places)


class Memory:
    """Holds one look at the log against the looks before it."""

    def __init__(self) -> None:
        self._seen: dict[int, dict[int, int]] = defaultdict(dict)
        self._ends: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    def check_log(self, log: Log, verdict: Verdict) -> None:
        for partition, part in log.items():
            seen = self._seen[partition]
            for offset, value in part.records:
                if seen.setdefault(offset, hash(value)) != hash(value):
                    verdict.add(Kind.REWRITTEN, f"{partition}@{offset} holds {(value or b'')[:60]!r} now")
            before = self._ends.get(partition, 0)
            if part.end < before:
                verdict.add(Kind.SHRUNK, f"partition {partition} ends at {part.end}, it ended at {before}")
            self._ends[partition] = max(before, part.end)

    def check_commits(self, committed: Mapping[int, int], commits: Commits, verdict: Verdict) -> None:
        """`commits` as it was before `committed` was read; `tried` may be newer."""
        for partition in commits.confirmed.keys() | committed.keys() | self._committed.keys():
            now = committed.get(partition, -1)
            least = max(commits.confirmed.get(partition, -1), self._committed.get(partition, -1))
            if now < least:
                verdict.add(Kind.COMMIT_FELL, f"partition {partition}: {now}, it was {least}")
            self._committed[partition] = max(least, now)

    def check_tried(self, committed: Mapping[int, int], commits: Commits, verdict: Verdict) -> None:
        """`commits` as it was after `committed` was read."""
        for partition, now in committed.items():
            most = commits.tried.get(partition, -1)
            if now > most:
                verdict.add(Kind.COMMIT_INVENTED, f"partition {partition}: {now}, at most {most} was tried")
