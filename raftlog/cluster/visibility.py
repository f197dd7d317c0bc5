"""When a change can be seen through every broker, so that a client reads its writes through any.

A broker asks the others whether they have applied what is applied here; each answers when it has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import trio

from raftlog.cluster.calls import Reply, Unreachable
from raftlog.cluster.changes import Changes
from raftlog.cluster.leaders import Leaders
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.peers import Peers
from raftlog.errors import InvalidInput
from raftlog.metadata.catalog import Topic
from raftlog.types import BrokerId, RaftIndex

BARRIER_TIMEOUT_S: Final = 10.0
"""How long a change waits for the other brokers to have applied it."""
BARRIERS_MAX: Final = 10_000
"""Brokers that wait for something to be applied here; more are not answered, and ask again."""

log = logging.getLogger("raftlog.cluster")


class Visibility:
    """Asks the other brokers, and answers them."""

    def __init__(self, metadata: MetadataGroup, peers: Peers, leaders: Leaders, changes: Changes) -> None:
        self._metadata = metadata
        self._peers = peers
        self._leaders = leaders
        self._barriers: list[tuple[RaftIndex, bytes | None, Callable[[], None]]] = []
        peers.calls.serve("applied", self._on_applied)
        changes.listen(self._pass_barriers)

    async def visible_everywhere(self, topic: Topic | None = None) -> None:
        """Until every live broker has applied what is applied here, and knows the leaders of `topic`. A
        broker that goes away meanwhile is not waited for."""
        if topic is not None:
            await self._leaders.wait_for_leaders(topic)
        index = int(self._metadata.applied_index)
        body = [index, topic.topic_id if topic is not None else None]

        async def one(broker: BrokerId) -> None:
            try:
                await self._peers.calls.ask(broker, "applied", body, timeout=BARRIER_TIMEOUT_S)
            except Unreachable as error:
                log.warning("a change is not known to be visible everywhere: %s", error)

        async with trio.open_nursery() as nursery:
            for broker in self._peers.live():
                nursery.start_soon(one, broker)

    def _on_applied(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        match body:
            case [int(index), bytes() | None as topic_id]:
                self._barriers.append((RaftIndex(index), topic_id, lambda: reply(True)))
                self._pass_barriers()
            case _:
                raise InvalidInput(f"broker {sender} asks whether {body!r} is applied")

    def _pass_barriers(self) -> None:
        if not self._barriers:
            return
        waiting, self._barriers = self._barriers, []
        for barrier in waiting:
            index, topic_id, then = barrier
            topic = None if topic_id is None else self._metadata.catalog.topic(topic_id)
            applied = self._metadata.applied_index >= index
            if applied and (topic is None or self._leaders.are_known(topic)):
                then()
            elif len(self._barriers) < BARRIERS_MAX:
                self._barriers.append(barrier)
