"""What came out against what went in: per key and in order. Pure, so that it is tested on wrong outcomes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from demo.source import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The counts of the demo's last line, and what is wrong in words."""

    given: int
    produced: int
    consumed: int
    lost: int
    duplicated: int
    reordered: tuple[bytes, ...]
    """The keys whose lines came in another order than they were given in."""
    misplaced: tuple[bytes, ...]
    """Examples of lines that were lost or came twice, or that nobody sent."""

    @property
    def is_perfect(self) -> bool:
        """Everything there was, once, in order."""
        return not (self.lost or self.duplicated or self.reordered) and self.given == self.produced

    def __add__(self, other: Outcome) -> Outcome:
        """Both taken together."""
        return Outcome(
            given=self.given + other.given,
            produced=self.produced + other.produced,
            consumed=self.consumed + other.consumed,
            lost=self.lost + other.lost,
            duplicated=self.duplicated + other.duplicated,
            reordered=self.reordered + other.reordered,
            misplaced=self.misplaced + other.misplaced,
        )

    def __str__(self) -> str:
        return (
            f"produced {self.produced:,} of {self.given:,}, consumed {self.consumed:,},"
            f" lost {self.lost:,}, duplicated {self.duplicated:,}"
        )


def compare(given: Sequence[Line], acknowledged: Sequence[Line], consumed: Sequence[Line]) -> Outcome:
    """Hold what was consumed to what was acknowledged, and its order to that of the input.

    A line that the input holds several times must come as often. One that nobody sent counts as duplicated.
    """
    wanted, got = Counter(acknowledged), Counter(consumed)
    missing, extra = wanted - got, got - wanted
    came = by_key(consumed)
    return Outcome(
        given=len(given),
        produced=len(acknowledged),
        consumed=len(consumed),
        lost=missing.total(),
        duplicated=extra.total(),
        reordered=tuple(key for key, texts in by_key(given).items() if came.get(key) != texts),
        misplaced=tuple(line.text for line in [*missing, *extra])[:3],
    )


def by_key(lines: Iterable[Line]) -> dict[bytes, list[bytes]]:
    """The lines of each key, in order."""
    texts: dict[bytes, list[bytes]] = defaultdict(list)
    for line in lines:
        texts[line.key].append(line.text)
    return texts
