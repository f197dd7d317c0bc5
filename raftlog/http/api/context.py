"""What every module of the API is given, and what several of them tell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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
from raftlog.http.api.source import counted, no_topic, partition_of
from raftlog.http.exposition import Pace
from raftlog.http.history import History
from raftlog.http.messages import Stream
from raftlog.http.own_client import OwnClient
from raftlog.http.reading import alive_brokers
from raftlog.http.shared import Shared
from raftlog.http.view import View
from raftlog.metadata.catalog import Catalog, Topic
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, group_key, partition_of_group

METADATA_NAME: Final = "__cluster_metadata"


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
    shared: Shared = field(default_factory=Shared)

    def counted(self, stream: Stream) -> Stream:
        """A stream that the end of the broker waits for, for a moment. Raises Refusal when there are many."""
        return counted(self.view, stream)

    @property
    def stopping(self) -> trio.Event:
        return self.view.stopping

    @property
    def catalog(self) -> Catalog:
        return self.view.inside.metadata.catalog

    def topic(self, name: str) -> Topic:
        """Raises Refusal."""
        topic = self.catalog.topic(name)
        if topic is None:
            raise no_topic(name)
        return topic

    def group_of(self, topic: str, partition: str) -> GroupKey:
        """The Raft group of a partition, or of the metadata. Raises Refusal."""
        if topic == METADATA_NAME and partition == "0":
            return METADATA_GROUP
        number = partition_of(self, topic, partition)
        return group_key(self.topic(topic).topic_id, number)

    def name_of(self, group: GroupKey, topic: str | None = None) -> str:
        """A group's name for people; `topic` is what a broker that has a replica calls it."""
        if group == METADATA_GROUP:
            return f"{METADATA_NAME}-0"
        topic_id, number = partition_of_group(group)
        known = self.catalog.topic(topic_id)
        return f"{topic or (known.name if known else topic_id.hex())}-{number}"

    def states_of(self, topic: Topic, alive: frozenset[BrokerId]) -> list[PartitionState]:
        """As Metadata says it: a replica is in sync while its broker is alive."""
        leader_of = self.view.inside.leaders.leader_of
        return [
            PartitionState(
                number,
                leader_of(topic, number)[0],
                len(assignment.hosts),
                len(alive.intersection(assignment.hosts)),
            )
            for number, assignment in enumerate(topic.partitions)
        ]

    async def each_topic(self) -> AsyncIterator[tuple[Topic, list[PartitionState]]]:
        """All topics and how they are; others have their turn in between, and more than that."""
        alive, pace = alive_brokers(self.view), Pace(rests=True)
        for topic in list(self.catalog.topics.values()):
            yield topic, self.states_of(topic, alive)
            await pace.breathe()

    async def reports(self) -> dict[BrokerId, dict[str, Any] | None]:
        """What each broker said of itself a moment ago, all asked at once."""
        return await self.shared.get("reports", self._ask_all)

    async def _ask_all(self) -> dict[BrokerId, dict[str, Any] | None]:
        found: dict[BrokerId, dict[str, Any] | None] = {}

        async def ask(broker: BrokerId) -> None:
            found[broker] = await self.view.inside.reports.of(broker)

        async with trio.open_nursery() as nursery:
            for broker in list(self.catalog.brokers):
                nursery.start_soon(ask, broker)
        return found

    async def own_report(self) -> dict[str, Any]:
        """What this broker said of itself a moment ago."""
        return await self.shared.get("own report", self.view.inside.reports.own)

    async def histories(self, since_ms: int, limit: int) -> list[list[float | None]]:
        """The points of all brokers after a time, by this broker's clock."""
        points: list[list[float | None]] = []

        async def ask(broker: BrokerId) -> None:
            points.extend(await self.view.inside.reports.history_of(broker, since_ms, limit))

        async with trio.open_nursery() as nursery:
            for broker in list(self.catalog.brokers):
                nursery.start_soon(ask, broker)
        return points

    async def overview(self) -> Overview:
        """One look at everything, of a moment ago. The problems are what `raftlog cluster health` says."""
        return await self.shared.get("overview", self._look_over)

    async def _look_over(self) -> Overview:
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


def lags_of(api: Api, group: str, topic: str) -> list[int]:
    """How many records a group has not read of each partition of a topic that this broker keeps."""
    replicas = api.view.inside.replicas
    return [
        max(0, replica.high_watermark - at.offset)
        for number, at in api.catalog.group_offsets.rows(group, topic).items()
        if (replica := replicas.partition(topic, number)) is not None
    ]
