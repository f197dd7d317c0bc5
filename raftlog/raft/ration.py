"""What the groups of a broker may do so much of in a turn, and the next turn goes on with.

A turn holds the event loop, and a thousand groups may want at once what takes long in it. Whoever gets
nothing is first in the next turn, in the order of asking. Work is counted, not timed: a turn is bounded by
design, and the same messages make the same turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, Generic, TypeVar

Group = TypeVar("Group")

UNBOUNDED: Final = float("inf")


class Ration(Generic[Group]):
    """`count` a turn, over all groups."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._left = count
        self._kept: set[Group] = set()
        """Those that waited, and whose turn this is: theirs is kept for them."""
        self._waiting: dict[Group, None] = {}

    @property
    def is_wanted(self) -> bool:
        """Somebody waits for the next turn."""
        return bool(self._waiting)

    def take(self, group: Group) -> bool:
        """Whether the group may, now; if not, `renew` names it in one of the next turns."""
        if group in self._kept:
            self._kept.discard(group)
        elif self._left > 0:
            self._left -= 1
        else:
            self._waiting[group] = None
            return False
        return True

    def renew(self) -> list[Group]:
        """A turn begins: the groups that may ask again, and get it."""
        if self._left == self._count and not self._waiting and not self._kept:
            return []  # as in nearly every turn: nobody asked
        groups = list(islice(self._waiting, self._count))
        for group in groups:
            del self._waiting[group]
        self._kept = set(groups)
        self._left = self._count - len(groups)
        return groups


class Allowance(Generic[Group]):
    """`amount` of some work a turn, over all groups. Who has more to do than a turn allows goes on behind the
    others.

    Invariant: while a group waits, nothing is left of the turn.
    """

    def __init__(self, amount: float = UNBOUNDED) -> None:
        self._amount = amount
        self.left = amount
        """How much may be done now; who does something takes it off, and may go below nothing once."""
        self._waiting: dict[Group, None] = {}

    @property
    def is_wanted(self) -> bool:
        """Somebody waits for the next turn."""
        return bool(self._waiting)

    def wait(self, group: Group) -> None:
        """Nothing is left, and the group has something to do: `begin_turn` names it."""
        self._waiting[group] = None

    def begin_turn(self) -> Iterator[Group]:
        """The groups that waited, as long as something is left. Each asks again when it is named."""
        self.left = self._amount
        waiting = self._waiting
        while waiting and self.left > 0:
            group = next(iter(waiting))
            del waiting[group]
            yield group
