"""Log lines about what clients do wrong: a few a second, since who fills the log hurts everyone."""

from __future__ import annotations

import logging
from typing import Final

COMPLAINTS_MAX: Final = 10
"""Lines in a second; the rest is counted."""


class Complaints:
    """A bounded way to a logger. `now` is any clock in seconds that only goes forward."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """`what` names what is not shown, as in "5 more refusals"."""
        self._log = log
        self._what = what
        self._second = -1
        self._count = 0

    def add(self, now: float, message: str) -> None:
        """Log the message unless there were too many within this second."""
        if int(now) != self._second:
            self.flush()
            self._second = int(now)
        self._count += 1
        if self._count <= COMPLAINTS_MAX:
            self._log.warning("%s", message)

    def flush(self) -> None:
        """Say how many were not shown, and begin anew."""
        hidden, self._count = self._count - COMPLAINTS_MAX, 0
        if hidden > 0:
            self._log.warning("%d more %s", hidden, self._what)
