"""Getting ready for requests that clients make elsewhere, and will make here when that broker ends."""

from __future__ import annotations

import logging
from typing import Final

import trio

from raftlog.broker.registry import find_api

PREPARE_PAUSE_S: Final = 0.05
"""Between two things that are loaded ahead: what is under way comes first."""

log = logging.getLogger("raftlog.broker")


class Readiness:
    """Loads what a kind of request needs: some 20 ms for each, while nobody waits for it yet."""

    def __init__(self) -> None:
        self._spoken: list[tuple[int, int]] = []
        self._heard = trio.Event()

    def will_be_spoken(self, spoken: list[tuple[int, int]]) -> None:
        """These (API, version) are used at another broker."""
        self._spoken += spoken
        self._heard.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._heard.wait()
            self._heard = trio.Event()
            wanted, self._spoken = self._spoken, []
            for key, version in wanted:
                api = find_api(key)
                if api is None or version in api.used or not api.first <= version <= api.last:
                    continue
                await trio.sleep(PREPARE_PAUSE_S)
                api.prepare(version)
                log.info("ready for %s v%d, which clients use elsewhere", api.key.name, version)
