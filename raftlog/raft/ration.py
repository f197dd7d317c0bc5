"""What the groups of a broker may do so many times a turn, and the next turn goes on with.

A turn holds the event loop, and a thousand groups may want at once what takes long in it. Whoever gets
nothing is first in the next turn, in the order of asking.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftlog.raft.replica import Replica


class Ration:
    """`count` a turn, over all groups."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._left = count
        self._kept: set[Replica] = set()
        """Those that waited, and whose turn this is: theirs is kept for them."""
        self._waiting: dict[Replica, None] = {}

    @property
    def is_wanted(self) -> bool:
        """Somebody waits for the next turn."""
        return bool(self._waiting)

    def take(self, group: Replica) -> bool:
        """Whether the group may, now; if not, `renew` names it in one of the next turns."""
        if group in self._kept:
            self._kept.discard(group)
        elif self._left > 0:
            self._left -= 1
        else:
            self._waiting[group] = None
            return False
        return True

    def renew(self) -> list[Replica]:
        """A turn begins: the groups that may ask again, and get it."""
        if self._left == self._count and not self._waiting and not self._kept:
            return []  # as in nearly every turn: nobody asked
        groups = list(islice(self._waiting, self._count))
        for group in groups:
            del self._waiting[group]
        self._kept = set(groups)
        self._left = self._count - len(groups)
        return groups
