"""What keeps a client from its brokers, in words: for its log, and for who waits in vain.

A trouble is said once it has lasted, then ever more rarely, and once more when it is over. That nobody
answers is one trouble, however many brokers are asked. Time comes in as `now`, in seconds.

It must not know how a broker is asked, nor what for.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from raftlog.client.errors import ClientError

FIRST_AFTER_S: Final = 5.0
INTERVAL_MAX_S: Final = 60.0
"""When a trouble is said for the first time, and how often at last."""
STALE_AFTER_S: Final = 30.0
"""A trouble that was not met for so long is over: nobody has tried since."""
CASES_MAX: Final = 1000
"""More brokers, topics and groups than one client is in trouble with; what comes later is not said."""
NAMED_MAX: Final = 3
"""Addresses in the line that says that nobody answers."""
NOBODY: Final = "nobody"

log = logging.getLogger("raftlog.client")


@dataclass(slots=True)
class _Case:
    """One trouble: when it began, when it was last `met`, when it is `due` to be said."""

    reason: ClientError
    since: float
    met: float
    due: float
    pause: float = FIRST_AFTER_S
    is_said: bool = False


class Trouble:
    """Of one client."""

    def __init__(self) -> None:
        self._cases: dict[str, _Case] = {}
        self._unreached: dict[str, ClientError] = {}

    def __repr__(self) -> str:
        return f"<Trouble {sorted(self._cases)}>"

    # -- brokers

    def unreached(self, place: str, reason: ClientError, now: float) -> None:
        """A broker was asked or dialled in vain."""
        self._unreached.pop(place, None)
        if len(self._unreached) < CASES_MAX:
            self._unreached[place] = reason
        nobody = self._met(NOBODY, reason, now)
        one = self._met(place, reason, now)
        if nobody is not None and self._is_due(nobody, now):
            named = list(self._unreached.values())[-NAMED_MAX:]
            reasons = "; ".join(dict.fromkeys(map(str, named)))
            log.warning("no broker has answered for %d s: %s", now - nobody.since, reasons)
        elif one is not None and (nobody is None or nobody.since > one.since) and self._is_due(one, now):
            log.warning("a broker has not answered for %d s, others do: %s", now - one.since, reason)

    def reached(self, place: str) -> None:
        """A broker has answered."""
        if not self._cases and not self._unreached:
            return
        self._unreached.pop(place, None)
        nobody = self._cases.pop(NOBODY, None)
        one = self._cases.pop(place, None)
        if (nobody is not None and nobody.is_said) or (one is not None and one.is_said):
            log.warning("%s answers again", place)

    def with_broker(self, place: str) -> ClientError | None:
        """Why a broker is not reached, if it is not."""
        return self._unreached.get(place)

    def with_brokers(self) -> ClientError | None:
        """Why no broker is reached; None when one has answered last."""
        case = self._cases.get(NOBODY)
        return case.reason if case is not None else None

    # -- anything else

    def met(self, what: str, reason: ClientError, now: float) -> None:
        """`what` is waited for in vain."""
        case = self._met(what, reason, now)
        if case is not None and self._is_due(case, now):
            log.warning("waiting for %s for %d s: %s", what, now - case.since, reason)

    def over(self, what: str) -> None:
        """It has come."""
        case = self._cases.pop(what, None)
        if case is not None and case.is_said:
            log.warning("the wait for %s is over", what)

    def _met(self, what: str, reason: ClientError, now: float) -> _Case | None:
        case = self._cases.get(what)
        if case is None or now - case.met > STALE_AFTER_S:
            if case is None and len(self._cases) >= CASES_MAX:
                return None
            case = self._cases[what] = _Case(reason=reason, since=now, met=now, due=now + FIRST_AFTER_S)
        case.reason, case.met = reason, now
        return case

    @staticmethod
    def _is_due(case: _Case, now: float) -> bool:
        if now < case.due:
            return False
        case.is_said = True
        case.pause = min(2 * case.pause, INTERVAL_MAX_S)
        case.due = now + case.pause
        return True
