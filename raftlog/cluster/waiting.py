"""What the log says of a broker that waits for others: at its start, and when a majority goes away later.

One line after a while, then ever more rarely, and one when it is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from raftlog.cluster.startup import what_is_missing

if TYPE_CHECKING:
    from raftlog.cluster.node import Node

FIRST_AFTER_S: Final = 5.0
INTERVAL_MAX_S: Final = 60.0
"""When it is said for the first time, and how often at last."""
POLL_S: Final = 0.5

log = logging.getLogger("raftlog.cluster")


async def say_what_start_waits_for(node: Node) -> None:
    """Until cancelled, which the caller does when the broker serves."""
    await _say(node, "not serving after %d s: %s", lambda: False)


async def say_when_nobody_leads(node: Node) -> None:
    """Whenever the metadata is without a leader for longer than an election takes. Until cancelled."""
    while True:
        await trio.sleep(POLL_S)
        if node.has_metadata_leader:
            continue
        stuck = "nothing of the cluster changes since %d s: %s"
        if await _say(node, stuck, lambda: node.has_metadata_leader):
            log.warning("broker %s leads the metadata: the cluster goes on", node.metadata.group.leader)


async def _say(node: Node, line: str, is_over: Callable[[], bool]) -> bool:
    """Say why, now and then, until it is over; whether anything was said."""
    began = trio.current_time()
    due, pause = began + FIRST_AFTER_S, FIRST_AFTER_S
    while not is_over():
        now = trio.current_time()
        if now >= due:
            log.warning(line, now - began, what_is_missing(node))
            pause = min(2 * pause, INTERVAL_MAX_S)
            due = now + pause
        await trio.sleep(POLL_S)
    return pause > FIRST_AFTER_S
