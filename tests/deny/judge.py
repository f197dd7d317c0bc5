"""What may not have happened, of a history whose times are of one clock."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

NEVER = float("inf")


class Op(NamedTuple):
    """Something that the denied one did with success."""

    what: str
    broker: int
    begun: float
    ended: float
    written: float = NEVER
    """Of a read: when the youngest record that it gave was begun to be written; else NEVER."""


@dataclass(slots=True)
class Register:
    """When somebody was surely denied. What an administrator was not told the outcome of is neither."""

    denied: list[list[float]] = field(default_factory=list)
    """[deny returned, next allow begun]"""

    def deny_returned(self, at: float) -> None:
        self.denied.append([at, NEVER])

    def allow_begins(self, at: float) -> None:
        """Also where the outcome of anything is unknown: from here on nothing is sure."""
        if self.denied and self.denied[-1][1] == NEVER:
            self.denied[-1][1] = at

    def window_of(self, at: float) -> tuple[float, float] | None:
        """The time of a sure deny that a moment lies in."""
        found = bisect_right(self.denied, at, key=lambda window: window[0]) - 1
        if found < 0 or not self.denied[found][0] <= at < self.denied[found][1]:
            return None
        return self.denied[found][0], self.denied[found][1]


def violations(register: Register, ops: Sequence[Op]) -> Iterator[str]:
    """An operation that began under a deny and succeeded before the next allow; a record that was written
    after a deny and reached the denied one before the next allow. What ended later may have been decided
    later: a broker without a lease holds a request back until it knows the rules."""
    for op in ops:
        window = register.window_of(op.begun)
        if window is not None and op.ended < window[1]:
            late, lasting = op.begun - window[0], op.ended - op.begun
            yield (
                f"{op.what} at broker {op.broker}, begun {late:.3f} s after a deny had returned,"
                f" succeeded {lasting:.3f} s later"
            )
            continue
        if op.written == NEVER:
            continue
        window = register.window_of(op.written)
        if window is not None and op.ended < window[1]:
            late = op.written - window[0]
            yield f"{op.what} at broker {op.broker} gave a record written {late:.3f} s after a deny returned"
