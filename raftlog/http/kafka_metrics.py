"""/metrics/kafka: what kafka_exporter tells of a cluster, name for name, so that its dashboards go on.

All of it is about the whole cluster, whichever broker is asked: scrape one of them. A broker knows the
offsets of what it keeps, as a follower a moment late; those of other partitions it asks of their leaders,
every few seconds at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from raftlog.client.metadata import TopicPartition
from raftlog.config.addresses import join_host_port
from raftlog.http.exposition import Exposition, Family, Sample
from raftlog.http.messages import Refusal, Request, Response
from raftlog.http.own_client import OwnClient
from raftlog.http.reading import STEP, alive_brokers
from raftlog.http.view import View
from raftlog.types import BrokerId

ASKED_EVERY_S: Final = 5.0
GROUPS_MAX: Final = 1000
NOT_COMMITTED: Final = -1


@dataclass(frozen=True, slots=True)
class Row:
    """A partition. Of one that nobody leads offsets and leader are unknown, as the exporter has it."""

    topic: str
    partition: int
    start: int | None
    end: int | None
    leader: int | None
    replicas: int
    in_sync: int
    is_preferred: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a group is in a partition that somebody leads, -1 for nowhere, and how much is left."""

    group: str
    topic: str
    partition: int
    offset: int
    lag: int


@dataclass(slots=True)
class Sums:
    """Over a topic. Nowhere counts as -1 among the offsets, as the exporter has it."""

    offset: int
    lag: int


