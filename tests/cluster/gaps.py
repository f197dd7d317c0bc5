"""How long nothing was acknowledged. Pure: moments in, seconds out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple


class Ack(NamedTuple):
    """A record was acknowledged to its producer `at` a moment (monotonic seconds)."""

    at: float
    producer: str
    partition: int


class Gap(NamedTuple):
    """Seconds without an acknowledgement, and how long after the beginning they began."""

    length: float
    after: float


def longest_gap(moments: Iterable[float], begin: float, end: float) -> Gap:
    """The longest time within [begin, end] without one of these moments, to which both ends count."""
    inside = sorted(moment for moment in moments if begin < moment < end)
    return max(Gap(later - earlier, earlier - begin) for earlier, later in pairwise([begin, *inside, end]))


@dataclass(frozen=True, slots=True)
class Gaps:
    """The longest gaps of a while, each that of the partition that had to wait longest.

    `clients`: what each producer saw. `cluster`: what all of them saw together; no producer at all got
    anything into that partition meanwhile.
    """

    clients: dict[str, Gap]
    cluster: Gap


def gaps(acks: Sequence[Ack], begin: float, end: float, producers: Iterable[str], partitions: int) -> Gaps:
    """The gaps within [begin, end] of producers that write to every partition at a steady rate."""
    by_both: dict[tuple[str, int], list[float]] = defaultdict(list)
    by_partition: dict[int, list[float]] = defaultdict(list)
    for at, producer, partition in acks:
        by_both[producer, partition].append(at)
        by_partition[partition].append(at)
    every = range(partitions)
    return Gaps(
        {
            producer: max(longest_gap(by_both[producer, number], begin, end) for number in every)
            for producer in producers
        },
        max(longest_gap(by_partition[number], begin, end) for number in every),
    )
