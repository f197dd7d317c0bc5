"""What every module of the API is given, and what several of them tell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from raftlog.client.health import (
    NO_LEADER,
    DiskState,
    PartitionState,
    broker_problems,
    disk_problems,
    topic_problems,
)
from raftlog.http.access import Access
from raftlog.http.exposition import Pace
from raftlog.http.history import History
from raftlog.http.messages import Refusal, Send
from raftlog.http.own_client import OwnClient
from raftlog.http.reading import alive_brokers
from raftlog.http.view import View
from raftlog.metadata.catalog import Catalog, Topic
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, group_key

METADATA_NAME: Final = "__cluster_metadata"
STREAMS_MAX: Final = 16
"""Of all connections: a page has one or two."""

Stream = Callable[[Send], Awaitable[None]]


@dataclass(slots=True)
class Overview:
    """How the cluster's partitions are, added up, and what is wrong, in words."""

    partitions: int = 0
    without_leader: int = 0
    under_replicated: int = 0
    moving: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The broker behind it."""

    view: View
    access: Access
    client: OwnClient
    history: History

    def counted(self, stream: Stream) -> Stream:
        """A stream that the end of the broker waits for, for a moment. Raises Refusal when there are many."""
        if self.view.streams >= STREAMS_MAX:
            raise Refusal(503, "BUSY", f"{STREAMS_MAX} streams are open; try again", retriable=True)

        async def run(send: Send) -> None:
            self.view.streams += 1
            try:
                await stream(send)
            finally:
                self.view.streams -= 1

        return run

    @property
    def catalog(self) -> Catalog:
        return self.view.inside.metadata.catalog

    def topic(self, name: str) -> Topic:
        """Raises Refusal."""
        topic = self.catalog.topic(name)
        if topic is None:
            raise Refusal(404, "UNKNOWN_TOPIC_OR_PARTITION", f"there is no topic {name[:260]!r}")
        return topic

    def group_of(self, topic: str, partition: str) -> GroupKey:
        """The Raft group of a partition, or of the metadata. Raises Refusal."""
        if topic == METADATA_NAME and partition == "0":
            return METADATA_GROUP
        found = self.topic(topic)
        is_number = partition.isascii() and partition.isdigit() and len(partition) <= 9
        if not is_number or int(partition) >= len(found.partitions):
            raise Refusal(
                404, "UNKNOWN_TOPIC_OR_PARTITION", f"there is no partition {topic}-{partition[:20]}"
            )
        return group_key(found.topic_id, int(partition))

    def name_of(self, group: GroupKey) -> str:
        """A group's name for people."""
        if group == METADATA_GROUP:
            return f"{METADATA_NAME}-0"
        topic = self.catalog.topic(group[:16])
        return f"{topic.name if topic else group[:16].hex()}-{int.from_bytes(group[16:], 'big')}"

    def states_of(self, topic: Topic, alive: frozenset[BrokerId]) -> list[PartitionState]:
        """As Metadata says it: a replica is in sync while its broker is alive."""
        leader_of = self.view.inside.leaders.leader_of
        return [
            PartitionState(
                number,
                leader_of(topic, number)[0],
                len(assignment.hosts),
                sum(broker in alive for broker in assignment.hosts),
            )
            for number, assignment in enumerate(topic.partitions)
        ]

    async def each_topic(self) -> AsyncIterator[tuple[Topic, list[PartitionState]]]:
        """All topics and how they are; others have their turn in between."""
        alive, pace = alive_brokers(self.view), Pace()
        for topic in list(self.catalog.topics.values()):
            yield topic, self.states_of(topic, alive)
            await pace.breathe()

    async def reports(self) -> dict[BrokerId, dict[str, Any] | None]:
        """What each broker says of itself, all asked at once."""
        found: dict[BrokerId, dict[str, Any] | None] = {}

        async def ask(broker: BrokerId) -> None:
            found[broker] = await self.view.inside.reports.of(broker)

        async with trio.open_nursery() as nursery:
            for broker in list(self.catalog.brokers):
                nursery.start_soon(ask, broker)
        return found

    async def overview(self) -> Overview:
        """One look at everything. The problems are what `raftlog cluster health` says."""
        seen, alive = Overview(), alive_brokers(self.view)
        if self.view.inside.metadata.leader is None:
            seen.problems.append(NO_LEADER)
        seen.problems += broker_problems((one, one in alive) for one in sorted(self.catalog.brokers))
        async for topic, states in self.each_topic():
            seen.partitions += len(states)
            seen.without_leader += sum([state.leader is None for state in states])
            seen.under_replicated += sum([state.in_sync < state.replicas for state in states])
            seen.moving += sum([assignment.is_moving for assignment in topic.partitions])
            seen.problems += topic_problems(topic.name, states)
        seen.problems += disk_problems(disks_of(await self.reports()))
        return seen


def disks_of(reports: dict[BrokerId, dict[str, Any] | None]) -> Sequence[DiskState]:
    return [
        DiskState(broker, report["damaged_logs"] > 0, report["disk"]["total"], report["disk"]["free"])
        for broker, report in sorted(reports.items())
        if report is not None
    ]