@dataclass(slots=True)
class Seen:
    """One look at the cluster."""

    brokers: dict[BrokerId, str] = field(default_factory=dict)
    partitions: dict[str, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    members: dict[str, int] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    sums: dict[tuple[str, str], Sums] = field(default_factory=dict)


class KafkaMetrics:
    """The endpoint."""

    def __init__(self, view: View, client: OwnClient) -> None:
        self._view = view
        self._client = client
        self._remote: dict[tuple[str, int], tuple[int, int]] = {}
        self._members: dict[str, int] = {}
        self._asked_at = float("-inf")
        self._exposition = Exposition(FAMILIES, self._look)

    async def response(self, request: Request) -> Response:
        if time.monotonic() - self._asked_at >= ASKED_EVERY_S:
            self._asked_at = time.monotonic()
            await self._ask()
        return await self._exposition.response(request)

    async def _ask(self) -> None:
        """What others know: the members of groups, and the offsets of partitions that are not kept here."""
        inside = self._view.inside
        coordinator = inside.coordination.coordinator_id
        if coordinator is not None:
            self._members = await inside.reports.members_of(coordinator) or {}
        missing = [
            TopicPartition(topic.name, number)
            for topic in list(inside.metadata.catalog.topics.values())
            for number in range(len(topic.partitions))
            if inside.replicas.partition_by_id(topic.topic_id, number) is None
            and inside.leaders.leader_of(topic, number)[0] is not None
        ]
        self._remote = {}
        if not missing:
            return
        try:
            starts = await self._client.ask(lambda c: c.admin.list_offsets(dict.fromkeys(missing, -2)))
            ends = await self._client.ask(lambda c: c.admin.list_offsets(dict.fromkeys(missing, -1)))
        except Refusal:
            return  # nobody leads some of them any more
        for key in missing:
            start, end = starts.get(key), ends.get(key)
            if start is not None and end is not None:
                self._remote[key.topic, key.partition] = (start.offset, end.offset)

    def _look(self) -> Iterator[tuple[Seen] | None]:
        seen, catalog = Seen(), self._view.inside.metadata.catalog
        alive = alive_brokers(self._view)
        for broker in sorted(catalog.brokers.values(), key=lambda one: one.id):
            if broker.id in alive:
                seen.brokers[broker.id] = join_host_port(broker.host, broker.port)
        yield from self._look_at_topics(seen, alive)
        yield from self._look_at_groups(seen)
        yield (seen,)

    def _look_at_topics(self, seen: Seen, alive: frozenset[BrokerId]) -> Iterator[None]:
        inside = self._view.inside
        for name, topic in sorted(inside.metadata.catalog.topics.items()):
            seen.partitions[name] = len(topic.partitions)
            for number, assignment in enumerate(topic.partitions):
                replica = inside.replicas.partition_by_id(topic.topic_id, number)
                leader = inside.leaders.leader_of(topic, number)[0]
                start, end = self._remote.get((name, number), (None, None))
                if leader is None:
                    start = end = None
                elif replica is not None:
                    start, end = replica.log_start_offset, replica.high_watermark
                seen.rows.append(
                    Row(
                        name,
                        number,
                        start,
                        end,
                        leader,
                        len(assignment.hosts),
                        sum(broker in alive for broker in assignment.hosts),
                        leader == assignment.preferred_leader,
                    )
                )
                if len(seen.rows) % STEP == 0:
                    yield None

    def _look_at_groups(self, seen: Seen) -> Iterator[None]:
        offsets = self._view.inside.metadata.catalog.group_offsets
        ends = {(row.topic, row.partition): row.end for row in seen.rows}
        for group in sorted({*offsets, *self._members})[:GROUPS_MAX]:
            seen.members[group] = self._members.get(group, 0)
            for topic in sorted(offsets.topics(group)) if group in offsets else ():
                rows, places = offsets.rows(group, topic), list[Place]()
                for number in range(seen.partitions.get(topic, 0)):
                    if (end := ends.get((topic, number))) is None:
                        continue
                    if (at := rows.get(number)) is None:
                        places.append(Place(group, topic, number, NOT_COMMITTED, NOT_COMMITTED))
                    else:
                        places.append(Place(group, topic, number, at.offset, end - at.offset))
                consumed = [place for place in places if place.offset != NOT_COMMITTED]
                if consumed:
                    seen.places += places
                    seen.sums[group, topic] = Sums(
                        sum(place.offset for place in places), sum(place.lag for place in consumed)
                    )
            yield None


def _each_row(figure: Callable[[Row], int | None]) -> Callable[[Seen], Iterator[Sample]]:
    def read(seen: Seen) -> Iterator[Sample]:
        for row in seen.rows:
            if (value := figure(row)) is not None:
                yield (row.topic, row.partition), value

    return read


def _each_place(figure: Callable[[Place], int]) -> Callable[[Seen], Iterator[Sample]]:
    return lambda seen: (((p.group, p.topic, p.partition), figure(p)) for p in seen.places)


def _each_sum(figure: Callable[[Sums], int]) -> Callable[[Seen], Iterator[Sample]]:
    return lambda seen: ((key, figure(sums)) for key, sums in seen.sums.items())


_ROW: Final = ("topic", "partition")
_PLACE: Final = ("consumergroup", "topic", "partition")
_SUM: Final = ("consumergroup", "topic")


def _gauge(name: str, labels: tuple[str, ...], doc: str, read: Callable[[Seen], Iterator[Sample]]) -> Family:
    return Family(f"kafka_{name}", "gauge", labels, doc, read)


FAMILIES: Final = (
    _gauge("brokers", (), "Brokers that are alive.", lambda seen: iter([((), len(seen.brokers))])),
    _gauge(
        "broker_info",
        ("id", "address"),
        "1; the labels say which broker is where.",
        lambda seen: (((broker, address), 1) for broker, address in seen.brokers.items()),
    ),
    _gauge(
        "topic_partitions",
        ("topic",),
        "Partitions of a topic.",
        lambda seen: (((topic,), count) for topic, count in seen.partitions.items()),
    ),
    _gauge(
        "topic_partition_current_offset",
        _ROW,
        "The offset behind the last record.",
        _each_row(lambda r: r.end),
    ),
    _gauge(
        "topic_partition_oldest_offset", _ROW, "The offset of the first record.", _each_row(lambda r: r.start)
    ),
    _gauge("topic_partition_leader", _ROW, "The broker that leads it.", _each_row(lambda r: r.leader)),
    _gauge("topic_partition_replicas", _ROW, "Its replicas.", _each_row(lambda r: r.replicas)),
    _gauge(
        "topic_partition_in_sync_replica",
        _ROW,
        "Those on brokers that are alive.",
        _each_row(lambda r: r.in_sync),
    ),
    _gauge(
        "topic_partition_leader_is_preferred",
        _ROW,
        "Whether its preferred leader leads it.",
        _each_row(lambda r: r.is_preferred),
    ),
    _gauge(
        "topic_partition_under_replicated_partition",
        _ROW,
        "Whether a replica is on a broker that is down.",
        _each_row(lambda r: r.in_sync < r.replicas),
    ),
    _gauge(
        "consumergroup_members",
        ("consumergroup",),
        "Members of a group.",
        lambda seen: (((group,), count) for group, count in seen.members.items()),
    ),
    _gauge("consumergroup_current_offset", _PLACE, "Where a group goes on.", _each_place(lambda p: p.offset)),
    _gauge("consumergroup_lag", _PLACE, "Records that it has yet to commit.", _each_place(lambda p: p.lag)),
    _gauge("consumergroup_current_offset_sum", _SUM, "The sum over a topic.", _each_sum(lambda s: s.offset)),
    _gauge("consumergroup_lag_sum", _SUM, "The sum over a topic.", _each_sum(lambda s: s.lag)),
)
