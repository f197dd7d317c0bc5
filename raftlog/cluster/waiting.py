"""What the log says of a broker that waits for others: at its start, and when a majority goes away later.

One line after a while, then ever more rarely, and one when it is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from raftlog.cluster.leaders import Leaders
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.peers import Peers
from raftlog.cluster.replicas import Replicas
from raftlog.cluster.startup import named_brokers
from raftlog.types import BrokerId

FIRST_AFTER_S: Final = 5.0
INTERVAL_MAX_S: Final = 60.0
"""When it is said for the first time, and how often at last."""
POLL_S: Final = 0.5
MISSING_MAX: Final = 5
"""Partitions without a leader that are named; there may be thousands."""

log = logging.getLogger("raftlog.cluster")


class Waiting:
    """Says what is missing."""

    def __init__(
        self,
        broker_id: BrokerId,
        metadata: MetadataGroup,
        peers: Peers,
        leaders: Leaders,
        replicas: Replicas,
    ) -> None:
        self._broker_id = broker_id
        self._metadata = metadata
        self._peers = peers
        self._leaders = leaders
        self._replicas = replicas

    async def say_what_start_waits_for(self) -> None:
        """Until cancelled, which the caller does when the broker serves."""
        await self._say("not serving after %d s: %s", lambda: False)

    async def say_when_nobody_leads(self) -> None:
        """Whenever the metadata is without a leader for longer than an election takes. Until cancelled."""
        while True:
            await trio.sleep(POLL_S)
            if self._metadata.leader is not None:
                continue
            stuck = "nothing of the cluster changes since %d s: %s"
            if await self._say(stuck, lambda: self._metadata.leader is not None):
                log.warning("broker %s leads the metadata: the cluster goes on", self._metadata.leader)

    async def _say(self, line: str, is_over: Callable[[], bool]) -> bool:
        """Say why, now and then, until it is over; whether anything was said."""
        began = trio.current_time()
        due, pause = began + FIRST_AFTER_S, FIRST_AFTER_S
        while not is_over():
            now = trio.current_time()
            if now >= due:
                log.warning(line, now - began, self.what_is_missing())
                pause = min(2 * pause, INTERVAL_MAX_S)
                due = now + pause
            await trio.sleep(POLL_S)
        return pause > FIRST_AFTER_S

    def what_is_missing(self) -> str:
        """Why this broker does not serve yet."""
        group = self._metadata.group
        if group.leader is None:
            return self.why_nobody_leads()
        unled = [
            f"{topic.name}-{number}"
            for topic in self._metadata.catalog.topics.values()
            for number in range(len(topic.partitions))
            if not self._leaders.is_known(topic, number)
        ]
        if unled and self._replicas.registered_index is not None:
            more = f" and {len(unled) - MISSING_MAX} more" if len(unled) > MISSING_MAX else ""
            return f"nobody leads {', '.join(unled[:MISSING_MAX])}{more}"
        return f"broker {group.leader}, which leads the metadata, has not taken it in"

    def why_nobody_leads(self) -> str:
        group = self._metadata.group
        voters = sorted(group.membership.voters)
        connected = self._peers.links.is_connected
        apart = [one for one in voters if one != self._broker_id and not connected(one)]
        reason = f"the metadata has no leader: that takes {_majority(voters)}"
        if apart:
            verb = "is" if len(apart) == 1 else "are"
            reason += f", and {named_brokers(apart)} {verb} not connected"
        if not group.is_trusted:
            reason += "; this broker's folder was empty: it votes when all are new, or a leader has filled it"
        return reason


def _majority(voters: list[BrokerId]) -> str:
    if len(voters) == 1:
        return named_brokers(voters)
    return f"{len(voters) // 2 + 1} of {named_brokers(voters)}"
