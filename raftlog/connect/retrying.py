"""How often something is tried again that may pass: with growing pauses, for a bounded time."""

from __future__ import annotations

import logging
import random
from typing import Final

import trio

from raftlog.client.backoff import Backoff
from raftlog.connect.errors import Unavailable
from raftlog.connect.status import Status

log: Final = logging.getLogger("raftlog.connect")

PAUSE_MS: Final = 100.0
PAUSE_MAX_MS: Final = 10_000.0
"""The longest pause between two attempts: a target that is back is found soon."""
AFTER_SECONDS_MAX: Final = 600.0
"""Who asks for a longer pause is asked again all the same."""
QUIET_SECONDS: Final = 120.0
"""Without a failure for so long the next one is a new one, although nothing was to be done meanwhile."""


class Retrying:
    """Failures since it last worked."""

    def __init__(self, connector: str, retry_s: float, status: Status) -> None:
        self._connector = connector
        self._retry_s = retry_s
        self._status = status
        self._backoff = Backoff(PAUSE_MS, PAUSE_MAX_MS, random.Random())
        self._since: float | None = None
        self._last = 0.0

    def failed(self, error: BaseException) -> float:
        """The pause before the next attempt, in seconds: at least what the other side asks for. Raises the
        error when the time is over."""
        now = trio.current_time()
        if self._since is None or now - self._last > QUIET_SECONDS:
            self._since = now
            log.warning("connector %s waits: %s", self._connector, error)
            self._backoff.reset()
        if now - self._since >= self._retry_s:
            raise error
        self._status.retries += 1
        self._status.trouble = str(error)
        asked = min(error.after_s, AFTER_SECONDS_MAX) if isinstance(error, Unavailable) else 0.0
        pause = max(self._backoff.next(), asked)
        self._last = now + pause  # when nothing can have worked before
        return pause

    def worked(self) -> None:
        """It did."""
        if self._since is not None:
            log.info("connector %s goes on", self._connector)
            self._since = None
            self._status.trouble = ""
            self._backoff.reset()
