"""The scrub's Trio shell: reads everything again in the background, slowly.

A piece is read in a worker thread and checked on the loop. Between two pieces it waits for as long as the
rate wants, and at least twenty times as long as the check took, so that tiny batches cost the loop little.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import trio

from raftlog.config import BrokerConfig
from raftlog.errors import DamagedLog, FileRefused
from raftlog.raft.group import RaftGroup
from raftlog.storage.scrub import Piece, Scrub
from raftlog.storage.store import Store
from raftlog.types import GroupKey

FIRST_S: Final = 10.0
"""After the start, which has other things to do."""
REPAIR_S: Final = 30.0
"""How long the scrub waits for what it found to be repaired, before it goes on behind it."""
POLL_S: Final = 0.05
BUSY_SHARE: Final = 20

log = logging.getLogger("raftlog.storage")


class Scrubbing:
    """A pass soon after the start, and one every raftlog.scrub.interval.ms."""

    def __init__(self, config: BrokerConfig, store: Store, groups: Mapping[GroupKey, RaftGroup]) -> None:
        """`groups` are those of this broker: they repair what is found."""
        self._rate = config.int("raftlog.scrub.bytes.per.second")
        self._interval_s = config.int("raftlog.scrub.interval.ms") / 1000
        self._store = store
        self._groups = groups

    async def run(self) -> None:
        """Until cancelled; not at all at a rate of 0."""
        if not self._rate:
            return
        pause = FIRST_S
        while True:
            await trio.sleep(min(pause, self._interval_s))
            started = trio.current_time()
            await self._pass(Scrub(self._store.logs))
            pause = max(0.0, started + self._interval_s - trio.current_time())

    async def _pass(self, scrub: Scrub) -> None:
        scrub.begin()
        while True:
            try:
                piece = scrub.next()
            except (DamagedLog, FileRefused) as error:
                log.warning("the scrub leaves out a log: %s", error)
                scrub.skip_log()
                continue
            if piece is None:
                return
            data = await trio.to_thread.run_sync(piece.read)
            begun = trio.current_time()
            try:
                scrub.check(piece, data)
            except DamagedLog as error:
                log.error("the scrub found damage: %s", error)
                await self._repaired(scrub, piece)
                continue
            busy = trio.current_time() - begun
            size = len(data) if isinstance(data, memoryview) else 0
            await trio.sleep(max(size / self._rate, BUSY_SHARE * busy))

    async def _repaired(self, scrub: Scrub, piece: Piece) -> None:
        """Have the group repair what was found. What cannot be repaired is gone round, by a segment."""
        group = self._groups.get(piece.key)
        until = trio.current_time() + (REPAIR_S if group is not None and len(group.voters) > 1 else 0.0)
        while piece.log.damage.problem is not None and trio.current_time() < until:  # noqa: ASYNC110
            await trio.sleep(POLL_S)
        if piece.log.damage.problem is not None:
            scrub.skip()
