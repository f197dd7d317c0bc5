"""The last lines that each embedded broker has logged: what a report of a failed test shows.

Brokers share loggers, and each has a thread of its own: the thread says whose line it is. A broker that does
well says so at INFO, which most tests' logs do not take: those lines go into the tails, and no further.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Final

LINES_MAX: Final = 20
"""Of each broker."""
TOLD: Final = ("raftlog.life", "raftlog.cluster", "raftlog.peers")
"""Whose INFO lines are kept: who leads what, who comes and goes."""
LEVEL: Final = logging.INFO - 1
"""Of these loggers, where nobody has set one. A level that a test sets is another number, and counts."""


class LogTails(logging.Handler):
    """Keeps them, between `begin` and `end` of a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._tails: dict[int, deque[str]] = {}
        self._lock = threading.Lock()
        self._listens = False

    def begin(self) -> deque[str]:
        """From here on what this thread logs is kept in what is given back."""
        tail: deque[str] = deque(maxlen=LINES_MAX)
        with self._lock:
            if not self._listens:
                self._listen()
            if not self._tails:
                logging.getLogger("raftlog").addHandler(self)
            self._tails[threading.get_ident()] = tail
        return tail

    def end(self) -> None:
        """This thread ends."""
        with self._lock:
            self._tails.pop(threading.get_ident(), None)
            if not self._tails:
                logging.getLogger("raftlog").removeHandler(self)

    def _listen(self) -> None:
        """Have the INFO lines come as far as `_is_for_all`, for good: what is taken back while a test has a
        level of its own would be set again by that test's end."""
        self._listens = True
        for name in TOLD:
            logger = logging.getLogger(name)
            if logger.level == logging.NOTSET:
                logger.setLevel(LEVEL)
                logger.addFilter(self._is_for_all)

    def _is_for_all(self, record: logging.LogRecord) -> bool:
        """Whether a line would be logged without us; if not, it is kept here alone."""
        own = logging.getLogger(record.name).level
        passes = (
            own if own not in (LEVEL, logging.NOTSET) else logging.getLogger("raftlog").getEffectiveLevel()
        )
        if record.levelno >= passes:
            return True
        self.emit(record)
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line of a broker's thread."""
        tail = self._tails.get(record.thread or 0)
        if tail is not None:
            tail.append(self.format(record))


tails: Final = LogTails()
