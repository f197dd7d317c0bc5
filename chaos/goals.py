"""What a scenario asks for, entered with the figure that was measured.

The machine's own standstill is no excuse, and no broker's fault: a limit that was missed only by that was
neither kept nor missed, and whether the goal is met is unknown.
"""

from __future__ import annotations

import math
from typing import Final

from chaos.gaps import in_time, stood_still
from chaos.history import Goal, History, Outcome

ELECTION_S: Final = 1.0
"""Of so much time a machine that stands still for more than half may make a leader look dead: one election
more is the machine's."""
STILL_MAX: Final = 0.05
"""Of the time: with less, a machine is taken for one that went on."""


class Goals:
    """Enters goals of one run."""

    def __init__(self, history: History) -> None:
        self._history = history

    def met(self, what: str, is_met: bool, seen: object, measured: float = -1.0, limit: float = -1.0) -> None:
        """Something that does not depend on how fast the machine is."""
        outcome = Outcome.OK if is_met else Outcome.FAILED
        self._enter(Goal(client="chaos", what=what, seen=str(seen), measured=measured, limit=limit), outcome)

    def within(self, what: str, limit_s: float, took_s: float, since: float) -> None:
        """What began at `since` took no longer than that."""
        still = stood_still(self._history, since, since + took_s)
        self._measured(what, limit_s, took_s, in_time(took_s, limit_s, still), f"{took_s:.2f} s", still)

    def at_most(self, what: str, limit: int, count: int, since: float) -> None:
        """Elections from `since` on."""
        history, now = self._history, self._history.now()
        starts = [since + number * ELECTION_S for number in range(math.ceil((now - since) / ELECTION_S))]
        lost = sum(stood_still(history, start, start + ELECTION_S) > ELECTION_S / 2 for start in starts)
        still = stood_still(history, since, now)
        self._measured(what, limit, count, in_time(count, limit, lost), str(count), still)

    def ratio(self, what: str, limit: float, measured: float, seen: str, since: float) -> None:
        """What took so many times as long since then, which on a machine that stands still says nothing."""
        now = self._history.now()
        still = stood_still(self._history, since, now)
        missed = Outcome.UNKNOWN if still > STILL_MAX * (now - since) else Outcome.FAILED
        outcome = Outcome.OK if measured <= limit else missed
        self._measured(what, limit, measured, outcome, f"{measured:.2f} times: {seen}", still)

    def _measured(
        self, what: str, limit: float, measured: float, outcome: Outcome, seen: str, still: float
    ) -> None:
        if outcome is not Outcome.OK:
            seen += f", the machine stood still for {still:.2f} s meanwhile"
        goal = Goal(client="chaos", what=what, seen=seen, measured=round(measured, 3), limit=limit)
        self._enter(goal, outcome)

    def _enter(self, goal: Goal, outcome: Outcome) -> None:
        self._history.end(self._history.begin(goal), outcome)
